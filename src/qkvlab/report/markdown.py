"""The verdict table as Markdown, from ``verdicts.json`` alone: what README and the results folder show."""

from __future__ import annotations

from typing import Any

from qkvlab import designs
from qkvlab.contracts import Words
from qkvlab.report.wording import SYMBOLS
from qkvlab.tasks.vocabulary import Lang

_HEAD = Words("设置", "setting")


def table(document: dict[str, Any], lang: Lang) -> str:
    """Return one row per setting and one column per design: sign and mean difference to the baseline."""
    rows = document["comparisons"]
    names = list(dict.fromkeys(row["design"] for row in rows))
    by_place = {(row["task"], row["setting"], row["design"]): row for row in rows}
    places = list(dict.fromkeys((row["task"], row["setting"]) for row in rows))
    lines = [f"| {_HEAD.of(lang)} | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for task, setting in places:
        cells = " | ".join(_cell(by_place.get((task, setting, name))) for name in names)
        lines.append(f"| {setting} | {cells} |")
    return "\n".join(lines)


def legend(document: dict[str, Any], lang: Lang) -> str:
    """Return the designs of the table, words first and codes second, one line each."""
    names = list(dict.fromkeys(row["design"] for row in document["comparisons"]))
    return "\n".join(f"- {designs.parse(name).words.of(lang)} ({name})" for name in names)


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:  # this design did not run there
        return ""
    sign = SYMBOLS[row["verdict"]]
    if row["unclipped_mean"] is None:
        return sign
    return f"{sign} {row['unclipped_mean']:+.2f}".replace("-0.00", "+0.00")
