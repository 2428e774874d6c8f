"""One design at the shelf: the score and the attention of every label, and what came back."""

from __future__ import annotations

import numpy as np

from qkvlab.contracts import Words
from qkvlab.report.numbers import percent, plain
from qkvlab.report.shelf import Asked, Shelf
from qkvlab.report.svg import Drawing, wrap

WIDTH, ROW = 350.0, 20.0
_TOP, _SCORE, _ATTENTION, _BAR = 58.0, 130.0, 226.0, 84.0


def panel(shelf: Shelf, asked: Asked) -> Drawing:
    """Draw the panel of one design."""
    drawing = Drawing(WIDTH, _TOP + ROW * len(shelf.labels) + 30)
    zh, en = (wrap(asked.arm.words.of(lang), WIDTH - 64, 12, 2) for lang in ("zh", "en"))
    drawing.text(WIDTH - 4, 13, asked.arm.design, "head", anchor="end")
    for k in range(max(len(zh), len(en))):
        drawing.text(0, 13 + 14 * k, Words(*(lines[k] if k < len(lines) else "" for lines in (zh, en))))
    drawing.text(_SCORE, _TOP - 8, Words("分数 q·k/√d", "score q·k/√d"), "tiny muted")
    drawing.text(_ATTENTION, _TOP - 8, Words("注意力", "attention"), "tiny muted")
    scores = asked.answer.scores
    reach = float(np.abs(scores).max()) or 1.0
    for i, label in enumerate(shelf.labels):
        y = _TOP + ROW * i
        cls = "strong" if shelf.right[i] else ""
        mark = "✓ " * shelf.right[i]
        drawing.text(_SCORE - 10, y + 14, Words(mark + label.zh, mark + label.en), f"small {cls}", anchor="end")
        _score(drawing, y, float(scores[i]) / reach, plain(float(scores[i]), 1))
        share = float(asked.answer.weights[i])
        style = "equivalent" if shelf.right[i] else "undecided"
        drawing.rect(_ATTENTION, y + 3, _BAR * share, ROW - 6, f"v-{style}")
        drawing.line(_ATTENTION, y + 1, _ATTENTION, y + ROW - 1, "axis")
        drawing.text(_ATTENTION + _BAR * share + 5, y + 14, percent(share), "tiny")
    _back(drawing, shelf, asked)
    return drawing


def _score(drawing: Drawing, y: float, share: float, said: str) -> None:
    middle, half = _SCORE + 24, 24.0
    drawing.line(middle, y + 1, middle, y + ROW - 1, "axis")
    drawing.rect(middle + min(share, 0) * half, y + 5, abs(share) * half, ROW - 10, "v-better")
    drawing.text(_SCORE + 80, y + 14, said, "tiny muted", anchor="end")


def _back(drawing: Drawing, shelf: Shelf, asked: Asked) -> None:
    y = drawing.height - 10
    book = asked.answer.book
    if book is None:
        said = Words("✗ 取回的内容不在这个书架上", "✗ what came back is on no book of the shelf")
    else:
        label, mark = shelf.labels[book], "✓" if asked.right else "✗"
        said = Words(f"{mark} 取回的是“{label.zh}”这本", f"{mark} came back: the book “{label.en}”")
    drawing.text(0, y, said, f"strong v-{'equivalent' if asked.right else 'worse'}")
