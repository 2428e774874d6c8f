"""The page on Hugging Face runs, in both languages, and says what the code and the recorded numbers say."""

import json
import re
from pathlib import Path

import pytest

from qkvlab.hf.families import model_types

ROOT = Path(__file__).parent.parent.parent
PAGES = {"en": ROOT / "docs" / "hugging-face.md", "zh": ROOT / "docs" / "hugging-face.zh.md"}
ROWS = json.loads((ROOT / "results/2026-11-25-benchmarks/hf_starts.json").read_text("utf-8"))["rows"]
SHAPE = re.compile(r"#+|    |```|\||<!--|- ")


def between(text, name):
    return re.search(rf"<!-- {name}:begin -->\n(.*?)<!-- {name}:end -->", text, re.DOTALL)[1]


@pytest.mark.parametrize("lang", PAGES)
def test_its_blocks_run(lang):
    blocks = re.findall(r"```python\n(.*?)```", PAGES[lang].read_text("utf-8"), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, str(PAGES[lang]), "exec"), {})


@pytest.mark.parametrize("lang", PAGES)
def test_its_links_lead_somewhere(lang):
    links = re.findall(r"\]\(([^)#]+)\)", PAGES[lang].read_text("utf-8"))
    assert len(links) >= 3
    for link in links:
        assert (PAGES[lang].parent / link).exists(), link


@pytest.mark.parametrize("lang", PAGES)
def test_it_names_every_model_type(lang):
    assert between(PAGES[lang].read_text("utf-8"), "types").strip().split(", ") == model_types()


@pytest.mark.parametrize("lang", PAGES)
def test_its_numbers_are_the_recorded_ones(lang):
    lines = between(PAGES[lang].read_text("utf-8"), "starts").splitlines()[2:]
    shown = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    recorded = [[f"{loss:.2f}" for loss in row["loss"]] for row in ROWS if len(row["loss"]) == 4]
    assert [cells[0] for cells in shown] == [row["model"] for row in ROWS if len(row["loss"]) == 4]
    assert [cells[3:] for cells in shown] == recorded


def test_both_languages_are_twins():
    shapes = [
        [found[0] for line in page.read_text("utf-8").splitlines() if (found := SHAPE.match(line))]
        for page in PAGES.values()
    ]
    assert shapes[0] == shapes[1]
