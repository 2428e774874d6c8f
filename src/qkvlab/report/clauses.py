"""Clauses of the short answer: how a group of designs fared on some settings, for every kind of verdict."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from qkvlab.contracts import Words
from qkvlab.report.numbers import digits, plain, short, span
from qkvlab.report.titles import joined, listed
from qkvlab.report.view import Comparison, Setting, Study
from qkvlab.report.wording import label, metric_words

Found = tuple[Setting, Comparison]

OPEN = "undecided"
GUESSING = "no better than guessing"
ORDER = (
    "better",
    "better, by less than delta",
    "worse",
    GUESSING,
    "worse, by less than delta",
    "equivalent",
    "nothing to compare",
    "inconsistent",
    OPEN,
)
"""Kinds of outcome in the order in which they are told: what differs first."""

NAMED = 3
"""Settings without a difference that are named; more are counted, and the table has them."""


def kind(found: Found) -> str:
    """Return the verdict's word; a design that is worse and does not beat guessing has a kind of its own."""
    setting, comparison = found
    word = comparison.verdict.verdict
    if word == "worse" and comparison.arm.mean >= setting.chance - setting.delta:
        return GUESSING
    return word


def clause(study: Study, told: str, found: Sequence[Found], *, first: bool) -> Words:
    """Say one kind of outcome.

    Args:
        study: where it comes from.
        told: the kind.
        found: comparisons of this kind, all with one metric and delta.
        first: whether the baseline has yet to be introduced in words.
    """
    settings = list(dict.fromkeys(setting for setting, _ in found))
    on = where(study, settings)
    if told == "equivalent" and NAMED < len(settings) < len(study.settings):
        on = Words(f" {len(settings)} 个设置", f"{len(settings)} settings")
    base = label(study.words(study.baseline), study.baseline) if first else Words(study.baseline, study.baseline)
    gap, what = short(found[0][0].delta), metric_words(found[0][0].metric)
    places = digits(found[0][0].delta)
    mine = span((each.arm.mean for _, each in found), places)
    theirs = span((each.baseline.mean for _, each in found), places)
    chance = span((setting.chance for setting, _ in found), places)
    seeds = span((each.verdict.n for _, each in found), digits=0)
    zh = Words(f"（{what.zh} {mine}，{study.baseline} 是 {theirs}）", f"（{what.zh} {mine}，随机猜是 {chance}）")
    en = Words(f" ({what.en} {mine} instead of {theirs})", f" ({what.en} {mine}, guessing {chance})")
    a, b = f"在{on.zh}上", f" on {on.en}"
    return {
        "better": Words(f"{a}比 {base.zh} 更好{zh.zh}", f"better than {base.en}{b}{en.zh}"),
        "better, by less than delta": Words(
            f"{a}比 {base.zh} 略好，差距小于 {gap}", f"better than {base.en}{b}, by less than {gap}"
        ),
        "equivalent": Words(
            f"{a}与 {base.zh} 相差不超过 {gap}（{seeds} 个种子）",
            f"no difference larger than {gap} from {base.en}{b} ({seeds} seeds)",
        ),
        "worse, by less than delta": Words(
            f"{a}比 {base.zh} 略差，差距小于 {gap}", f"worse than {base.en}{b}, by less than {gap}"
        ),
        "worse": Words(f"{a}比 {base.zh} 更差{zh.zh}", f"worse than {base.en}{b}{en.zh}"),
        GUESSING: Words(
            f"{a}不如 {base.zh}，和随机猜差不多{zh.en}", f"worse than {base.en}{b}, no better than guessing{en.en}"
        ),
        "nothing to compare": Words(f"{a}无从比较", f"nothing to compare{b}"),
        "inconsistent": Words(f"{a}数据自相矛盾，得不出结论", f"the data{b} contradict themselves, so nothing follows"),
        OPEN: Words(f"{a}还没有定论", f"still undecided{b}"),
    }[told]


def where(study: Study, settings: Iterable[Setting]) -> Words:
    """Name some settings, task by task where the study has several."""
    keys = {setting.key for setting in settings}
    if len(keys) == len(study.settings) > 1:
        return Words(f"全部 {len(keys)} 个设置", f"all {len(keys)} settings")
    parts = []
    for chapter in study.chapters:
        chosen = [setting.title for setting in chapter.settings if setting.key in keys]
        if chosen:
            said = listed(chosen, [setting.title for setting in chapter.settings])
            name = chapter.words.name
            parts.append(said if len(study.chapters) == 1 else Words(f"{name.zh}{said.zh}", f"{said.en} in {name.en}"))
    return Words("以及".join(part.zh for part in parts), joined([part.en for part in parts]))


def missed(setting: Setting) -> Words:
    """Say how far the baseline stayed from the bar of a setting, in numbers."""
    what, places = metric_words(setting.metric), digits(setting.delta)
    got, bar = plain(setting.tuned, places), plain(setting.bar, places)
    return Words(f"调参时{what.zh} {got}，门槛 {bar}", f"{what.en} {got} in tuning, the bar is {bar}")
