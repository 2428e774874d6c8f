"""The page loads nothing, escapes everything, and says all of it twice."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import fabricated
import pytest

from qkvlab import report
from qkvlab.errors import BadInput, StoreError
from qkvlab.study import weights
from qkvlab.study.decisions import Findings
from qkvlab.study.store import Store

VOID = {"meta", "link", "input", "br", "hr", "img", "base"}


class Tree(HTMLParser):
    """Elements with parent, attributes and text, in order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.open = [], []
        self.feed(text)
        assert not self.open, f"left open: {[e['tag'] for e in self.open]}"

    def handle_starttag(self, tag, attrs):
        element = {"tag": tag, "attrs": dict(attrs), "parent": self.open[-1] if self.open else None, "text": ""}
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data):
        for element in self.open:
            element["text"] += data


def test_it_loads_nothing(page):
    for element in Tree(page).elements:
        assert element["tag"] not in {"img", "iframe", "object", "embed", "base", "video", "audio", "image", "use"}
        for name in ("src", "href", "xlink:href", "action", "srcset", "data", "poster"):
            value = element["attrs"].get(name) or ""
            assert value.startswith(("#", "data:")) or not value, (element["tag"], name, value)
    for word in ("url(", "@import", "http:", "https:", "fetch(", "XMLHttpRequest"):
        assert word not in page


def test_its_policy_forbids_loading(page):
    policy = next(e["attrs"]["content"] for e in Tree(page).elements if e["attrs"].get("http-equiv"))
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
    assert page.index("Content-Security-Policy") < page.index("<style>") < page.index("<script>")


def test_every_chinese_element_has_its_english_partner_beside_it(page):
    body = [e for e in Tree(page).elements if e["attrs"].get("lang") and e["tag"] != "html"]
    assert len(body) > 400
    assert [e["attrs"]["lang"] for e in body] == ["zh", "en"] * (len(body) // 2)
    for zh, en in zip(body[::2], body[1::2], strict=True):
        assert zh["tag"] == en["tag"] and zh["parent"] is en["parent"]
        if zh["tag"] != "text":  # lines of a wrapped title in a picture differ in number
            assert zh["text"].strip() and en["text"].strip()
        assert not re.search("[\u4e00-\u9fff]", en["text"]), en["text"]


def test_what_stands_outside_both_languages_needs_neither(page):
    """Text that both readers see is numbers, codes, names of languages."""
    plain = re.sub(r"<(span|text) lang=.*?</\1>", "", page.split("<main>")[1], flags=re.S)
    plain = re.sub(r"<[^>]*>", "", plain)
    assert not re.search("[\u4e00-\u9fff]", plain)


def test_ids_are_unique_and_links_lead_somewhere(page):
    elements = Tree(page).elements
    ids = [e["attrs"]["id"] for e in elements if "id" in e["attrs"]]
    assert len(ids) == len(set(ids))
    for element in elements:
        target = element["attrs"].get("href", "#")
        assert target in ("#", "data:,") or target.removeprefix("#") in ids
        for each in element["attrs"].get("aria-labelledby", "").split():
            assert each in ids
        if element["tag"] == "label":
            assert element["attrs"]["for"] in ids


def test_tables_say_what_their_headers_head(page):
    for element in Tree(page).elements:
        if element["tag"] == "th":
            assert element["attrs"]["scope"] in {"col", "row", "rowgroup"}


def test_everything_asked_for_is_there(page):
    order = ["answer", "verdicts", "intervals", "curves", "cost", "shelf", "coverage", "limits"]
    places = [page.index(f'<h2 id="{name}"') for name in order]
    assert places == sorted(places)
    for said in ("2.13.0", "qkvlab study small", "cpu; ", "1000–1059", "registration", "width 96"):
        assert said in page
    assert "α = 0.05" in page and "α = 0.004167" in page  # .05 / 12 comparisons
    assert re.search(r"Diverged: this design 1 of \d+, interval", page)  # one run of frozen did


@pytest.mark.parametrize(
    "name", [fabricated.EVIL, '"><img src=x onerror=alert(1)>', "a&b'c\x00\x07", "=cmd|' /C calc'!A0", "{{ 7 * 7 }}"]
)
def test_hostile_names_stay_text(tmp_path, name):
    plan = fabricated.renamed(fabricated.registration(), "QQV", name)
    plan["words"][name] = {"zh": name + "中", "en": name}
    plan["tasks"][0]["words"] = {"zh": name + "中", "en": name}
    plan["recipe"] = name
    written = report.write(fabricated.study(tmp_path / "s", plan, models=False))
    page = written.report.read_text("utf-8")
    assert page.count("<script>") == 1 and page.count("<img") == 0
    assert not [e for e in Tree(page).elements if any(a.startswith("on") for a in e["attrs"])]
    assert not re.search("[\x00-\x08]", page) and "49" not in page.split("<h1>")[1][:200]
    for figure in written.figures:
        ET.fromstring(figure.read_text("utf-8"))


def test_nothing_finished_yet(tmp_path):
    written = report.write(fabricated.study(tmp_path, settings=0))
    page = written.report.read_text("utf-8")
    Tree(page)
    assert "No data yet." in page and "没开始" in page and "This study has saved no models yet." in page
    assert written.results.read_text("utf-8").count("\n") == 1
    assert [path.name for path in written.figures] == ["verdicts.zh.svg", "verdicts.en.svg"]


def test_only_tuned_so_far(tmp_path):
    plan = fabricated.registration()
    tuned = [r for r in fabricated.results(plan) if r.cell.role == "tune"]
    with Store.create_or_continue(tmp_path, plan) as store:
        store.add(tuned)
    Tree(report.write(tmp_path).report.read_text("utf-8"))


def test_records_kept_aside_are_told(tmp_path):
    plan = fabricated.registration()
    fabricated.study(tmp_path, plan)
    stray = fabricated.run({**plan, "source": "older"}, fabricated.results(plan)[-1].cell, 0.5)
    with Store.create_or_continue(tmp_path, plan) as store:
        store.add([stray])
    assert "by other training code" in report.write(tmp_path).report.read_text("utf-8")


def test_a_model_that_cannot_be_read_is_left_out_and_named(tmp_path):
    fabricated.study(tmp_path)
    weights.path_of(tmp_path, "library", "synonym/fixed", "XXV").write_bytes(b"not a model")
    page = report.write(tmp_path).report.read_text("utf-8")
    assert "Saved models that cannot be read or belong to another study: XXV." in page
    assert "came back" in page


def test_the_shelf_names_what_came_back_and_what_is_right(page):
    shelf = page[page.index('id="shelf"') : page.index('id="coverage"')]
    assert shelf.count("<svg") == len(fabricated.DESIGNS)
    assert "✓ 瘦身" in shelf and "✓ slimming" in shelf and "✓ 历史" not in shelf
    assert shelf.count("取回的是") + shelf.count("取回的内容不在") == len(fabricated.DESIGNS)


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_it_starts_in_the_language_asked_for(tmp_path, lang):
    page = report.write(fabricated.study(tmp_path), lang).report.read_text("utf-8")
    assert f'<html lang="{lang}" data-start="{lang}"' in page and f'id="show-{lang}" checked' in page


def test_another_language_is_refused(folder):
    with pytest.raises(BadInput, match="unknown language 'fr'"):
        report.write(folder, "fr")


def test_a_registration_of_another_version_is_refused(tmp_path):
    plan = fabricated.registration()
    del plan["alpha_each"]
    with Store.create_or_continue(tmp_path, plan):
        pass
    with pytest.raises(StoreError, match=r"another version of qkvlab .it has no alpha_each"):
        report.write(tmp_path)


def test_a_study_of_many_comparisons_stays_small(tmp_path):
    plan = fabricated.registration()
    study = report.look(Findings(plan, fabricated.results(plan)))
    page = report.write(fabricated.study(tmp_path, models=False)).report.stat().st_size
    assert page / len(study.comparisons()) * 128 < 3_000_000


def test_no_torch():
    said = "import sys, qkvlab.report; assert 'torch' not in sys.modules, 'report imports torch'"
    subprocess.run([sys.executable, "-c", said], check=True)
