"""The claims chapter shows every claim that a study tries: ruling, evidence, literature on both sides, answer."""

import dataclasses
import json
import re
from typing import get_args

import fabricated
import pytest
from test_page import Tree

from qkvlab import claims, report
from qkvlab.claims import Answer, Evidence, Told, ToldPlace
from qkvlab.claims.answer import Says
from qkvlab.claims.asking import keeps, loses, part_lost, share
from qkvlab.claims.telling import Ruling
from qkvlab.contracts import Words
from qkvlab.report import markdown
from qkvlab.report.figures.evidence import HEIGHT, WIDTH, evidence_bar
from qkvlab.report.rulings import RULING_SIGNS, RULING_STYLES, SAYS_STYLES, in_brief, tried, verdict_words
from qkvlab.study.decisions import Findings
from qkvlab.study.store import Store
from qkvlab.study.verdicts import document

PLAN = fabricated.registration()
FINDINGS = Findings(PLAN, fabricated.results(PLAN))
TOLD = tried(claims.told(FINDINGS))
KEY = ("library", "synonym/fixed")


@pytest.fixture(scope="module")
def chapter(page):
    return page[page.index('<h2 id="claims"') : page.index('<h2 id="intervals"')]


def answer(says, **changes):
    return Answer(says, "", **{"n": 20, "estimate": 0.1, "low": 0.06, "high": 0.14, "levels": (0.5, 0.4), **changes})


def told_as(verdict, states):
    places = tuple(
        ToldPlace(str(i), Words(f"处{i}", f"place {i}"), state, (), Words(f"句{i}。", f"Told {i}."))
        for i, state in enumerate(states)
    )
    return dataclasses.replace(TOLD[0], verdict=verdict, places=places, on=Words("", ""))


def test_the_study_tries_some_claims_and_not_all():
    assert 0 < len(TOLD) < len(claims.catalogue())


def test_every_claim_that_is_tried_is_told(chapter):
    for each in TOLD:
        assert f'id="claim-{each.number}"' in chapter and f'href="#claim-{each.number}"' in chapter
        part = chapter.split(f'id="claim-{each.number}"')[1].split('class="fold')[0]
        inside = part[part.index(">") + 1 :].split("</details>")[0]
        text = Tree(f"<div>{inside}</div>").elements[0]["text"]
        for words in (each.sentence, each.answer, each.obstacle):
            assert words.zh in text and words.en in text
        assert claims.RULINGS[each.verdict].en in text and RULING_SIGNS[each.verdict] in text
        for source in each.literature:
            assert source.words.en in text and source.where in text and claims.SIDES[source.side].zh in text
        for place in each.places:
            assert place.words.en in text  # those that were not tried are named too
            for row in place.evidence:
                assert claims.threshold(row.check) in text and row.check.words.zh in text
                assert not row.answer.n or claims.span(row.check, row.answer) in text
    assert chapter.count('class="fold claim"') == len(TOLD)


def test_evidence_has_a_bar_for_every_row(chapter):
    rows = sum(len(place.evidence) for each in TOLD for place in each.places)
    assert rows and chapter.count("<svg") == rows


def test_a_registration_without_claims_says_so(tmp_path):
    plan = fabricated.registration()
    del plan["claims"]
    with Store.create_or_continue(tmp_path, plan):
        pass
    written = report.write(tmp_path)
    assert "no settings and designs that decide any of these sentences" in written.report.read_text("utf-8")
    assert "People say" not in written.papers[1].read_text("utf-8")


@pytest.mark.parametrize(
    "check",
    [
        loses("c", KEY, "QQV").at(0.05),
        keeps("c", KEY, "QQV").at(0.05),
        share("c", KEY, "QQV", "own_1"),
        part_lost("c", KEY, "QQV", "nats", 0.1).at(0.05),
    ],
)
@pytest.mark.parametrize("says", get_args(Says))
def test_the_bar_marks_the_threshold_and_the_side_of_a_yes(check, says):
    left, right = (-1, 1) if check.of else (check.centre - check.clip, check.centre + check.clip)

    def x(value):
        return 4 + (WIDTH - 8) * (value - left) / (right - left)

    said = evidence_bar(Evidence(check, answer(says))).inside()
    (band,) = re.findall(r'<rect class="band" x="([\d.]+)"[^>]*width="([\d.]+)"', said)
    start, end = float(band[0]), float(band[0]) + float(band[1])
    expected = (x(check.threshold), x(right)) if check.asks == "above" else (x(left), x(check.threshold))
    assert (start, end) == pytest.approx(expected, abs=0.11)
    (edge,) = re.findall(rf'<line class="axis" x1="([\d.]+)" y1="1" x2="([\d.]+)" y2="{HEIGHT - 1:.0f}"', said)
    assert float(edge[0]) == float(edge[1]) == pytest.approx(x(check.threshold), abs=0.06)
    (dot,) = re.findall(r'<circle class="v-(\w+) halo" cx="([\d.]+)"', said)
    assert dot[0] == SAYS_STYLES[says] and float(dot[1]) == pytest.approx(x(0.1), abs=0.06)


def test_a_check_without_seeds_has_no_dot():
    check = loses("c", KEY, "QQV").at(0.05)
    said = evidence_bar(Evidence(check, answer("open", n=0, estimate=float("nan")))).inside()
    assert "circle" not in said and "nan" not in said and "band" in said


def test_rulings_are_told_apart_without_colour():
    assert set(RULING_SIGNS) == set(RULING_STYLES) == set(get_args(Ruling))
    assert len(set(RULING_SIGNS.values())) == 4


def test_in_brief_says_where_it_holds_and_where_it_fails():
    assert in_brief(told_as("supported", ["absent", "holds", "holds"])).en == "Told 1."
    assert in_brief(told_as("refuted", ["fails"])).zh == "句0。"
    assert in_brief(told_as("depends", ["fails", "open", "holds"])).en == "Told 2. Told 0."
    assert in_brief(told_as("undecided", ["absent"])).en == "not tried by this study"
    check = Evidence(loses("c", KEY, "QQV"), Answer("open", "wide", 9, 0.1, 0.0, 0.2, (), more=12, minutes=3.0))
    places = told_as("undecided", ["holds", "open", "open"]).places
    waiting = [dataclasses.replace(place, evidence=(check,) * (place.state == "open") * 2) for place in places]
    said = in_brief(dataclasses.replace(told_as("undecided", []), places=tuple(waiting)))
    assert (
        said.en.startswith("place 1: ") and "about 12 more seeds" in said.en and said.en.endswith("1 more place open")
    )
    assert said.zh.startswith("处1：") and said.zh.endswith("另有 1 处未定")


def test_a_claim_that_depends_says_on_what():
    told = dataclasses.replace(TOLD[0], verdict="depends", on=Words("层数", "depth"))
    assert verdict_words(told) == Words("要看情况：层数", "depends on depth")


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_the_markdown_table_comes_from_the_document_alone(lang):
    plain = json.loads(json.dumps(document(FINDINGS)))
    rows = markdown.claims(plain, lang).splitlines()
    assert len(rows) == 2 + len(TOLD) and {row.replace(r"\|", "").count("|") for row in rows} == {5}
    for row, each in zip(rows[2:], TOLD, strict=True):
        assert row.startswith(f"| {each.number} | {each.sentence.of(lang)} | {claims.RULINGS[each.verdict].of(lang)}")
    assert markdown.claims({"claims": []}, lang) == ""


def test_a_sentence_with_a_bar_stays_in_its_cell():
    odd: Told = dataclasses.replace(TOLD[0], sentence=Words("甲|乙", "a|b\nc"))
    row = markdown.claims({"claims": [claims.to_row(odd)]}, "en").splitlines()[2]
    assert r"| a\|b c |" in row
