"""The interval of one check of a claim as a bar, against its threshold."""

from __future__ import annotations

from qkvlab.claims import Evidence
from qkvlab.report.rulings import SAYS_STYLES
from qkvlab.report.svg import Drawing

WIDTH, HEIGHT = 150.0, 22.0


def evidence_bar(evidence: Evidence) -> Drawing:
    """Draw [low, high] and the estimate; the upright line is the threshold, the light band the side of a yes."""
    check, answer = evidence.check, evidence.answer
    drawing = Drawing(WIDTH, HEIGHT)
    left, right = (-1.0, 1.0) if check.of else (check.centre - check.clip, check.centre + check.clip)

    def x(value: float) -> float:
        return 4 + (WIDTH - 8) * (min(max(value, left), right) - left) / (right - left)

    middle, edge = HEIGHT / 2, x(check.threshold)
    low, high = (edge, x(right)) if check.asks == "above" else (x(left), edge)
    drawing.rect(low, 2, high - low, HEIGHT - 4, "band")
    drawing.line(x(left), middle, x(right), middle)
    drawing.line(edge, 1, edge, HEIGHT - 1, "axis")
    if answer.n:
        style = SAYS_STYLES[answer.says]
        drawing.line(x(answer.low), middle, x(answer.high), middle, f"l-{style}")
        for end in (answer.low, answer.high):
            drawing.line(x(end), middle - 4, x(end), middle + 4, f"l-{style}")
        drawing.shape("circle", f"v-{style} halo", cx=x(answer.estimate), cy=middle, r=4)
    return drawing
