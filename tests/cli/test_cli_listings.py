"""`--help`, `designs`, `tasks`, and what every command costs before it does anything."""

from __future__ import annotations

import subprocess
import sys
from pydoc_data.topics import topics

import pytest
from calling import COMMAND, environment, outside

import qkvlab
from qkvlab import tasks

COMMANDS = ["study", "report", "ask", "look", "claims", "designs", "tasks"]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_has_an_example(cli_here, command, flag, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    said = cli_here(command, flag)
    assert (said.code, said.err) == (0, "")
    assert "Example" in said.out and f"qkvlab {command}" in said.out.split("Example", 1)[1]


def test_the_examples_of_the_help_can_be_typed(cli_here, monkeypatch, tmp_path):
    """Names and options in the examples exist; those that train are only read."""
    import re
    import shlex

    from qkvlab.cli import plan, study

    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "my.txt").write_text("\n".join(topics.values()), "utf-8")
    for module, name in ((study, "run"), (plan, "foresee")):
        monkeypatch.setattr(module, name, lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
    examples = set()
    for command in COMMANDS:
        text = cli_here(command, "--help").out.split("Example", 1)[1].split("╭")[0]
        examples |= {line.split(" - ")[0].strip() for line in re.findall(r"qkvlab [^\n]*", text)}
    assert len(examples) >= 9
    for example in examples:
        said = cli_here(*shlex.split(example)[1:])
        expected = {"study": 130, "report": 3}.get(example.split()[1], 0)
        assert said.code == expected, (example, said)


def test_without_a_command_there_is_help(cli_here):
    said = cli_here()
    assert (said.code, said.err) == (0, "") and all(command in said.out for command in COMMANDS)
    assert cli_here("--version").out == f"qkvlab {qkvlab.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        (["nosuch"], "No such command 'nosuch'"),
        (["studdy"], "studdy"),
        (["--nosuch"], "No such option"),
        (["designs", "--nosuch"], "No such option"),
        (["designs", "extra"], "unknown design 'extra'"),
        (["designs", "QKV", "QQV/kv2"], "QQV makes q and k with one matrix"),
        (["designs", "QKV/kv5"], "kv_heads=5"),
        (["designs", "QKV/learned16"], "knows positions 0 to 15"),
        (["designs", "--tokens", "0"], "tokens must be a whole number from 1"),
        (["designs", "--tokens", "-3"], "got -3"),
        (["designs", "--tokens", "1" * 30], "tokens must be"),
        (["designs", "--bytes", "0"], "bytes must be a whole number from 1 to 16"),
        (["designs", "--bytes", "1.5"], "--bytes"),
        (["designs", "--d-model"], "--d-model"),
        (["designs", "--d-model", "x"], "--d-model"),
        (["designs", "--d-model", "nan"], "--d-model"),
        (["designs", "--d-model", "0"], "d_model=0"),
        (["designs", "--d-model", "-8"], "d_model=-8"),
        (["designs", "--heads", "0"], "heads=0"),
        (["designs", "--heads", "5"], "heads=5"),
        (["designs", "--d-head", "0"], "d_head"),
        (["designs", "--d-model", "12" * 15], "at most"),
        (["designs", "--d-model", "9" * 5000], "--d-model"),
        (["designs", "--heads", "99999999", "--d-head", "99999999"], "at most"),
        (["tasks", "--lang", "fr"], "--lang"),
        (["tasks", "--lang"], "--lang"),
    ],
)
def test_refusals(cli_here, arguments, phrase):
    assert phrase in cli_here(*arguments).refusal()


def test_tasks_are_listed(cli_here, monkeypatch):
    rows = cli_here("tasks", "--json").json["tasks"]
    every = [(task, setting) for task in tasks.catalogue().values() for setting in task.settings()]
    assert [(row["task"], row["setting"]) for row in rows] == [(task.name, setting) for task, setting in every]
    for row, (task, setting) in zip(rows, every, strict=True):
        assert (row["metric"], row["chance"]) == (task.metric, task.chance(setting))
    monkeypatch.setenv("COLUMNS", "160")
    for lang in ("zh", "en"):
        said = cli_here("tasks", "--lang", lang)
        assert said.code == 0 and all(setting in said.out for _, setting in every)
        assert all(task.words.of(lang) in said.out for task in tasks.catalogue().values())


@pytest.mark.parametrize(
    ("locale", "phrase"), [("zh_CN.UTF-8", "设置"), ("en_US.UTF-8", "setting"), ("C", "setting"), ("", "setting")]
)
def test_the_language_is_that_of_the_locale(cli_here, monkeypatch, locale, phrase):
    for name in ("LC_ALL", "LC_MESSAGES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", locale)
    assert phrase in cli_here("tasks").out
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    assert "设置" in cli_here("tasks").out and "setting" in cli_here("tasks", "--lang", "en").out


@pytest.mark.parametrize(
    "arguments",
    [
        ["ask", "怎么减肥？"],
        ["ask", "跑酷"],
        ["designs"],
        ["designs", "MLA/rope", "QKV/diff"],
        ["designs", "--json"],
        ["tasks", "--json"],
        ["--help"],
        ["study", "nosuch"],
        ["study", "--designs", "QKV,QQW"],
        ["study", "--settings", "synonim"],
        ["study", "--seeds", "0"],
        ["study", "--delta", "nan"],
        ["study", "--minutes", "-1"],
        ["report", "missing"],
    ],
    ids=" ".join,
)
def test_no_torch_is_imported(tmp_path, arguments):
    code = (
        "import sys\nfrom qkvlab.cli import main\n"
        "try:\n    main()\nexcept SystemExit: pass\n"
        "print('torch' in sys.modules, file=sys.stderr)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=tmp_path, env=environment()
    )
    assert process.stderr.endswith("False\n") and "Traceback" not in process.stderr


def test_import_is_cheap():
    code = "import sys, qkvlab; print([n for n in ('torch', 'numpy', 'typer', 'rich') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_the_installed_command(tmp_path):
    said = outside("tasks", "--json", cwd=tmp_path)
    assert (said.code, said.err) == (0, "") and said.json["tasks"]
    assert outside("nosuch", cwd=tmp_path).code == 2
    assert outside("ask", b"\xff\xfe".decode("utf-8", "surrogateescape"), cwd=tmp_path).refusal()


def test_a_reader_who_leaves(tmp_path):
    """`qkvlab tasks | head -1` ends quietly."""
    process = subprocess.Popen(
        [*COMMAND, "tasks"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment()
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait(timeout=20) in (0, 1)
    process.stderr.close()
