"""Cost beside quality: the judged metric of each design over its parameters, or over what decoding must keep."""

from __future__ import annotations

import math
from collections.abc import Callable

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
    arms = [(i, arm) for i, arm in enumerate(setting.arms.values()) if math.isfinite(arm.mean)]
    columns: dict[int, list[tuple[int, Arm]]] = {}
    for index, arm in sorted(arms, key=lambda pair: of(pair[1])):
        columns.setdefault(of(arm), []).append((index, arm))
    most = max((len(column) for column in columns.values()), default=0)
    height = max(220.0, _TOP + _BOTTOM + _LINE * (most + 1))
    drawing = Drawing(_WIDTH, height)
    top = max([setting.chance, *(arm.mean for _, arm in arms)]) * 1.08 or 1.0
    costs = list(columns) or [0]
    label_room = 16 + max((text_width(arm.design, 11) for _, arm in arms), default=0)

    def x(value: int) -> float:
        share = (value - costs[0]) / (costs[-1] - costs[0]) if len(costs) > 1 else 0.3
        return _LEFT + 14 + (_WIDTH - _LEFT - 14 - label_room - 8) * share

    def y(value: float) -> float:
        return height - _BOTTOM - (height - _TOP - _BOTTOM) * value / top

    what, chance = metric_words(setting.metric), plain(setting.chance, 2)
    drawing.text(0, 12, name, "head")
    legend = Words(
        f"纵轴：{what.zh}，越低越好；虚线：随机猜（{chance}）",
        f"vertical: {what.en}, lower is better; dashed: guessing ({chance})",
    )
    drawing.text(0, 28, legend, "tiny muted")
    for tick in _ticks(top):
        drawing.line(_LEFT, y(tick), _WIDTH - 4, y(tick))
        drawing.text(_LEFT - 5, y(tick) + 4, f"{tick:g}", "tiny muted", anchor="end")
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


def _ticks(top: float) -> list[float]:
    step = 10 ** math.floor(math.log10(top))
    step = next(s for s in (step / 5, step / 2, step, 2 * step) if top / s <= 6)
    return [i * step for i in range(int(top / step) + 1)]
