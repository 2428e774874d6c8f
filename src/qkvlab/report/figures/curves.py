"""Training losses of all designs in one setting: the mean, and the band in which 80 % of the runs lie."""

from __future__ import annotations

import math

import numpy as np

from qkvlab.contracts import Words
from qkvlab.report.colours import SERIES
from qkvlab.report.svg import Drawing, spread, text_width
from qkvlab.report.view import Arm, Setting

_WIDTH, _LEFT, _TOP, _BOTTOM, _LINE = 368.0, 30.0, 28.0, 32.0, 13.0


def series(index: int) -> tuple[str, str, str]:
    """Return the classes of a design by its place: of its line, of its fill, and dashes from the tenth on."""
    return f"s{index % SERIES}", f"f{index % SERIES}", " later" if index >= SERIES else ""


def curves(setting: Setting) -> Drawing:
    """Draw the losses, each labelled where it ends."""
    arms = [(arm.place, arm) for arm in setting.arms.values() if arm.losses.size]
    height = max(230.0, _TOP + _BOTTOM + _LINE * len(arms))
    drawing = Drawing(_WIDTH, height)
    right = 16 + max((text_width(arm.design, 11) for _, arm in arms), default=0)
    top = max((float(arm.losses[2].max()) for _, arm in arms), default=1.0) or 1.0
    ticks = _ticks(top)
    steps = max((arm.steps for _, arm in arms), default=1) or 1

    def x(step: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - right) * step / steps

    def y(loss: float) -> float:
        return height - _BOTTOM - (height - _TOP - _BOTTOM) * loss / ticks[-1]

    drawing.text(0, 14, setting.full.words, "head")
    for tick in ticks:
        drawing.line(_LEFT, y(tick), _WIDTH - right, y(tick))
        drawing.text(_LEFT - 5, y(tick) + 4, f"{tick:g}", "tiny muted", anchor="end")
    for share in (0, 0.5, 1):
        said = str(round(share * steps))
        drawing.text(x(share * steps), height - _BOTTOM + 13, said, "tiny muted", anchor="middle")
    drawing.text(x(steps / 2), height - 4, Words("训练步数", "training step"), "tiny muted", anchor="middle")
    ends = spread([y(float(arm.losses[0, -1])) for _, arm in arms], _LINE, _TOP, height - _BOTTOM)
    for (index, arm), end in zip(arms, ends, strict=True):
        _curve(drawing, index, arm, end, x, y)
    return drawing


def _curve(drawing: Drawing, index: int, arm: Arm, end: float, x, y) -> None:  # noqa: ANN001  (two plain scales)
    line, fill, later = series(index)
    at = x(1) + (x(arm.steps) - x(1)) * np.linspace(0, 1, arm.losses.shape[1])
    mean, low, high = ([y(v) for v in row] for row in arm.losses)
    outline = [*zip(at, high, strict=True), *zip(at[::-1], low[::-1], strict=True)]
    drawing.path(outline, f"area {fill}", closed=True)
    drawing.path(zip(at, mean, strict=True), f"curve {line}{later}")
    drawing.line(at[-1], mean[-1], at[-1] + 9, end, f"lead {line}")
    drawing.text(at[-1] + 11, end + 4, arm.design, f"small over {fill}")


def _ticks(top: float) -> list[float]:
    step = 10 ** math.floor(math.log10(top))
    step = next(s for s in (step / 2, step, 2 * step, 5 * step) if top / s <= 5)
    return [i * step for i in range(math.ceil(top / step - 1e-9) + 1)]
