"""The short answer: three sentences that follow from the verdicts by rule, with no hand in between.

What sharing and dropping matrices costs, and where most; what it does not cost, and where it even helps; what
none of this says. `answer` tells the same at length.
"""

from __future__ import annotations

from collections.abc import Iterable

from qkvlab.contracts import Words
from qkvlab.report.answer import limits
from qkvlab.report.clauses import Found
from qkvlab.report.gather import look
from qkvlab.report.numbers import digits, plain, short, whole
from qkvlab.report.titles import joined
from qkvlab.report.view import FLOORS, Study
from qkvlab.report.wording import label, metric_words
from qkvlab.study.decisions import Findings
from qkvlab.tasks.vocabulary import Lang

ROOM = 350
"""Letters of one sentence, in either language; examples are given as far as they fit."""

SMALL = ("equivalent", "better, by less than delta", "worse, by less than delta")
"""Verdicts by which the difference is surely smaller than delta."""


def short_answer(findings: Findings, lang: Lang) -> list[str]:
    """Return the sentences on a study in one language."""
    return [sentence.of(lang) for sentence in gist(look(findings))]


def gist(study: Study) -> list[Words]:
    """Return the three sentences in both languages; before the first verdict there is only the last one."""
    found = [
        each
        for each in study.comparisons()
        if each[1].verdict.n and each[1].verdict.decided and each[1].arm.design not in FLOORS
    ]
    told = [_costs(study, found), _spares(study, found)] if found else []
    return [*told, _unsaid(study)]


def _costs(study: Study, found: list[Found]) -> Words:
    worse = [each for each in found if each[1].verdict.verdict == "worse"]
    base = label(study.words(study.baseline), study.baseline)
    if not worse:
        return Words(
            f"在 {len(found)} 个有结论的比较里，没有哪种做法比 {base.zh}更差（差距小于 δ 的不算）。",
            f"In {len(found)} decided comparisons nothing was worse than {base.en} (differences below δ set aside).",
        )
    head = Words(
        f"代价：改变 q、k、v 的做法，{len(found)} 个有结论的比较里有 {len(worse)} 个不如 {base.zh}；损失最大的是",
        f"What it costs: {len(worse)} of {len(found)} decided comparisons with other ways to make q, k and v "
        f"lose{'s' * (len(worse) == 1)} to {base.en}; most ",
    )
    return _with_examples(study, head, _worst_first(worse))


def _spares(study: Study, found: list[Found]) -> Words:
    small = [each for each in found if each[1].verdict.verdict in SMALL]
    scales = dict.fromkeys((setting.delta, setting.metric) for setting, _ in small)
    gaps = Words(
        "、".join(f"{metric_words(metric).zh} {short(delta)}" for delta, metric in scales),
        joined([f"{short(delta)} in {metric_words(metric).en}" for delta, metric in scales]) if scales else "",
    )
    head = Words(
        f"不花代价的：{len(small)} 个比较的差距小于登记的 δ（{gaps.zh}）" if small else "还没有哪个比较确证差距小于 δ",
        f"What it does not cost: in {len(small)} comparisons the difference is below the registered δ ({gaps.en})"
        if small
        else "No difference is shown to be below δ yet",
    )
    safe = _never_worse(study)
    if safe:
        head = Words(f"{head.zh}；{'、'.join(safe)} 从未更差", f"{head.en}; never worse: {joined(safe)}")
    better = [each for each in found if each[1].verdict.verdict == "better"]
    if not better:
        return Words(f"{head.zh}。", f"{head.en}.")
    more = Words(
        f"{head.zh}；有 {len(better)} 个甚至更好：", f"{head.en}; {len(better)} even gain{'s' * (len(better) == 1)}: "
    )
    return _with_examples(study, more, _worst_first(better))


def _unsaid(study: Study) -> Words:
    verdicts = [each.verdict for _, each in study.comparisons()]
    open_ = sum(not verdict.decided for verdict in verdicts)
    told = limits(study)
    if open_:
        told = Words(
            f"{told.zh}{whole(len(verdicts))} 个比较里有 {whole(open_)} 个未定。",
            f"{told.en} Of {whole(len(verdicts))} comparisons {whole(open_)} "
            f"{'is' if open_ == 1 else 'are'} undecided.",
        )
    if study.barred:
        count = len(study.barred)
        told = Words(
            f"{told.zh}有 {count} 个设置 {study.baseline} 自己也没学会，不作比较。",
            f"{told.en} {count} setting{'s' * (count > 1)} {'are' if count > 1 else 'is'} left out because "
            f"{study.baseline} itself did not learn {'them' if count > 1 else 'it'}.",
        )
    return told


def _never_worse(study: Study) -> list[str]:
    """Return the designs whose every comparison is decided and none of them lost by more than delta."""
    fates: dict[str, set[str]] = {}
    for setting, each in study.comparisons():
        if each.arm.design not in FLOORS and not setting.barred:
            fates.setdefault(each.arm.design, set()).add(each.verdict.verdict)
    harmless = {"better", *SMALL}
    return [name for name, words in fates.items() if words <= harmless]


def _worst_first(found: Iterable[Found]) -> list[Found]:
    """Order by size in units of delta: first the largest of every task, then the largest of other designs."""
    ordered = sorted(found, key=lambda each: -abs(each[1].verdict.unclipped_mean / each[0].delta))
    of_task = {each[0].key[0]: each for each in reversed(ordered)}
    of_design = {each[1].arm.design: each for each in reversed(ordered)}
    first = [each for each in ordered if each is of_task[each[0].key[0]]]
    return first + [each for each in ordered if each is of_design[each[1].arm.design] and each not in first]


def _with_examples(study: Study, head: Words, found: list[Found]) -> Words:
    """Add as many examples as there is room for, and one in any case."""
    told = [_example(study, each) for each in found]
    said = [
        Words(
            f"{head.zh}{'；'.join(each.zh for each in told[:count])}。",
            f"{head.en}{'; '.join(each.en for each in told[:count])}.",
        )
        for count in range(1, len(told) + 1)
    ]
    short_enough = [words for words in said if max(len(words.zh), len(words.en)) <= ROOM]
    return short_enough[-1] if short_enough else said[0]


def _example(study: Study, found: Found) -> Words:
    setting, each = found
    who, what = each.arm.words, metric_words(setting.metric)
    places = digits(setting.delta)
    mine, theirs = plain(each.arm.mean, places), plain(each.baseline.mean, places)
    return Words(
        f"“{setting.full.words.zh}”上{what.zh} {mine}，{study.baseline} 是 {theirs}（{who.zh}，{each.arm.design}）",
        f"on “{setting.full.words.en}”, {what.en} {mine} instead of {theirs} "
        f"({who.en.replace('; ', ', ')}, {each.arm.design})",
    )
