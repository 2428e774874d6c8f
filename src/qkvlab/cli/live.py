"""Live progress of a study on a terminal, or a line now and then where there is none."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

import rich.live
from rich.console import Console, Group
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.text import Text

from qkvlab.cli.verdicts import legend, verdict_tables
from qkvlab.study.decisions import Key
from qkvlab.study.progress import Progress
from qkvlab.tasks.vocabulary import Lang

LINE_EVERY = 10.0
"""Seconds between lines where there is no terminal."""
REDRAW_EVERY = 0.5
_WORDS = {
    "starting the workers": "启动训练进程",
    "trial": "试跑",
    "compiled steps": "编译后的训练步",
    "products in fp32 and in bf16": "fp32 与 bf16 的矩阵乘法",
}


class Live:
    """Shows `Progress`; a context manager that leaves the terminal as it was.

    Args:
        console: where to draw; standard error, so that standard output stays clean.
        lang: ``zh`` or ``en``.
    """

    def __init__(self, console: Console, lang: Lang) -> None:
        self._console = console
        self._lang: Lang = lang
        self._screen = rich.live.Live(console=console, auto_refresh=False, transient=True)
        self._last = 0.0
        self._remark = ""

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._screen.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._screen.stop()

    def update(self, progress: Progress) -> None:
        """Take a look at the study; draws no more often than people can read."""
        self._say_once(progress.remark)
        now = time.monotonic()
        if now - self._last < (REDRAW_EVERY if self._console.is_terminal else LINE_EVERY):
            return
        self._last = now
        if self._console.is_terminal:
            self._screen.update(self._picture(progress), refresh=True)
        else:
            self._console.print(self._line(progress), highlight=False, markup=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """Say what is tried before there is anything to look at."""
        line = _told(f"trial: {text}", self._lang)
        if self._console.is_terminal:
            self._screen.update(Text(line, style="bold"), refresh=True)
        else:
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _say_once(self, remark: str) -> None:
        # once, above what is drawn: it does not change while a study runs
        if remark and remark != self._remark:
            self._remark = remark
            text = f"训练步未编译，按原样运行：{remark}" if self._lang == "zh" else f"steps are not compiled: {remark}"
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _picture(self, progress: Progress) -> Group:
        active = {(group.key, group.design) for group in progress.running}
        share = min(1.0, progress.elapsed / progress.limit)
        return Group(
            Text(self._line(progress), style="bold"),
            Text(self._latest(progress), style="dim"),
            Padding(ProgressBar(total=1.0, completed=share, width=60), (0, 0, 1, 0)),
            verdict_tables(progress.findings, self._lang, active),
            Text(legend(progress.findings, self._lang), style="dim"),
        )

    def _line(self, progress: Progress) -> str:
        zh = self._lang == "zh"
        parts = [f"{_clock(progress.elapsed)} / {_clock(progress.limit)}"]
        decided = sum(v.decided for _, _, v in progress.findings.comparisons())
        total = len(progress.findings.comparisons())
        parts.append(f"{decided}/{total} {'已定' if zh else 'decided'}")
        if progress.seconds_left is not None:
            left = _clock(progress.seconds_left)
            parts.append(f"全部判定约还需 {left}" if zh else f"about {left} until all are decided")
        if progress.lost:
            parts.append(f"{progress.lost} {'个训练进程丢失并已替换' if zh else 'lost workers replaced'}")
        parts.append(self._now(progress))
        return "  ·  ".join(part for part in parts if part)

    def _now(self, progress: Progress) -> str:
        zh = self._lang == "zh"
        if progress.note:
            return _told(progress.note, self._lang)
        roles = {"tune": "调学习率" if zh else "tuning", "judge": "判定" if zh else "judging"}
        names = [
            f"{roles[g.cells[0].role]} {g.design} {g.key[1]} x{len(g.cells)}{self._program(progress, g.key, g.design)}"
            for g in progress.running
        ]
        return ", ".join(names[: progress.layout.processes if progress.layout else 1])

    def _program(self, progress: Progress, key: Key, design: str) -> str:
        """Say which design's program takes the steps, where it is another one's."""
        by = progress.programs.get((key, design), design)
        if by == design:
            return ""
        return f"（用 {by} 的程序）" if self._lang == "zh" else f" (by the program of {by})"

    def _latest(self, progress: Progress) -> str:
        for group in progress.running:
            if group.cells[0].role == "judge":
                name = group.design
                if name == progress.findings.registration["baseline"]:
                    continue
                verdict = progress.findings.verdict(group.key, name)
                if verdict.n:
                    interval = f"{verdict.estimate:+.3f} [{verdict.low:+.3f}, {verdict.high:+.3f}]"
                    return f"{group.key[1]} {name}: {interval} n={verdict.n}"
        return ""


def _told(note: str, lang: Lang) -> str:
    if lang == "zh":
        for text, word in _WORDS.items():
            note = note.replace(text, word)
    return note


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
