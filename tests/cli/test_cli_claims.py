"""`qkvlab claims`: the list, one claim, a study's own, and what happens without any record."""

from __future__ import annotations

import hashlib
import json
import random

import pytest
from rich.cells import cell_len

from qkvlab import claims, record
from qkvlab.cli.folding import folded
from qkvlab.study.cells import Cell, Result
from qkvlab.study.decisions import Findings
from qkvlab.study.registration import register
from qkvlab.study.spec import make
from qkvlab.study.store import Store
from qkvlab.study.verdicts import document

ALL = list(claims.catalogue().values())
ERRORS = {"QKV": 0.02, "QQV": 0.02, "uniform": 0.875}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A study in which Q and K that share find synonyms as well as any, wherever it has looked long enough."""
    spec = make(recipe="t", designs=("QKV", "QQV"), settings=("synonym/fixed", "synonym/learned", "synonym/fixed/d64"),
                rates=(0.003,), tune_seeds=(0,), judge_seeds=60)  # fmt: skip
    found = Findings(register(spec))
    for key in found.settings:
        found.add(run(found, cell) for cell in found.tuning(key).missing)
        seeds = found.registration["seeds"]["judge"][: 5 if key[1].endswith("d64") else 60]
        found.add(run(found, Cell(*key, name, "judge", seed, 0.003)) for name in found.designs(key) for seed in seeds)
    path = tmp_path_factory.mktemp("claims")
    with Store.create_or_continue(path, found.registration) as store:
        store.add(found.results.values())
    return path


def run(found: Findings, cell: Cell) -> Result:
    noise = random.Random(hashlib.sha256(repr(cell).encode()).digest()).gauss(0, 0.004)
    metrics = {"error": ERRORS[cell.design] + noise, "coverage": 0.5}
    steps = found.settings[cell.task, cell.setting]["steps"]
    return Result(cell, metrics, False, (1.0,), steps, 60.0, 1, "cpu", source=found.registration["source"])


@pytest.fixture
def no_record(monkeypatch):
    monkeypatch.setattr(record, "recorded", lambda recipe: None)


@pytest.fixture
def with_record(monkeypatch, folder):
    with Store.read(folder) as store:
        shipped = document(Findings(store.registration, store.results()))
    monkeypatch.setattr(record, "recorded", lambda recipe: json.loads(json.dumps(shipped)))


def fits(text: str, width: int = 80) -> bool:
    return all(cell_len(line.rstrip()) <= width for line in text.splitlines())


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_all_are_listed_with_their_verdicts(cli_here, with_record, monkeypatch, lang):
    monkeypatch.setenv("COLUMNS", "80")
    said = cli_here("claims", "--lang", lang)
    assert said.code == 0 and said.err == "" and fits(said.out)
    for claim in ALL:
        assert claim.id in said.out
    assert claims.RULINGS["undecided"].of(lang) in said.out
    assert "No record" not in said.out and "还没有" not in said.out


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_one_is_shown_with_all_that_decides_it(cli_here, folder, monkeypatch, lang):
    monkeypatch.setenv("COLUMNS", "80")
    said = cli_here("claims", "4", "--out", str(folder), "--lang", lang)
    assert said.code == 0 and fits(said.out)
    flat = "".join(said.out.split())
    with Store.read(folder) as store:
        told = claims.told(Findings(store.registration, store.results()))[3]
    for words in (
        told.sentence,
        told.answer,
        *(place.words for place in told.places),
        *(s.words for s in told.literature),
    ):
        assert "".join(words.of(lang).split()) in flat
    for place in told.places:
        for each in place.evidence:
            assert claims.span(each.check, each.answer) in said.out and f"n={each.answer.n}" in said.out
    assert all(source.where in said.out for source in told.literature)
    assert {place.state for place in told.places} == {"fails", "open", "absent"}
    assert claims.STATES["absent"].of(lang) in said.out
    for zh, en in (("种子", "moreseeds"), ("分钟", "minutes")):
        assert (zh if lang == "zh" else en) in flat


@pytest.mark.parametrize("name", ["4", "no-synonyms", "NO-SYNONYMS"])
def test_the_document_is_the_one_of_the_record(cli_here, with_record, name):
    rows = cli_here("claims", name, "--json").json
    assert rows["note"] is None and rows["claims"] == [record.recorded("article")["claims"][3]]
    assert cli_here("claims", "--json").json["claims"] == record.recorded("article")["claims"]


def test_a_study_and_its_record_say_the_same(cli_here, with_record, folder):
    assert cli_here("claims", "--json").json == cli_here("claims", "--json", "--out", str(folder)).json


@pytest.mark.parametrize("arguments", [["claims"], ["claims", "3"], ["claims", "--json"]])
def test_without_a_record_it_says_how_to_get_one(cli_here, no_record, arguments):
    said = cli_here(*arguments, "--lang", "en")
    assert said.code == 0
    assert "qkvlab study" in said.out and "qkvlab claims --out" in " ".join(said.out.split())
    if arguments[-1] == "--json":
        assert [row["id"] for row in said.json["claims"]] == [claim.id for claim in ALL]


@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        (["claims", "nosuch"], "unknown claim 'nosuch'"),
        (["claims", "self-atention"], "did you mean 'self-attention'?"),
        (["claims", "0"], "unknown claim '0'"),
        (["claims", ""], "unknown claim ''"),
        (["claims", "3", "4"], "4"),
        (["claims", "--lang", "fr"], "--lang"),
    ],
)
def test_refusals(cli_here, arguments, phrase):
    assert phrase in cli_here(*arguments).refusal()


def test_a_folder_without_a_study_is_refused(cli_here, tmp_path):
    said = cli_here("claims", "--out", str(tmp_path))
    assert said.code == 3 and "no study" in said.err and said.err.count("\n") == 1


TEXT = "不用矩阵、直接拿 x 当 Q 和 K（见 arXiv 2606.04032），只能找到“原词”，找不到同义词。"


@pytest.mark.parametrize("width", range(12, 80, 3))
def test_chinese_lines_fill_their_width(width):
    lines = folded(TEXT, width).split("\n")
    assert "".join("".join(lines).split()) == "".join(TEXT.split())
    for line in lines:
        assert cell_len(line) <= max(width, cell_len("2606.04032），"))
        assert line[0] not in "，。、）”" and line == line.strip()
    assert all(cell_len(line) > width - 14 for line in lines[:-1])
