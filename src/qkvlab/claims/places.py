"""Places whose sentences are a conclusion and their checks' numbers."""

from __future__ import annotations

from qkvlab.claims.asking import METRICS
from qkvlab.claims.check import Check, Term
from qkvlab.claims.claim import Place
from qkvlab.contracts import Words

NAMES = {
    "QKV": Words("三者分开", "all separate"),
    "QQV": Words("Q、K 共用", "Q and K shared"),
    "XXV": Words("Q、K 就是 x", "x as Q and K"),
    "XKV": Words("不要 W_Q", "no W_Q"),
    "QXV": Words("不要 W_K", "no W_K"),
    "QKK": Words("K、V 共用", "K and V shared"),
    "QDQ": Words("对称但可为负", "symmetric but signed"),
    "QQV/noself": Words("Q、K 共用、不看自己", "Q and K shared, no look at oneself"),
    "QKV/kv2": Words("两头共用一组 K、V", "one K and V for two heads"),
    "QKV/h16": Words("16 维的头", "head of 16"),
    "QKV/h64": Words("64 维的头", "head of 64"),
    "frozen": Words("随机、不训练", "random, never trained"),
    "uniform": Words("均匀注意力", "equal attention"),
}
"""Designs in as few words as a sentence with numbers allows."""
_SETTINGS = {
    "synonym/fixed": Words("余弦 0", "cosine 0"),
    "synonym/fixed/cos0.3": Words("余弦 0.3", "cosine .3"),
    "synonym/fixed/cos0.6": Words("余弦 0.6", "cosine .6"),
}


def place(id: str, words: Words, checks: tuple[Check, ...], holds: Words, fails: Words) -> Place:
    """Return a place that says where, what follows, and the numbers of every check.

    >>> from qkvlab.claims.asking import loses
    >>> where = Words("一层", "one layer")
    >>> check = loses("cost", ("sentence", "one-layer/bag"), "QQV")
    >>> place("one", where, (check,), Words("更差", "worse"), Words("不差", "not worse")).holds.en
    'One layer: worse (error: Q and K shared {cost.first}, all separate {cost.second}).'
    """
    numbers = [_numbers(check) for check in checks]
    zh, en = "；".join(n.zh for n in numbers), "; ".join(n.en for n in numbers)
    where = words.en[0].upper() + words.en[1:]
    return Place(
        id,
        words,
        checks,
        Words(f"{words.zh}：{holds.zh}（{zh}）。", f"{where}: {holds.en} ({en})."),
        Words(f"{words.zh}：{fails.zh}（{zh}）。", f"{where}: {fails.en} ({en})."),
    )


def _numbers(check: Check) -> Words:
    """Return the template of a check's numbers."""
    first = NAMES[check.terms[0].design]
    if check.of:
        return Words(f"{first.zh}丢掉 {{{check.id}.gap}}", f"{first.en} loses {{{check.id}.gap}}")
    metric = METRICS[check.terms[0].metric]
    values = [f"{{{check.id}.{at}}}" for at in ("first", "second")]
    names = [_name(check, term) for term in check.terms]
    zh = "，".join(f"{name.zh} {value}" for name, value in zip(names, values, strict=False))
    en = ", ".join(f"{name.en} {value}" for name, value in zip(names, values, strict=False))
    if len({term.metric for term in check.terms}) > 1:
        return Words(zh, en)
    return Words(f"{metric.zh}：{zh}", f"{metric.en}: {en}")


def _name(check: Check, term: Term) -> Words:
    """Name a term by what tells it from the others: the metric, the setting or the design."""
    if any(other.metric != term.metric for other in check.terms):
        return METRICS[term.metric]
    if any(other.key != term.key for other in check.terms):
        return _SETTINGS[term.setting]
    return NAMES[term.design]
