"""The interval of one comparison as a bar, against 0 and plus or minus delta."""

from __future__ import annotations

from qkvlab.report.svg import Drawing
from qkvlab.report.view import Comparison, Setting
from qkvlab.report.wording import STYLES

WIDTH, HEIGHT = 150.0, 22.0


def bar(setting: Setting, comparison: Comparison) -> Drawing:
    """Draw [low, high] and the estimate on an axis from -clip to clip; the light band is within delta."""
    drawing = Drawing(WIDTH, HEIGHT)
    verdict = comparison.verdict

    def x(value: float) -> float:
        return 4 + (WIDTH - 8) * (min(max(value / setting.clip, -1), 1) + 1) / 2

    middle = HEIGHT / 2
    drawing.rect(x(-setting.delta), 2, x(setting.delta) - x(-setting.delta), HEIGHT - 4, "band")
    drawing.line(x(-setting.clip), middle, x(setting.clip), middle)
    drawing.line(x(0), 1, x(0), HEIGHT - 1, "axis")
    if verdict.n:
        style = STYLES[verdict.verdict]
        drawing.line(x(verdict.low), middle, x(verdict.high), middle, f"l-{style}")
        for end in (verdict.low, verdict.high):
            drawing.line(x(end), middle - 4, x(end), middle + 4, f"l-{style}")
        drawing.shape("circle", f"v-{style} halo", cx=x(verdict.estimate), cy=middle, r=4)
    return drawing
