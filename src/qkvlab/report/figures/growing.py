"""How the interval of one comparison closes in as seeds come."""

from __future__ import annotations

import math

from qkvlab.contracts import Words
from qkvlab.report.numbers import short
from qkvlab.report.svg import Drawing
from qkvlab.report.view import Comparison, Setting
from qkvlab.report.wording import STYLES, SYMBOLS, VERDICTS

WIDTH, HEIGHT = 208.0, 138.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 36.0, 8.0, 34.0, 18.0


def growing(setting: Setting, comparison: Comparison) -> Drawing:
    """Draw low, high and the running mean over seeds, to the look at which the comparison stopped."""
    drawing = Drawing(WIDTH, HEIGHT)
    verdict = comparison.verdict
    style = STYLES[verdict.verdict]
    ticks = _ticks(verdict.n)

    def x(n: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * n / max(ticks[-1], verdict.n)

    def y(value: float) -> float:
        return _TOP + (HEIGHT - _TOP - _BOTTOM) * (1 - value / setting.clip) / 2

    word = VERDICTS[verdict.verdict]
    drawing.text(0, 12, comparison.arm.design, "head")
    drawing.text(
        0,
        26,
        Words(
            f"{SYMBOLS[verdict.verdict]} {word.zh}，{verdict.n} 个种子",
            f"{SYMBOLS[verdict.verdict]} {word.en}, {verdict.n} seeds",
        ),
        f"tiny v-{style}",
    )
    drawing.rect(_LEFT, y(setting.delta), WIDTH - _LEFT - _RIGHT, y(-setting.delta) - y(setting.delta), "band")
    for value in (setting.clip, setting.delta, 0, -setting.delta, -setting.clip):
        drawing.line(_LEFT, y(value), WIDTH - _RIGHT, y(value), "axis" if value == 0 else "grid")
        drawing.text(_LEFT - 4, y(value) + 3.5, short(value), "tiny muted", anchor="end")
    for n in ticks:
        drawing.text(x(n), HEIGHT - 5, str(n), "tiny muted", anchor="middle")
    looks = range(1, verdict.n + 1)
    for ends in (comparison.low, comparison.high):
        drawing.path(_bends([(x(n), y(v)) for n, v in zip(looks, ends, strict=True)]), f"l-{style}")
    drawing.path([(x(n), y(v)) for n, v in zip(looks, comparison.mean, strict=True)], "mean")
    if verdict.decided:
        drawing.line(x(verdict.n), _TOP, x(verdict.n), HEIGHT - _BOTTOM, "dash")
    return drawing


def _bends(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Leave out the points inside a level stretch."""
    return [
        point
        for i, point in enumerate(points)
        if i in (0, len(points) - 1) or not points[i - 1][1] == point[1] == points[i + 1][1]
    ]


def _ticks(n: int) -> list[int]:
    step = 10 ** max(0, math.floor(math.log10(max(n, 1))))
    step = next(s for s in (step // 2 or 1, step, 2 * step, 5 * step) if n / s <= 5)
    return [i * step for i in range(-(-max(n, 1) // step) + 1)]
