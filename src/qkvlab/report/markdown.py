"""Verdicts and claims as Markdown tables, from ``verdicts.json`` alone: what README and the results folder show."""

from __future__ import annotations

from typing import Any

from qkvlab import designs
from qkvlab.claims import from_row
from qkvlab.contracts import Words
from qkvlab.report.numbers import digits, short
from qkvlab.report.rulings import in_brief, tried, verdict_words
from qkvlab.report.titles import task_words
from qkvlab.report.view import floors_last
from qkvlab.report.wording import SYMBOLS, capital, metric_words
from qkvlab.tasks.vocabulary import Lang

_HEAD = Words("设置", "setting")


def table(document: dict[str, Any], lang: Lang) -> str:
    """Return for each task a table, one row per setting and one column per design: sign and mean difference."""
    rows = document["comparisons"]
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    if len(tasks) == 1:
        return _table(rows, lang)
    return "\n\n".join(
        f"{_heading(rows, task).of(lang)}\n\n{_table([row for row in rows if row['task'] == task], lang)}"
        for task in tasks
    )


def _heading(rows: list[dict[str, Any]], task: str) -> Words:
    metric, delta = next((row["metric"], row["delta"]) for row in rows if row["task"] == task)
    name, what = task_words(task).name, metric_words(metric)
    return Words(
        f"**{name.zh}**（{what.zh}，δ = {short(delta)}）", f"**{capital(name.en)}** ({what.en}, δ = {short(delta)})"
    )


def _table(rows: list[dict[str, Any]], lang: Lang) -> str:
    names = floors_last(dict.fromkeys(row["design"] for row in rows))
    by_place = {(row["setting"], row["design"]): row for row in rows}
    lines = [f"| {_HEAD.of(lang)} | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for setting in dict.fromkeys(row["setting"] for row in rows):
        cells = " | ".join(_cell(by_place.get((setting, name))) for name in names)
        lines.append(f"| {setting} | {cells} |")
    return "\n".join(lines)


def legend(document: dict[str, Any], lang: Lang) -> str:
    """Return the designs of the table, words first and codes second, one line each."""
    names = floors_last(dict.fromkeys(row["design"] for row in document["comparisons"]))
    return "\n".join(f"- {designs.parse(name).words.of(lang)} ({name})" for name in names)


def claims(document: dict[str, Any], lang: Lang) -> str:
    """Return one row per claim that the study tries: number, sentence, verdict, and the finding in one line."""
    told = tried(from_row(row) for row in document["claims"])
    if not told:
        return ""
    head = Words("| 号 | 人们说 | 结论 | 一句话 |", "| no. | people say | verdict | in one line |").of(lang)
    rows = [
        f"| {each.number} | {_flat(each.sentence.of(lang))} | {_flat(verdict_words(each).of(lang))} | "
        f"{_flat(in_brief(each).of(lang))} |"
        for each in told
    ]
    return "\n".join([head, "|---|---|---|---|", *rows])


def _flat(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:  # this design did not run there
        return ""
    sign = SYMBOLS[row["verdict"]]
    if row["unclipped_mean"] is None:
        return sign
    mean = f"{row['unclipped_mean']:+.{digits(row['delta'])}f}"
    return f"{sign} {mean.replace('-', '+') if float(mean) == 0 else mean}"
