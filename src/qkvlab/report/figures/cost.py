"""Cost beside quality: the judged metric of each design over its parameters, or over what decoding must keep."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from qkvlab.contracts import Words
from qkvlab.report.figures.curves import series
from qkvlab.report.numbers import plain, whole
from qkvlab.report.svg import Drawing, spread, text_width
from qkvlab.report.view import Arm, Setting
from qkvlab.report.wording import metric_words

_WIDTH, _LEFT, _TOP, _BOTTOM, _LINE = 368.0, 34.0, 38.0, 24.0, 13.0


def by_params(setting: Setting) -> Drawing:
    """Draw the judged metric over parameters."""
    return _cost(setting, lambda arm: arm.params, Words("模型参数量", "parameters of the model"))


def by_cache(setting: Setting) -> Drawing:
    """Draw the judged metric over what decoding must keep."""
    return _cost(setting, lambda arm: arm.cache, Words("每个词元要缓存的数", "numbers cached per token"))


def _cost(setting: Setting, of: Callable[[Arm], int], name: Words) -> Drawing:
    """Draw one point per design, labelled; the dashed line is guessing."""
    arms = [(arm.place, arm) for arm in setting.arms.values() if math.isfinite(arm.mean)]
    columns: dict[int, list[tuple[int, Arm]]] = {}
    for index, arm in sorted(arms, key=lambda pair: of(pair[1])):
        columns.setdefault(of(arm), []).append((index, arm))
    most = max((len(column) for column in columns.values()), default=0)
    height = max(220.0, _TOP + _BOTTOM + _LINE * (most + 1))
    drawing = Drawing(_WIDTH, height)
    low, top = axis([arm.mean for _, arm in arms], setting.chance)
    costs = list(columns) or [0]
    label_room = 16 + max((text_width(arm.design, 11) for _, arm in arms), default=0)

    def x(value: int) -> float:
        share = (value - costs[0]) / (costs[-1] - costs[0]) if len(costs) > 1 else 0.3
        return _LEFT + 14 + (_WIDTH - _LEFT - 14 - label_room - 8) * share

    def y(value: float) -> float:
        return height - _BOTTOM - (height - _TOP - _BOTTOM) * (value - low) / (top - low)

    what, chance = metric_words(setting.metric), plain(setting.chance, 2)
    drawing.text(0, 12, name, "head")
    legend = Words(
        f"纵轴：{what.zh}，越低越好；虚线：不看内容（{chance}）",
        f"vertical: {what.en}, lower is better; dashed: without looking ({chance})",
    )
    drawing.text(0, 28, legend, "tiny muted")
    for tick in _ticks(low, top):
        drawing.line(_LEFT, y(tick), _WIDTH - 4, y(tick))
        drawing.text(_LEFT - 5, y(tick) + 4, f"{tick:g}", "tiny muted", anchor="end")
    if setting.chance <= top:
        drawing.line(_LEFT, y(setting.chance), _WIDTH - 4, y(setting.chance), "dash")
    for value, column in columns.items():
        drawing.text(x(value), height - _BOTTOM + 14, whole(value), "tiny muted", anchor="middle")
        places = spread([y(arm.mean) for _, arm in column], _LINE, _TOP + 4, height - _BOTTOM - 2)
        for (index, arm), place in zip(column, places, strict=True):
            line, fill, _ = series(index)
            drawing.line(x(value), y(arm.mean), x(value) + 9, place, f"lead {line}")
            drawing.shape("circle", f"{fill} halo", cx=x(value), cy=y(arm.mean), r=4.5)
            drawing.text(x(value) + 11, place + 4, arm.design, f"small over {fill}")
    return drawing


def axis(values: Sequence[float], chance: float) -> tuple[float, float]:
    """Choose where the vertical axis begins and ends: at 0 and above guessing, or around values far from 0.

    >>> [round(end, 3) for end in axis([0.1, 0.5], chance=0.875) + axis([2.0, 2.1], chance=3.3)]
    [0.0, 0.945, 1.985, 2.115]
    """
    least, most = min(values, default=0.0), max(values, default=1.0)
    if least > most / 2 and most > least:  # most of the height would be empty, and the differences too small to see
        room = 0.15 * (most - least)
        return least - room, most + room
    return 0.0, max(most, chance) * 1.08 or 1.0


def _ticks(low: float, top: float) -> list[float]:
    step = 10 ** math.floor(math.log10(top - low))
    step = next(s for s in (step / 5, step / 2, step, 2 * step) if (top - low) / s <= 6)
    return [round(i * step, 9) for i in range(math.ceil(low / step - 1e-9), int(top / step) + 1)]
