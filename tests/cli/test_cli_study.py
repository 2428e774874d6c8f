"""A real `qkvlab study`, interrupted, continued, finished and reported, as its users run it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from calling import Said, outside, spawn

from qkvlab.errors import StoreError
from qkvlab.study.registration import register
from qkvlab.study.spec import make
from qkvlab.study.store import Store
from qkvlab.training import layout
from qkvlab.training.layout import Layout
from qkvlab.training.workers import Order

STUDY = "tiny.toml"
TOML = """
designs = ["QKV", "XXV", "uniform"]
settings = ["synonym/fixed"]
rates = [0.003]
tune_seeds = [0]
judge_seeds = 12
alpha = 0.9
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with a tiny study's file and a cache that makes the trial needless."""
    place = tmp_path_factory.mktemp("cli")
    (place / STUDY).write_text(TOML)
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(place / "cache")
    try:
        study = make(recipe="tiny", designs=("QKV", "XXV"), settings=("synonym/fixed",))
        (setting,) = register(study)["tasks"]
        order = Order("library", "synonym/fixed", "QKV", ())
        layout._KEPT.write(layout._cache_file(order, setting["facts"]), Layout(1, 1, 8, 1.0))
        yield place
    finally:
        os.environ.pop("XDG_CACHE_HOME")
        if before is not None:
            os.environ["XDG_CACHE_HOME"] = before


def stored(folder: Path) -> int:
    try:
        with Store.read(folder / "qkvlab-runs" / "tiny") as store:
            return len(store.results())
    except StoreError:
        return 0


@pytest.fixture(scope="module")
def interrupted(folder) -> tuple[Said, Said, int]:
    """Run the study, ask for it a second time meanwhile, then press Ctrl-C as a terminal does."""
    process = spawn("study", STUDY, "--json", "--lang", "en", cwd=folder)
    try:
        until = time.monotonic() + 60
        while stored(folder) == 0 and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        second = outside("study", STUDY, cwd=folder)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    return Said(process.returncode, out, err, 0.0), second, process.pid


@pytest.fixture(scope="module")
def finished(folder, interrupted) -> Said:
    return outside("study", STUDY, "--json", "--lang", "en", cwd=folder)


def test_interrupted_it_says_how_to_go_on(folder, interrupted):
    said, _, _ = interrupted
    assert said.code == 130 and said.out == "" and "Traceback" not in said.err
    assert f"qkvlab study {STUDY} --json" in said.err.splitlines()[-1] and "interrupted" in said.err.splitlines()[-1]


def test_a_second_process_was_refused(interrupted):
    _, second, pid = interrupted
    assert (second.code, second.out) == (3, "") and f"process {pid};" in second.err.splitlines()[-1]


def test_what_was_stored_is_kept(folder, interrupted, finished):
    """The interrupted store was valid and the same command went on from it."""
    with Store.read(folder / "qkvlab-runs" / "tiny") as store:
        assert store.aside() == [] and len(store.results()) == finished.json["origin"]["cells"]


def test_it_finishes_with_one_document(finished):
    assert finished.code == 0, finished.err
    rows = {row["design"]: row for row in finished.json["comparisons"]}
    assert set(rows) == {"XXV", "uniform"} and {row["verdict"] for row in rows.values()} == {"worse"}
    assert finished.out.count("\n") == 1 and "Traceback" not in finished.err


def test_it_leaves_a_report(folder, finished):
    out = folder / "qkvlab-runs" / "tiny"
    assert {"report.html", "results.csv", "verdicts.json", "study.db"} <= {path.name for path in out.iterdir()}
    assert list(out.rglob("*.svg")) and not list(out.rglob("*.part"))
    header, *lines = (out / "results.csv").read_text("utf-8").splitlines()
    assert header == "task,setting,design,role,seed,lr,metric,value,diverged,params,steps,seconds"
    assert len(lines) >= finished.json["origin"]["cells"]


def test_run_again_it_finishes_at_once(folder, finished, cli_here, monkeypatch):
    monkeypatch.chdir(folder)
    for lang, phrase in (("en", "report: "), ("zh", "报告")):
        said = cli_here("study", STUDY, "--lang", lang)
        assert said.code == 0 and phrase in said.out and "▼" in said.out, said
    again = cli_here("study", STUDY, "--json")
    assert again.json["comparisons"] == finished.json["comparisons"]


def test_report_writes_it_anew(folder, finished, cli_here, monkeypatch):
    monkeypatch.chdir(folder)
    out = folder / "qkvlab-runs" / "tiny"
    (out / "report.html").unlink()
    said = cli_here("report", str(out), "--json")
    assert said.code == 0 and said.json["comparisons"] == finished.json["comparisons"]
    assert (out / "report.html").is_file()
    assert "report.html" in cli_here("report", str(out), "--lang", "en").out


def test_another_study_is_refused_in_its_folder(folder, finished, cli_here, monkeypatch):
    monkeypatch.chdir(folder)
    line = cli_here("study", STUDY, "--alpha", "0.5").refusal(3)
    assert "alpha: registered 0.9, asked 0.5" in line


def test_few_seeds_are_warned_of(folder, finished, cli_here, monkeypatch):
    """12 seeds cannot show an equivalence here; that is said before anything is started."""
    monkeypatch.chdir(folder)
    said = cli_here("study", STUDY, "--seeds", "3", "--out", "few", "--minutes", "nan")
    assert said.code == 2 and said.err.splitlines()[0].startswith("note: 3 seeds;")
