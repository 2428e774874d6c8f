"""Places whose sentences are their checks' numbers and a short conclusion."""

from __future__ import annotations

from qkvlab.claims.asking import METRICS
from qkvlab.claims.check import Check, Term
from qkvlab.claims.claim import Place
from qkvlab.contracts import Words


def place(id: str, words: Words, checks: tuple[Check, ...], holds: Words, fails: Words) -> Place:
    """Return a place that says: where, the numbers of every check, and what follows.

    >>> from qkvlab.claims.asking import loses
    >>> where = Words("一层", "one layer")
    >>> check = loses("cost", ("sentence", "one-layer/bag"), "QQV")
    >>> place("one", where, (check,), Words("更差", "worse"), Words("不差", "not worse")).holds.en
    'One layer (error: QQV {cost.first}, QKV {cost.second}): worse.'
    """
    numbers = [_numbers(check) for check in checks]
    zh = f"{words.zh}（{'；'.join(n.zh for n in numbers)}）"
    en = f"{words.en[0].upper()}{words.en[1:]} ({'; '.join(n.en for n in numbers)})"
    return Place(
        id,
        words,
        checks,
        Words(f"{zh}：{holds.zh}。", f"{en}: {holds.en}."),
        Words(f"{zh}：{fails.zh}。", f"{en}: {fails.en}."),
    )


def _numbers(check: Check) -> Words:
    """Return the template of a check's numbers."""
    if check.of:
        return Words(
            f"{check.terms[0].design} 丢掉 {{{check.id}.gap}}", f"{check.terms[0].design} loses {{{check.id}.gap}}"
        )
    metrics = {term.metric for term in check.terms}
    names = [_name(check, term) for term in check.terms]
    values = [f"{{{check.id}.{at}}}" for at in ("first", "second")]
    zh = "，".join(f"{name.zh} {value}" for name, value in zip(names, values, strict=False))
    en = ", ".join(f"{name.en} {value}" for name, value in zip(names, values, strict=False))
    if len(metrics) > 1:
        return Words(zh, en)
    metric = METRICS[check.terms[0].metric]
    return Words(f"{metric.zh}：{zh}", f"{metric.en}: {en}")


def _name(check: Check, term: Term) -> Words:
    """Name a term by what tells it from the others."""
    others = [other for other in check.terms if other != term]
    if any(other.metric != term.metric for other in others):
        return METRICS[term.metric]
    if any(other.key != term.key for other in others):
        return Words(f"{term.design} {term.setting}", f"{term.design} {term.setting}")
    return Words(term.design, term.design)
