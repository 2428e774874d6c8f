"""One design reading the sentence: scores and attention of the verb in every layer, who wins, and what it names."""

from __future__ import annotations

import numpy as np

from qkvlab.contracts import Words
from qkvlab.report.figures.shelf import heading, score
from qkvlab.report.numbers import percent, plain
from qkvlab.report.saved import Replied
from qkvlab.report.sentence import Look, Read, word
from qkvlab.report.svg import Drawing

ROW = 20.0
_TOP, _NAMES, _LAYER, _BAR = 58.0, 84.0, 186.0, 62.0
_ROLES = (Words("主语", "subject"), Words("宾语", "object"))


def reading(read: Read, replied: Replied[Look]) -> Drawing:
    """Draw the panel of one design, its layers from left to right."""
    look, words = replied.reply, read.words
    layers = len(look.scores)
    drawing = Drawing(max(_NAMES + _LAYER * layers, 320), _TOP + ROW * len(words) + 48)
    heading(drawing, replied.arm)
    for i, said in enumerate(words):
        cls = "small strong" if i == read.verb else "small"
        drawing.text(_NAMES - 10, _TOP + ROW * i + 14, said, cls, anchor="end")
    for layer in range(layers):
        _layer(drawing, _NAMES + _LAYER * layer, look, layer, layers)
    _out(drawing, read, look)
    return drawing


def _layer(drawing: Drawing, left: float, look: Look, layer: int, layers: int) -> None:
    which = Words(f"第 {layer + 1} 层：", f"layer {layer + 1}: ") if layers > 1 else Words("", "")
    drawing.text(left, _TOP - 8, Words(f"{which.zh}分数", f"{which.en}score"), "tiny muted")
    drawing.text(left + 88, _TOP - 8, Words("注意力", "attention"), "tiny muted")
    reach = float(np.abs(look.scores[layer]).max()) or 1.0
    most = look.most(layer)
    for i, (value, share) in enumerate(zip(look.scores[layer], look.weights[layer], strict=True)):
        y = _TOP + ROW * i
        score(drawing, left, y, float(value) / reach, plain(float(value), 1))
        drawing.rect(left + 88, y + 3, _BAR * float(share), ROW - 6, "v-better" if i == most else "v-undecided")
        drawing.line(left + 88, y + 1, left + 88, y + ROW - 1, "axis")
        drawing.text(left + 93 + _BAR * float(share), y + 14, percent(float(share)), "tiny")


def _out(drawing: Drawing, read: Read, look: Look) -> None:
    verb, most, last = read.words[read.verb], look.most(-1), len(look.weights) > 1
    where = Words("最后一层里，", " in the last layer") if last else Words("", "")
    won = Words(f"{where.zh}“{verb.zh}”对每个词一样看", f"“{verb.en}” looks at all words alike{where.en}")
    if most is not None:
        winner = read.words[most]
        won = Words(
            f"{where.zh}“{verb.zh}”看得最多的是“{winner.zh}”", f"“{verb.en}” looks most at “{winner.en}”{where.en}"
        )
    drawing.text(0, drawing.height - 30, won, "small")
    marks = ["✓" if named == right else "✗" for named, right in zip(look.named, read.right, strict=True)]
    named = [word(number) for number in look.named]
    drawing.text(
        0,
        drawing.height - 10,
        Words(
            "，".join(f"{mark} {role.zh}：{said.zh}" for mark, role, said in zip(marks, _ROLES, named, strict=True)),
            ", ".join(f"{mark} {role.en}: {said.en}" for mark, role, said in zip(marks, _ROLES, named, strict=True)),
        ),
        f"strong v-{'equivalent' if look.named == read.right else 'worse'}",
    )
