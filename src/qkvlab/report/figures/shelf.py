"""One design at the shelf: the score and the attention of every label, and what came back."""

from __future__ import annotations

import numpy as np

from qkvlab.contracts import Words
from qkvlab.reference.librarian import Answer
from qkvlab.report.numbers import percent, plain
from qkvlab.report.saved import Replied
from qkvlab.report.shelf import Shelf
from qkvlab.report.svg import Drawing, wrap
from qkvlab.report.view import Arm

WIDTH, ROW = 350.0, 20.0
_TOP, _SCORE, _ATTENTION, _BAR = 58.0, 130.0, 226.0, 84.0


def panel(shelf: Shelf, replied: Replied[Answer]) -> Drawing:
    """Draw the panel of one design."""
    drawing = Drawing(WIDTH, _TOP + ROW * len(shelf.labels) + 30)
    answer = replied.reply
    heading(drawing, replied.arm)
    drawing.text(_SCORE, _TOP - 8, Words("分数 q·k/√d", "score q·k/√d"), "tiny muted")
    drawing.text(_ATTENTION, _TOP - 8, Words("注意力", "attention"), "tiny muted")
    reach = float(np.abs(answer.scores).max()) or 1.0
    for i, label in enumerate(shelf.labels):
        y = _TOP + ROW * i
        cls = "strong" if shelf.right[i] else ""
        mark = "✓ " * shelf.right[i]
        drawing.text(_SCORE - 10, y + 14, Words(mark + label.zh, mark + label.en), f"small {cls}", anchor="end")
        score(drawing, _SCORE, y, float(answer.scores[i]) / reach, plain(float(answer.scores[i]), 1))
        share = float(answer.weights[i])
        style = "equivalent" if shelf.right[i] else "undecided"
        drawing.rect(_ATTENTION, y + 3, _BAR * share, ROW - 6, f"v-{style}")
        drawing.line(_ATTENTION, y + 1, _ATTENTION, y + ROW - 1, "axis")
        drawing.text(_ATTENTION + _BAR * share + 5, y + 14, percent(share), "tiny")
    _back(drawing, shelf, answer)
    return drawing


def heading(drawing: Drawing, arm: Arm) -> None:
    """Write a design over its panel: words on the left, the code on the right."""
    zh, en = (wrap(arm.words.of(lang), drawing.width - 64, 12, 2) for lang in ("zh", "en"))
    drawing.text(drawing.width - 4, 13, arm.design, "head", anchor="end")
    for k in range(max(len(zh), len(en))):
        drawing.text(0, 13 + 14 * k, Words(*(lines[k] if k < len(lines) else "" for lines in (zh, en))))


def score(drawing: Drawing, left: float, y: float, share: float, said: str) -> None:
    """Draw a score as a bar to either side of 0, 80 wide with its number."""
    middle, half = left + 24, 24.0
    drawing.line(middle, y + 1, middle, y + ROW - 1, "axis")
    drawing.rect(middle + min(share, 0) * half, y + 5, abs(share) * half, ROW - 10, "v-better")
    drawing.text(left + 80, y + 14, said, "tiny muted", anchor="end")


def _back(drawing: Drawing, shelf: Shelf, answer: Answer) -> None:
    y = drawing.height - 10
    good = shelf.found(answer)
    if answer.book is None:
        said = Words("✗ 取回的内容不在这个书架上", "✗ what came back is on no book of the shelf")
    else:
        label, mark = shelf.labels[answer.book], "✓" if good else "✗"
        said = Words(f"{mark} 取回的是“{label.zh}”这本", f"{mark} came back: the book “{label.en}”")
    drawing.text(0, y, said, f"strong v-{'equivalent' if good else 'worse'}")
