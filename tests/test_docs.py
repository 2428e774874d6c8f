"""Documentation runs: README blocks and examples are executed, and README numbers are those of the shipped record."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from qkvlab import record

ROOT = Path(__file__).parent.parent
READMES = {"en": ROOT / "README.md", "zh": ROOT / "README.zh.md"}
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
sys.path.insert(0, str(ROOT / "benchmarks"))


@pytest.mark.parametrize("lang", READMES)
def test_python_blocks_of_the_readme_run(lang):
    blocks = re.findall(r"```python\n(.*?)```", READMES[lang].read_text("utf-8"), re.DOTALL)
    assert len(blocks) >= 2
    for block in blocks:
        exec(compile(block, str(READMES[lang]), "exec"), {})


@pytest.mark.parametrize("lang", READMES)
def test_commands_of_the_readme_exist(lang):
    from qkvlab.cli.app import app

    commands = get_command(app).commands  # type: ignore[attr-defined]
    lines = re.findall(r"^    (?:.*&& )?qkvlab ([^#\n]*)", READMES[lang].read_text("utf-8"), re.MULTILINE)
    assert len(lines) >= 6
    for line in lines:
        name, *rest = line.split()
        known = {option for parameter in commands[name].params for option in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= known, line


@pytest.mark.parametrize("lang", READMES)
def test_the_readme_shows_the_record(lang):
    from publish import filled

    text = READMES[lang].read_text("utf-8")
    document = record.recorded("article")
    assert document is not None
    assert filled(text, document, document["answer"][lang], lang) == text


@pytest.mark.parametrize("lang", READMES)
def test_links_lead_somewhere(lang):
    links = re.findall(r"\]\(([^)#]+)\)", READMES[lang].read_text("utf-8"))
    assert len(links) >= 5
    for link in links:
        assert link.startswith("https://") or (ROOT / link).exists(), link


def test_the_readmes_are_twins():
    shapes = []
    for path in READMES.values():
        text = path.read_text("utf-8")
        shapes.append([re.match(r"#+|    |```|\||<!--|!\[|- ", line)[0] for line in text.splitlines()
                       if re.match(r"#+|    |```|\||<!--|!\[|- ", line)])  # fmt: skip
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_run(path):
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
