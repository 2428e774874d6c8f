"""The answer at length: sentences that follow from the verdicts by rule, with no hand in between.

Designs that fared the same in every setting share a sentence; floor and placebo share one; the last two say
what is open and what no small model can tell.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from qkvlab.contracts import Words
from qkvlab.report.clauses import OPEN, ORDER, Found, clause, kind, missed, where
from qkvlab.report.numbers import span, whole
from qkvlab.report.titles import joined
from qkvlab.report.view import FLOORS, Setting, Study
from qkvlab.report.wording import capital, label

SENTENCES = 4
"""Sentences on designs at most; the table has them all."""

SPELLED = 4
"""Designs of one sentence that are said in words; of more there is only room for the codes."""


@dataclass(frozen=True)
class Sentence:
    """A sentence of the answer.

    Attributes:
        lead: what it is about, with its colon; may be empty.
        rest: the rest.
    """

    lead: Words
    rest: Words

    @property
    def whole(self) -> Words:
        """All of it."""
        return Words(f"{self.lead.zh}{self.rest.zh}", f"{self.lead.en} {self.rest.en}".strip())


def sentences(study: Study) -> list[Sentence]:
    """Return the sentences in both languages, most important first."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in study.designs:
        found = _found(study, name)
        if name not in FLOORS and any(kind(each) != OPEN for each in found):
            groups.setdefault(tuple(kind(each) for each in found), []).append(name)
    told = list(groups.values())
    said = [_designs(study, names, first=i == 0) for i, names in enumerate(told[:SENTENCES])]
    left = [name for names in told[SENTENCES:] for name in names]
    plain = [Sentence(Words("", ""), said) for said in (_status(study, left), limits(study))]
    every = (*said, *_floors(study), *_barred(study), *plain)
    return [Sentence(_tidy(each.lead), _tidy(each.rest)) for each in every]


def _tidy(words: Words) -> Words:
    return Words(words.zh.replace("） ", "）"), words.en)  # a full-width bracket brings its own space


def _found(study: Study, name: str) -> list[Found]:
    # where the baseline missed the bar nobody was judged: a sentence of its own says so
    return [(s, each) for s, each in study.comparisons() if each.arm.design == name and not s.barred]


def _names(study: Study, names: list[str]) -> Words:
    if len(names) > SPELLED:
        return Words(f"{len(names)} 种设计（{'、'.join(names)}）", f"{len(names)} designs ({', '.join(names)})")
    said = [label(study.words(name), name) for name in names]
    zh = " / ".join(each.zh for each in said)  # names hold commas of their own
    return Words(zh, joined([each.en for each in said]))


def _designs(study: Study, names: list[str], *, first: bool) -> Sentence:
    """Say how designs with the same verdicts everywhere fared."""
    found = [each for name in names for each in _found(study, name) if each[1].verdict.n]
    clauses = []
    for told in ORDER:
        for scale in dict.fromkeys(_scale(each[0]) for each in found if kind(each) == told):
            here = [each for each in found if kind(each) == told and _scale(each[0]) == scale]
            clauses.append(clause(study, told, here, first=first and not clauses))
    who = _names(study, names)
    return Sentence(
        Words(f"{who.zh}：", f"{capital(who.en)}:"),
        Words(f"{'；'.join(each.zh for each in clauses)}。", f"{'; '.join(each.en for each in clauses)}."),
    )


def _scale(setting: Setting) -> tuple[str, float]:
    return setting.metric, setting.delta


def _floors(study: Study) -> list[Sentence]:
    """Say whether floor and placebo lost, as they must where there is something to learn."""
    names = [name for name in study.designs if name in FLOORS and name != study.baseline]
    decided = [each for name in names for each in _found(study, name) if each[1].verdict.decided]
    if not decided:
        return []
    odd = [each for each in decided if each[1].verdict.verdict != "worse"]
    who = _names(study, list(dict.fromkeys(each.arm.design for _, each in odd or decided)))
    if odd:
        on = where(study, [setting for setting, _ in odd])
        zh = f"对照 {who.zh}在{on.zh}上没有更差，那里的结果说明不了 Q、K 学到了什么。"
        en = f"{who.en} did not lose on {on.en}, so those results say little about what Q and K learn."
        return [Sentence(Words("注意：", "Careful:"), Words(zh, en))]
    count = len({setting.key for setting, _ in decided})
    every = "in the one setting" if count == 1 else f"in all {count} settings"
    lead = Words(
        f"对照在已有结论的 {count} 个设置上都更差，本该如此：",
        f"The controls lose, as they should, {every} decided so far:",
    )
    return [Sentence(lead, Words(f"{who.zh}。", f"{who.en}."))]


def _barred(study: Study) -> list[Sentence]:
    """Say where the baseline learned too little for a comparison to mean anything."""
    if not study.barred:
        return []
    on = where(study, study.barred)
    said = [missed(setting) for setting in study.barred]
    zh, en = "；".join(each.zh for each in said), "; ".join(each.en for each in said)
    lead = Words(f"{on.zh}不作比较：", f"Not compared on {on.en}:")
    return [
        Sentence(lead, Words(f"{study.baseline} 自己没过门槛（{zh}）。", f"{study.baseline} missed the bar ({en})."))
    ]


def _status(study: Study, left: list[str]) -> Words:
    """Count what is decided, say what is not, and point to the designs that got no sentence."""
    verdicts = [each.verdict for _, each in study.comparisons()]
    total, open_ = len(verdicts), sum(not verdict.decided for verdict in verdicts)
    more = Words(
        f"{'、'.join(left)} 的结果见下面的结论表。" if left else "",
        f" For {joined(left)} see the table of verdicts." if left else "",
    )
    if not open_:
        empty = sum(verdict.verdict == "nothing to compare" for verdict in verdicts)
        zh = f"，其中 {empty} 个无从比较" if empty else ""
        en = f", {empty} of them as “nothing to compare”" if empty else ""
        return Words(
            f"{whole(total)} 个比较都有了结论{zh}。{more.zh}",
            f"All {whole(total)} comparisons are decided{en}.{more.en}",
        )
    why = Counter("none" if not v.n else v.reason for v in verdicts if not v.decided)
    parts = [
        (why["none"], "个还没开始", "not started"),
        (why["too few seeds"] + why["interval still wide"], "个种子还不够", "short of seeds"),
        (why["waiting for the floor"], "个在等平均注意力这个对照", "waiting for the control of equal attention"),
    ]
    zh = "、".join(f"{n} {said}" for n, said, _ in parts if n)
    en = ", ".join(f"{n} {said}" for n, _, said in parts if n)
    return Words(
        f"{whole(total)} 个比较里还有 {whole(open_)} 个未定（{zh}）；再运行同一条命令就会接着跑。{more.zh}",
        f"Of {whole(total)} comparisons {whole(open_)} {'is' if open_ == 1 else 'are'} undecided ({en}); "
        f"the same command again goes on with them.{more.en}",
    )


def limits(study: Study) -> Words:
    """Say how small the models were, and what follows for large ones."""
    said = {"layers": ("{} 层注意力", "{} attention layer{s}"), "d_model": ("宽度 {}", "width {}")}
    said["steps"] = ("训练 {} 步", "{} training step{s}")
    sizes = {key: span((float(s.facts[key]) for s in study.settings if key in s.facts), digits=0) for key in said}
    known = [key for key in said if any(c.isdigit() for c in sizes[key])]
    zh = "、".join(said[key][0].format(sizes[key]) for key in known)
    en = ", ".join(said[key][1].format(sizes[key], s="" if sizes[key] == "1" else "s") for key in known)
    return Words(
        f"这些都是小模型{f'（{zh}）' if zh else ''}的结果，对大模型下不了定论。",
        f"All of this comes from small models{f' ({en})' if en else ''}; it settles nothing for large ones.",
    )
