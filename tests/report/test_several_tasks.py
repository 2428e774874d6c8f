"""A study of two tasks, each with designs of its own: nothing is mixed up, empty cells stay empty, bars are told."""

import csv
import json
import re

import fabricated
import pytest
from rich.console import Console
from test_page import Tree

from qkvlab import report
from qkvlab.cli.verdicts import verdict_tables
from qkvlab.report import markdown
from qkvlab.report.figures.cost import axis, by_params
from qkvlab.report.figures.curves import curves
from qkvlab.report.gather import look
from qkvlab.report.gist import ROOM, gist
from qkvlab.report.repeat import command
from qkvlab.report.view import anchored
from qkvlab.study.decisions import Findings
from qkvlab.study.registration import register
from qkvlab.study.spec import make
from qkvlab.study.verdicts import document

PLAN = fabricated.of_two_tasks()
FINDINGS = Findings(PLAN, fabricated.results_of_two_tasks(PLAN))
STUDY = look(FINDINGS)
LETTERS = STUDY.chapters[1]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return report.write(fabricated.study_of_two_tasks(tmp_path_factory.mktemp("two")))


@pytest.fixture(scope="module")
def tree(written):
    return Tree(written.report.read_text("utf-8"))


def tables(tree, cls):
    """Return the rows of every table of a class: a list of (heading, cells)."""
    found = []
    for table in (e for e in tree.elements if e["tag"] == "table" and cls in e["attrs"].get("class", "").split()):
        inside = [e for e in tree.elements if table in ancestors(e)]
        rows = [e for e in inside if e["tag"] == "tr"]
        found.append([[e for e in inside if e["parent"] is row and e["tag"] in ("th", "td")] for row in rows])
    return found


def ancestors(element):
    while element["parent"] is not None:
        element = element["parent"]
        yield element


def test_each_task_has_a_table_with_the_designs_that_run_there(tree):
    library, letters = tables(tree, "matrix")[:2]
    heads = [[cell["text"].split()[-1] for cell in table[0]] for table in (library, letters)]
    assert heads[0][1:] == ["QQV", "XXV", "frozen", "uniform"]
    assert heads[1][1:] == ["QQV", "XKV", "uniform"]
    for table in (library, letters):
        for row in table[1:]:
            assert sum(int(cell["attrs"].get("colspan", 1)) for cell in row) == len(table[0])


def test_a_cell_stands_under_its_own_design(tree):
    letters = tables(tree, "matrix")[1]
    plain, equal = letters[1], letters[2]
    assert "equivalent" in plain[2]["text"] and "worse" in plain[1]["text"]  # XKV, QQV
    assert not equal[2]["text"].strip()  # XKV does not run with equal parameters
    assert "worse" in equal[3]["text"]  # and so uniform keeps its place


def test_coverage_stands_under_its_own_design(tree):
    covered = next(t for t in tables(tree, "coverage"))
    heads = [cell["text"].split()[-1] for cell in covered[0]]
    assert "XKV" not in heads and len(covered) == 1 + 3
    at = heads.index("XXV")
    for row in covered[1:]:
        assert len(row) == len(heads) and row[at]["text"].strip() in ("56%", "57%")  # 1 - .87 / 2


def test_the_bar_is_told_wherever_verdicts_are(written, tree):
    row = tables(tree, "matrix")[1][3]
    assert "QKV 没过门槛" in row[1]["text"] and "the bar is 1.900" in row[1]["text"]
    page = written.report.read_text("utf-8")
    assert "Settings that are not compared" in page and page.count("missed the bar") >= 2
    assert "not started" not in page  # nothing waits
    said = [sentence.en for sentence in gist(STUDY)]
    assert "1 setting is left out because QKV itself did not learn it" in said[-1]
    cells = [c for s in LETTERS.settings if s.barred for c in s.comparisons]
    assert cells and all(c.verdict.decided and c.obstacle is None for c in cells)
    assert STUDY.waiting == []


def test_settings_of_different_tasks_never_share_an_id(tree):
    ids = [e["attrs"]["id"] for e in tree.elements if "id" in e["attrs"]]
    assert len(ids) == len(set(ids))
    names = [("a", "b-c"), ("a-b", "c"), ("a", "b/c"), ("a", "b_2f_c"), ("a", "b.c"), ("a.b", "c")]
    assert len({anchored(*name) for name in names}) == len(names)
    for name in names:
        assert re.fullmatch(r"[A-Za-z0-9._-]+", anchored(*name))


def test_every_link_of_a_cell_leads_to_its_numbers(tree):
    rows = {e["attrs"]["id"]: e["text"] for e in tree.elements if e["tag"] == "tr" and "id" in e["attrs"]}
    links = [e for e in tree.elements if e["tag"] == "a" and "cell" in e["attrs"].get("class", "").split()]
    assert len(links) == sum(c.verdict.n > 0 for _, c in STUDY.comparisons()) == len(rows)
    for link in links:
        target = link["attrs"]["href"].removeprefix("#")
        assert target.endswith(tuple(STUDY.designs)) and target.rsplit(".", 1)[1] in rows[target]


def test_equal_budgets_stand_side_by_side(tree):
    (budgets,) = tables(tree, "budgets")
    rows = {row[0]["text"].split()[-1]: [cell["text"].strip() for cell in row[1:]] for row in budgets[1:]}
    assert "as they are" in budgets[0][1]["text"] and "equal parameters" in budgets[0][3]["text"]
    assert "+0.100" in rows["QQV"][0] and "+0.099" in rows["QQV"][2]
    assert rows["XKV"][2:] == ["", ""]
    assert rows["QKV"][0] == "2.001"  # the baseline shows its metric


def test_metrics_and_deltas_are_those_of_the_task(tree):
    text = next(e["text"] for e in tree.elements if e["tag"] == "table" and "wide" in e["attrs"].get("class", ""))
    assert "nats per character · δ = 0.02 · R = 0.08" in text and "error rate · δ = 0.05 · R = 0.2" in text
    said = " ".join(sentence.en for sentence in gist(STUDY))
    assert "nats per character 2.100 instead of 2.001" in said
    assert "0.05 in error rate and 0.02 in nats per character" in said


def test_sizes_are_told_task_by_task(tree):
    text = next(e["text"] for e in tree.elements if e["tag"] == "main")
    assert "width 32, layers 2, SHA-256 000" in text and "width 96" in text


def test_the_terminal_has_a_table_for_each_task():
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(verdict_tables(FINDINGS, "zh"))
    text = console.export_text()
    assert "图书馆" in text and "Letters" in text and "nan" not in text
    line = next(line for line in text.splitlines() if line.startswith("a/b/params"))
    assert re.findall(r"\S+", line)[1:] == ["▼+.099", "▼+.599"]
    console.print(verdict_tables(FINDINGS, "zh", {(("letters", "a/b"), "QQV")}))
    assert "图书馆" not in console.export_text()  # while letters run, only they are watched


def test_markdown_keeps_tasks_apart():
    text = markdown.table(document(FINDINGS), "en")
    assert "**The library** (error rate, δ = 0.05)" in text and "(nats per character, δ = 0.02)" in text
    assert "| a/b/params | ▼ +0.099 |  | ▼ +0.599 |" in text and "| a-b | – |  | – |" in text
    for block in re.findall(r"(?:^\|.*\n?)+", text, re.M):
        assert len({line.count("|") for line in block.splitlines()}) == 1


def test_the_csv_and_the_verdicts_know_every_task(written):
    with written.results.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(r["task"], r["metric"]) for r in rows} >= {("letters", "nats"), ("library", "error")}
    assert not [r for r in rows if r["setting"] == "a-b" and r["role"] == "judge"]
    shown = json.loads(written.verdicts.read_text("utf-8"))["comparisons"]
    assert {r["reason"] for r in shown if r["setting"] == "a-b"} == {"below the bar"}


def test_pictures_show_a_setting_of_every_task(written):
    assert {setting.key[0] for setting in STUDY.main} == {"library", "letters"}
    drawn = curves(next(s for s in STUDY.main if s.key[0] == "letters"))
    assert "letters: a/b" in drawn.inside("en") and "nan" not in drawn.inside()
    names = {path.name for path in written.figures}
    assert {"curves.zh.svg", "cost.en.svg", "verdicts.zh.svg"} <= names


def test_a_design_has_one_colour_in_all_pictures():
    seen = {}
    for setting in STUDY.reached:
        for drawing in (curves(setting), by_params(setting)):
            for colour, name in re.findall(
                r'<text class="small over (f\d+)"[^>]*>([^<]+)</text>', drawing.inside("en")
            ):
                seen.setdefault(name, set()).add(colour)
    assert set(seen) == set(STUDY.designs)
    assert all(len(colours) == 1 for colours in seen.values())
    assert len(set.union(*seen.values())) == len(seen)  # fewer designs than colours: none shares one


def test_an_axis_does_not_waste_its_height():
    low, top = axis([2.0, 2.1, 2.05], chance=2.9)
    assert 1.9 < low < 2.0 < 2.1 < top < 2.2
    assert axis([0.02, 0.9], chance=0.875)[0] == 0  # from 0 where 0 is near
    assert axis([0.3], chance=0.875)[0] == 0  # one value has no spread to show
    drawing = by_params(next(s for s in LETTERS.settings if s.key[1] == "a/b")).inside("en")
    heights = [float(y) for y in re.findall(r'<circle[^>]*cy="([\d.]+)"', drawing)]
    assert max(heights) - min(heights) > 80  # differences are seen


def test_the_short_answer_is_three_sentences_that_fit():
    said = gist(STUDY)
    assert len(said) == 3
    for sentence in said:
        assert 20 < len(sentence.zh) <= ROOM and 50 < len(sentence.en) <= ROOM
    assert "5 of 9 decided" in said[0].en and " lose to " in said[0].en


def test_the_command_names_the_users_text_and_the_budgets(monkeypatch, tmp_path):
    spec = make(recipe="own", designs=("QKV", "QQV"), tasks=("library", "text"))
    monkeypatch.setattr("qkvlab.study.recipes.find", lambda name: spec)
    assert command(register(spec)) == "qkvlab study own --products fp32", "another machine might choose bf16"
    poem = tmp_path / "a poem.txt"
    poem.write_text("".join(chr(97 + (i * i) % 26) for i in range(101_000)), "utf-8")
    mine = make(recipe="own", designs=("QKV", "QQV"), tasks=("text",), match=("params",), text=poem)
    assert command(register(mine)) == "qkvlab study own --tasks text --match params --text 'a poem.txt' --products fp32"
    half = make(recipe="own", designs=("QKV", "QQV"), tasks=("library", "text"), products="bf16")
    assert command(register(half)) == "qkvlab study own --products bf16"


def test_the_command_of_a_study_whose_tasks_have_more_designs(monkeypatch):
    spec = make(recipe="own", designs=("QKV", "QQV"), also={"library": ("XXV",)})
    monkeypatch.setattr("qkvlab.study.recipes.find", lambda name: spec)
    assert command(register(spec)) == "qkvlab study own"  # the recipe knows which designs join where
    fewer = spec.model_copy(update={"designs": ("QKV",), "settings": ("synonym/fixed",)})
    assert command(register(fewer)) == "qkvlab study own --designs QKV,XXV,uniform --settings synonym/fixed"
    two = json.loads(json.dumps(PLAN))
    own = make(recipe="own", designs=("QKV", "QQV"), also={"library": ("XXV", "frozen"), "sentence": ("XKV",)})
    two = json.loads(json.dumps(two).replace('"letters"', '"sentence"'))
    for setting in two["tasks"]:  # every design of every task runs in all of its settings
        every = PLAN["tasks"][0]["arms"]["QKV"]
        setting["arms"] = dict.fromkeys((*own.arms(setting["task"]), "uniform"), every)
    monkeypatch.setattr("qkvlab.study.recipes.find", lambda name: own)
    assert "--designs" not in command(two)
