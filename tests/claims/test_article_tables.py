"""The tables that map the article to the claims: twins, complete, and every entry exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from qkvlab import claims

DOCS = Path(__file__).parents[2] / "docs"
FILES = {"en": DOCS / "article-claims.md", "zh": DOCS / "article-claims.zh.md"}
ENTRY = re.compile(r"(\d+) `([a-z-]+)`")
NONE = {"en": "none: ", "zh": "无："}


def table(text: str) -> dict[int, str]:
    """Return the last cell of every numbered row."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if re.match(r"\| \d+ \|", line)]
    return {int(row[0]): row[-1] for row in rows}


def entries(text: str, lang: str) -> dict[int, list[tuple[str, str]]]:
    found = {row: ENTRY.findall(cell) for row, cell in table(text).items()}
    for row, cell in table(text).items():
        assert found[row] or cell.startswith(NONE[lang]), f"row {row} names neither an entry nor a reason: {cell}"
    return found


def check(english: str, chinese: str) -> None:
    """What both tables must keep."""
    both = {"en": entries(english, "en"), "zh": entries(chinese, "zh")}
    assert both["en"] == both["zh"]
    rows = both["en"]
    assert list(rows) == list(range(1, len(rows) + 1)) and len(rows) >= 20
    named = {(int(number), name) for row in rows.values() for number, name in row}
    assert named == {(claim.number, claim.id) for claim in claims.catalogue().values()}
    for text in (english, chinese):
        quoted = {int(n) for n in re.findall(r"\b\d+\b", text.split("\n## ")[1].replace("768", ""))}
        assert quoted <= set(rows) and len(quoted) >= 6
        assert text.count("\n- **") == 4


def read(lang: str) -> str:
    return FILES[lang].read_text("utf-8")


def test_the_tables_are_complete_twins():
    check(read("en"), read("zh"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("3 `self-attention`", "3 `self-atention`"),
        ("8 `shared-kv`", "9 `shared-kv`"),
        ("8 `shared-kv`", "2 `no-query-matrix`"),
        ("none: small", "small"),
        ("| 14 |", "| 15 |"),
        ("4 `no-synonyms`", "5 `no-direction`"),
    ],
)
def test_planted_slips_are_caught(old, new):
    text = read("en")
    assert old in text
    with pytest.raises(AssertionError):
        check(text.replace(old, new, 1), read("zh"))


@pytest.mark.parametrize("lang", FILES)
def test_links_lead_somewhere(lang):
    links = re.findall(r"\]\(([^)]+)\)", read(lang))
    assert links and all((DOCS / link).is_file() for link in links)
