"""`study --plan`: one document, or a table that fits the terminal in both languages; nothing is left behind."""

from __future__ import annotations

import pytest
from calling import HOSTILE
from rich.cells import cell_len

from qkvlab.cli import plan
from qkvlab.study.registration import register
from qkvlab.study.spec import make
from qkvlab.training import effort, layout, trial
from qkvlab.training.layout import Compiled, Layout
from qkvlab.training.trial import Trial
from qkvlab.training.workers import Order

assert plan  # imported here, so that calls are timed and not Python's start
STUDY = ["study", "--designs", "QKV,XXV", "--tasks", "library,sentence", "--seeds", "64"]

FOUND = Layout(2, 1, 8, 8000.0, compiled=Compiled(unit=4, gain=1.7, seconds=2.0))


@pytest.fixture(autouse=True)
def tried(tmp_path_factory, monkeypatch):
    """A cache that makes trials needless."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    for setting in register(make(recipe="t", designs=("QKV", "XXV"), tasks=("library", "sentence")))["tasks"]:
        order = Order(setting["task"], setting["setting"], "QKV", ())
        layout._KEPT.write(layout._cache_file(order, setting["facts"]), FOUND)
        trial._KEPT.write(trial._cache_file(order, setting["facts"]), Trial(300 * 2**20, 0.05, 0.002))


def test_one_document_says_everything(cli_here, tmp_path):
    said = cli_here(*STUDY, "--plan", "--gpu", "h100,T4", "--json", "--minutes", "0.1").json
    assert {row["task"] for row in said["settings"]} == {"library", "sentence"}
    cells = said["total"]["cells"]
    assert 0 < cells["least"] < cells["expected"] < cells["most"] and cells["done"] == 0
    assert [card["name"] for card in said["gpus"]] == ["NVIDIA H100 SXM", "NVIDIA T4"]
    assert said["minutes"]["given"] == 0.1 and 0 < said["minutes"]["share"] < 1
    assert said["memory"]["worker"]["total"] > 300 * 2**20
    assert [(row["what"], row["times"]) for row in said["larger"]][:2] == [("d_model", 2), ("d_model", 4)]
    assert list(tmp_path.iterdir()) == [], "a plan left something behind"


@pytest.mark.parametrize(("lang", "word"), [("en", "settings x designs are compiled"), ("zh", "组编译训练步")])
def test_steps_that_a_long_study_compiles_are_said(cli_here, lang, word):
    long, short = (cli_here(*STUDY, "--plan", "--lang", lang, "--minutes", m).out for m in ("600", "0.1"))
    assert word in long.replace("\n", "") and word not in short.replace("\n", "")


@pytest.mark.parametrize(
    ("lang", "words"),
    [
        ("en", ["Trainings still to run", "extrapolated, not measured", "Peak memory"]),
        ("zh", ["还要训练", "外推", "峰值"]),
    ],
)
@pytest.mark.parametrize("columns", [80, 120])
def test_the_table_fits_the_terminal(cli_here, monkeypatch, lang, words, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    said = cli_here(*STUDY, "--plan", "--gpu", "a100", "--lang", lang)
    assert said.code == 0 and all(word in said.out for word in words), said
    assert max(cell_len(line) for line in said.out.splitlines()) <= columns
    assert "synonym/fixed" in said.out and "two-layers/positions" in said.out and "tokens × 16" in said.out
    assert "nan" not in said.out.lower() and "None" not in said.out


@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        (["--plan", "--gpu", "h1000"], "unknown GPU 'h1000'; did you mean 'h100'? Known: " + ", ".join(effort.GPUS)),
        (["--plan", "--gpu", ""], "--gpu needs at least one name"),
        (["--gpu", "h100"], "give --plan too"),
        (["--plan", "--device", "tpu"], "device must be"),
        (["--plan", "--workers", "0"], "workers must be"),
        (["--plan", "--minutes", "nan"], "minutes"),
        (["--plan", "--first", "nothing"], "unknown setting"),
        (["--plan", "--designs", "QKV"], "needs two designs"),
    ],
    ids=str,
)
def test_what_cannot_be_meant(cli_here, tmp_path, arguments, phrase):
    assert phrase in cli_here(*STUDY, *arguments).refusal()
    assert cli_here(*STUDY, *arguments, "--json").refusal()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_names_of_cards(cli_here, text):
    cli_here(*STUDY, "--plan", "--gpu", text).refusal()
    cli_here(*STUDY, "--gpu", text).refusal()
