"""The words and numbers that every claim shares."""

from __future__ import annotations

import math
from collections.abc import Sequence

from qkvlab.claims.answer import Answer, Obstacle
from qkvlab.claims.check import Check, Term
from qkvlab.claims.names import METRICS, NAMES, SETTINGS
from qkvlab.contracts import Words

RULINGS = {
    "supported": Words("成立", "supported"),
    "refuted": Words("不成立", "refuted"),
    "depends": Words("要看情况", "depends"),
    "undecided": Words("未定", "undecided"),
}
STATES = {
    "holds": Words("成立", "holds"),
    "fails": Words("不成立", "fails"),
    "open": Words("未定", "open"),
    "absent": Words("这项研究没有", "not in this study"),
}
SAYS = {"yes": Words("是", "yes"), "no": Words("否", "no"), "open": Words("未定", "open")}
SIDES = {"for": Words("支持", "for"), "against": Words("反对", "against"), "beside": Words("相关", "beside")}
OPENINGS = {
    "supported": Words("在这里测过的规模上成立。", "Yes, at the sizes tried here."),
    "refuted": Words("在这里测过的规模上不成立。", "No, not at the sizes tried here."),
    "depends": Words("要看{axis}。", "It depends on {axis}."),
    "undecided": Words("还没有定论。", "Not decided yet."),
}
_OBSTACLES: dict[Obstacle, Words] = {
    "": Words("", ""),
    "few": Words("种子还太少", "too few seeds"),
    "wide": Words("区间还含着阈值", "the interval still holds the threshold"),
    "floor waits": Words("还没确认 QKV 比均匀注意力强", "not yet shown that QKV beats equal attention"),
    "floor": Words("QKV 不比均匀注意力强，无从谈损失", "QKV does not beat equal attention: nothing to lose"),
    "diverged": Words("发散的训练太多", "too many runs diverged"),
    "bar": Words("QKV 没到任务的门槛，没有比", "QKV missed the bar of the task, so nothing was judged"),
    "unmeasured": Words("训练记录里没有这个数", "the runs do not hold this number"),
}


def obstacle_words(answer: Answer) -> Words:
    """Say why a check is open and what it would take."""
    why = _OBSTACLES[answer.obstacle]
    if not answer.waits:
        return why
    if answer.more is None:
        return Words(f"{why.zh}，看不出还要多少种子", f"{why.en}; nobody can tell how many more seeds it takes")
    zh, en = f"还要约 {answer.more} 个种子", f"about {answer.more} more seeds"
    if answer.minutes is not None:
        zh, en = (
            f"{zh}（单进程约 {_minutes(answer.minutes)} 分钟）",
            f"{en} ({_minutes(answer.minutes)} minutes of one process)",
        )
    return Words(f"{why.zh}，{zh}", f"{why.en}; {en}")


def legend(checks: Sequence[Check]) -> Words:
    """Say what the numbers of `values` are; a metric that all checks share is named once."""
    metrics = list(dict.fromkeys(_metric(check) for check in checks))
    sides = [_sides(check) for check in checks]
    if len(metrics) == 1 and metrics[0].en:
        return Words(
            f"{metrics[0].zh}，{'；'.join(side.zh for side in sides)}",
            f"{metrics[0].en}, {'; '.join(side.en for side in sides)}",
        )
    each = [legend([check]) if _metric(check).en else side for check, side in zip(checks, sides, strict=True)]
    return Words("；".join(w.zh for w in each), "; ".join(w.en for w in each))


def values(check: Check, answer: Answer) -> Words:
    """Write the mean of every term, or a part with its interval."""
    if check.of:
        text = f"{quantity(check, answer.estimate)} {span(check, answer)}"
        return Words(text, text)
    levels = answer.levels or (math.nan,) * len(check.terms)
    texts = [level(term.metric, value) for term, value in zip(check.terms, levels, strict=True)]
    return Words(" 对 ".join(texts), " against ".join(texts))


def _metric(check: Check) -> Words:
    """Name what is compared; nothing where the sides are themselves metrics."""
    if check.of:
        return Words("丢掉的占注意力的收益", "part of attention's gain that is lost")
    if len({term.metric for term in check.terms}) > 1:
        return Words("", "")
    return METRICS[check.terms[0].metric]


def _sides(check: Check) -> Words:
    names = [_name(check, term) for term in check.terms]
    if check.of:
        return names[0]
    return Words(" 对 ".join(name.zh for name in names), " against ".join(name.en for name in names))


def _name(check: Check, term: Term) -> Words:
    """Name a term by what tells it from the others: the metric, the setting or the design."""
    if any(other.metric != term.metric for other in check.terms):
        return METRICS[term.metric]
    if any(other.key != term.key for other in check.terms):
        return SETTINGS[term.setting]
    return NAMES[term.design]


def level(metric: str, value: float) -> str:
    """Write a mean: shares in percent, losses in nats with three digits.

    >>> level("error", 0.0123), level("error", 0.54), level("nats", 1.5)
    ('1.2%', '54%', '1.500')
    """
    if not math.isfinite(value):
        return "–"
    if metric.startswith("nats"):
        return f"{value:.3f}"
    return f"{100 * value:.0f}%" if value >= 0.0995 or value == 0 else f"{100 * value:.1f}%"


def quantity(check: Check, value: float) -> str:
    """Write a number of a check: a part in percent, a share plain, a difference with its sign."""
    if not math.isfinite(value):
        return "–"
    if check.of:
        return f"{100 * value:.0f}%".replace("-", "−")
    digits = 3 if check.terms[0].metric.startswith("nats") else 2
    text = f"{value:.{digits}f}" if len(check.terms) == 1 else f"{value:+.{digits}f}"
    return text.replace("-", "−") if float(text) else text.lstrip("+-")


def span(check: Check, answer: Answer) -> str:
    """Write the interval of an answer."""
    return f"[{quantity(check, answer.low)}, {quantity(check, answer.high)}]"


def threshold(check: Check) -> str:
    """Write which side of the threshold is a yes.

    >>> from qkvlab.claims.asking import share
    >>> threshold(share("s", ("t", "s"), "QQV", "own_1"))
    '> 0.50'
    """
    return f"{'>' if check.asks == 'above' else '<'} {quantity(check, check.threshold).lstrip('+')}"


def _minutes(minutes: float) -> str:
    return f"{minutes:.0f}" if minutes >= 9.5 else f"{max(minutes, 0.1):.1f}"
