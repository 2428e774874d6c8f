"""`study` and `report`: every option and folder that cannot be meant is one line, at once, and nothing is lost."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

import pytest
from calling import HOSTILE

from qkvlab.study import recipes
from qkvlab.study.registration import register
from qkvlab.study.spec import make
from qkvlab.study.store import Store

SMALL = ["--designs", "QKV,QQV", "--settings", "same-word/fixed", "--seeds", "24"]


@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        (["artikel"], "did you mean 'article'"),
        (["--designs", "QKV,QQW"], "did you mean 'QQV'"),
        (["--designs", "QKV"], "needs two designs"),
        (["--designs", ""], "--designs needs at least one name"),
        (["--designs", " , "], "--designs needs at least one name"),
        (["--designs", "QKV,QQV,qkv"], "stands there twice"),
        (["--designs", "QKV,QQV/kv2"], "kv_heads"),
        (["--designs", "QKV,QKK/kv3"], "kv_heads=3"),
        (["--tasks", "libary"], "did you mean 'library'"),
        (["--tasks", ","], "--tasks needs at least one name"),
        (["--settings", "synonim/fixed"], "did you mean 'synonym/fixed'"),
        (["--settings", ""], "--settings needs at least one name"),
        (["--seeds", "0"], "judge_seeds"),
        (["--seeds", "-3"], "judge_seeds"),
        (["--seeds", "1e3"], "--seeds"),
        (["--seeds", "nan"], "--seeds"),
        (["--seeds", "1000000000"], "cells"),
        (["--seeds", "9" * 400], "judge_seeds"),
        (["--delta", "nan"], "delta"),
        (["--delta", "inf"], "delta"),
        (["--delta", "-0.05"], "delta"),
        (["--delta", "0"], "delta"),
        (["--delta", "1e308"], "finite"),
        (["--delta", "much"], "--delta"),
        (["--alpha", "nan"], "alpha"),
        (["--alpha", "-1"], "alpha"),
        (["--alpha", "0"], "alpha"),
        (["--alpha", "1"], "alpha"),
        (["--alpha", "1e-300"], "alpha"),
        (["--minutes", "nan"], "minutes"),
        (["--minutes", "-1"], "minutes"),
        (["--minutes", "0"], "minutes"),
        (["--minutes", "inf"], "minutes"),
        (["--minutes", "soon"], "--minutes"),
        (["--device", "tpu"], "device must be"),
        (["--device", "cuda:0,0"], "names a GPU twice"),
        (["--workers", "0"], "workers must be 1 to 1024; got 0"),
        (["--workers", "-2"], "workers must be 1 to 1024; got -2"),
        (["--workers", "many"], "--workers"),
        (["--ray", ""], "--ray must be host:port, auto or local"),
        (["--ray", "cluster"], "--ray must be host:port, auto or local"),
        (["--ray", "127.0.0.1:1"], "nothing answers at 127.0.0.1:1"),
        (["--ray", "local", "--device", "cuda:0"], "Ray hands out the GPUs"),
        (["--lang", "fr"], "--lang"),
        (["--match", "size"], "match"),
        (["--match", ""], "--match needs at least one name"),
        (["--match", "params,params"], "stands there twice"),
        (["--tasks", "recall", "--match", "params"], "match=params"),
        (["--tasks", "library", "--text", "missing.txt"], "none of the tasks library reads a file"),
        (["--tasks", "text", "--text", "missing.txt"], "missing.txt: cannot be read"),
        (["--tasks", "text", "--text", "."], "is not a file"),
        (["--tasks", "text", "--text", ""], "is not a file"),
        (["--unheard", "1"], "No such option"),
        (["missing.toml"], "missing.toml"),
        (["one", "two"], "extra argument"),
    ],
    ids=str,
)
def test_options_that_cannot_be_meant(cli_here, tmp_path, arguments, phrase):
    assert phrase in cli_here("study", *arguments).refusal()
    assert cli_here("study", *arguments, "--json").refusal()
    assert list(tmp_path.iterdir()) == [], "a refused study left something behind"


def test_a_file_with_a_typo(cli_here, tmp_path):
    (tmp_path / "mine.toml").write_text('design = ["QKV", "QQV"]\n')
    line = cli_here("study", "mine.toml").refusal()
    assert "mine.toml" in line and "unknown key 'design'; did you mean 'designs'?" in line


@pytest.mark.parametrize(
    ("content", "phrase"),
    [
        (b"", "is empty"),
        (b"\xff\xfe\x00", "is not UTF-8: byte 0"),
        (b"x", "nothing else"),
        (b"two", "has 3 characters"),
        (b"y" * 200_000, "nothing else"),
    ],
    ids=["empty", "not UTF-8", "one character", "short", "one repeated character"],
)
def test_texts_that_cannot_be_studied(cli_here, tmp_path, content, phrase):
    (tmp_path / "mine.txt").write_bytes(content)
    line = cli_here("study", "--tasks", "text", "--designs", "QKV,QQV", "--text", "mine.txt", "--out", "out").refusal()
    assert "mine.txt" in line and phrase in line
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize(
    "option", ["--designs", "--settings", "--tasks", "--match", "--device", "--ray", "--lang", "recipe", "file"]
)
def test_hostile_names(cli_here, tmp_path, option, text):
    hostile = f"{text}.toml" if option == "file" else text
    said = cli_here("study", *([hostile] if option in ("recipe", "file") else [option, f"QKV,{text}"]))
    said.refusal()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_names_of_texts(cli_here, tmp_path, name):
    for task in ("text", "library"):
        cli_here("study", "--tasks", task, "--text", name).refusal()
    assert list(tmp_path.iterdir()) == []


# Folders


def test_folders_that_cannot_be_written(cli_here, tmp_path):
    (tmp_path / "file").write_text("precious")
    for out in ("file", "file/below", "file/below/deeper", "/proc/qkvlab", "/dev/null", "/dev/null/x", "a" * 300):
        assert "cannot make the folder" in cli_here("study", *SMALL, "--out", out).refusal(3)
    assert (tmp_path / "file").read_text() == "precious"
    assert "--out" in cli_here("study", *SMALL, "--out", "a\0b").refusal(2)


@pytest.mark.parametrize("content", [b"", b"not a database, but a letter\n" * 400, b"SQLite format 3\0" + b"\0" * 4080])
def test_a_store_that_is_not_ours(cli_here, tmp_path, content):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "study.db").write_bytes(content)
    for arguments in (["study", *SMALL, "--out", "out"], ["report", "out"]):
        assert "study.db" in cli_here(*arguments).refusal(3)
    assert (tmp_path / "out" / "study.db").read_bytes() == content


def test_the_database_of_another_program(cli_here, tmp_path):
    (tmp_path / "out").mkdir()
    with contextlib.closing(sqlite3.connect(tmp_path / "out" / "study.db")) as db:
        db.execute("CREATE TABLE photos (name TEXT)")
        db.execute("INSERT INTO photos VALUES ('summer')")
        db.commit()
    before = (tmp_path / "out" / "study.db").read_bytes()
    cli_here("study", *SMALL, "--out", "out").refusal(3)
    cli_here("report", "out").refusal(3)
    assert (tmp_path / "out" / "study.db").read_bytes() == before


def article():
    return recipes.find("article")


def registered(folder: Path) -> Store:
    sizes = {"settings": ("same-word/fixed",), "judge_seeds": 24}
    study = make(recipe="article", designs=("QKV", "QQV"), tasks=article().tasks, match=article().match, **sizes)
    return Store.create_or_continue(folder, register(study))


def test_another_registration_is_shown_with_its_difference(cli_here, tmp_path):
    registered(tmp_path / "out").close()
    before = (tmp_path / "out" / "study.db").read_bytes()
    for more, phrase in (
        (["--alpha", "0.1"], "alpha: registered 0.05, asked 0.1"),
        (["--delta", "0.1"], "delta"),
        (["--seeds", "25"], "seeds"),
        (["--designs", "QKV,XXV"], "designs"),
        (["--settings", "synonym/fixed"], "synonym/fixed"),
        (["--match", "none"], "match"),
    ):
        line = cli_here("study", *SMALL, *more, "--out", "out").refusal(3)
        assert "another study is registered in" in line and phrase in line
    assert (tmp_path / "out" / "study.db").read_bytes() == before


def test_a_second_writer_is_told_of_the_first(cli_here, tmp_path):
    with registered(tmp_path / "out"):
        line = cli_here("study", *SMALL, "--out", "out").refusal(3)
    assert f"process {os.getpid()}" in line


def test_nothing_to_report(cli_here, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    for folder in ("missing", "empty", "file", "file/below", "", "/dev/null", "a" * 300, "<script>", "x" * 1_000_000):
        assert cli_here("report", folder).refusal(3)
    assert list((tmp_path / "empty").iterdir()) == []
    assert "folder" in cli_here("report").refusal(2)


def test_settings_to_run_first_are_those_of_the_study(cli_here, tmp_path):
    line = cli_here("study", *SMALL, "--first", "synonym").refusal()
    assert "unknown setting 'synonym'" in line and "same-word/fixed" in line
    assert "--first needs at least one name" in cli_here("study", *SMALL, "--first", ",").refusal()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        (["--tasks", "text", "--designs", "QKV,QQV"], ["plain"]),
        (["--tasks", "text", "--designs", "QKV,QQV", "--match", "none,params"], ["plain", "params"]),
        (["--tasks", "sentence", "--match", "params"], ["two-layers/positions/params"]),
    ],
)
def test_a_question_of_ones_own_pays_for_the_budgets_it_names(cli_here, tmp_path, monkeypatch, options, settings):
    asked = []

    def note(spec, *_, **__):
        asked.append([setting for _, setting in spec.pairs()])
        raise KeyboardInterrupt

    monkeypatch.setattr("qkvlab.cli.study.run", note)
    cli_here("study", *options, "--out", "out")
    assert asked == [settings]
