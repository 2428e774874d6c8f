"""The verdicts of a study in the terminal: for each task a table, settings down, designs across."""

from __future__ import annotations

import math

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from qkvlab.evidence import Verdict, Word
from qkvlab.report import SYMBOLS
from qkvlab.report.numbers import digits
from qkvlab.report.titles import task_words
from qkvlab.report.view import floors_last
from qkvlab.report.wording import capital
from qkvlab.study.decisions import Findings, Key
from qkvlab.tasks.vocabulary import Lang

_STYLES: dict[Word, str] = {
    "better": "bold cyan",
    "better, by less than delta": "cyan",
    "equivalent": "bold green",
    "worse, by less than delta": "yellow",
    "worse": "bold red",
    "nothing to compare": "dim",
    "inconsistent": "bold magenta",
    "undecided": "dim",
}


def verdict_tables(findings: Findings, lang: Lang, active: set[tuple[Key, str]] | None = None) -> Group:
    """Build the tables; cells of ``active`` (setting, design) are marked as running, and only their tasks are shown."""
    tasks = list(dict.fromkeys(task for task, _ in findings.settings))
    running = {task for (task, _), _ in active or ()}
    shown = [task for task in tasks if task in running] or tasks
    parts = []
    for task in shown:
        if len(tasks) > 1:
            parts.append(Text(("\n" if parts else "") + capital(task_words(task).name.of(lang)), style="bold"))
        parts.append(_table(findings, task, lang, active or set()))
    return Group(*parts)


def _table(findings: Findings, task: str, lang: Lang, active: set[tuple[Key, str]]) -> Table:
    keys = [key for key in findings.settings if key[0] == task]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0)
    table.add_column("设置" if lang == "zh" else "setting", overflow="fold")
    some = {name for key in keys for name in findings.compared(key)}
    names = floors_last([name for name in findings.registration["designs"] if name in some])
    for name in names:
        table.add_column(name.replace("/", "\n/"), justify="center", no_wrap=True)
    for key in keys:
        here = findings.compared(key)
        places = digits(findings.settings[key]["delta"])
        cells = [_cell(findings.verdict(key, n), places, (key, n) in active) if n in here else Text() for n in names]
        table.add_row(key[1], *cells)
    return table


def print_verdicts(console: Console, findings: Findings, lang: Lang) -> None:
    """Print the table with its legend."""
    console.print(verdict_tables(findings, lang))
    console.print(Text(legend(findings, lang), style="dim"))


def legend(findings: Findings, lang: Lang) -> str:
    """Say what the signs and numbers mean."""
    baseline = findings.registration["baseline"]
    if lang == "zh":
        return (
            f"与 {baseline} 比，数字是平均差（正数是更差）：▲ 更好  = 相当（差别不超过 δ）  ▼ 更差  "
            "△▽ 有差别但小于 δ  – 无从比较  ? 未定（已有种子数）"
        )
    return (
        f"against {baseline}, with the mean difference (positive is worse): ▲ better  = equivalent (none larger than "
        "delta)  ▼ worse  △▽ different by less than delta  – nothing to compare  ? undecided (seeds so far)"
    )


def _cell(verdict: Verdict, places: int, active: bool) -> Text:
    sign, style = SYMBOLS[verdict.verdict], _STYLES[verdict.verdict]
    if verdict.decided:
        return Text(f"{sign}{_short(verdict.unclipped_mean, places)}", style=style)
    return Text(f"{'…' if active else sign}{verdict.n}" if verdict.n or active else "·", style=style)


def _short(mean: float, places: int) -> str:
    """Print a mean in few characters, so that nine designs fit 80 columns; nothing is minus zero, no mean is no text.

    >>> _short(0.868, 2), _short(-0.0004, 2), _short(1.25, 2), _short(float("nan"), 2)
    ('+.87', '+.00', '+1.25', '')
    """
    if math.isnan(mean):
        return ""
    text = f"{mean:+.{places}f}".replace("+0.", "+.").replace("-0.", "-.")
    return text if text.strip("+-.0") else text.replace("-", "+")
