"""The verdict: what the interval lets one say, and nothing beyond.

The comparison is read look by look and stops at the first one at which its interval says anything:

    L >= U                      inconsistent: no mean fits, the data break the model
    U < 0   or   L > 0          better or worse (less is better), "by less than delta" where that holds too
    -delta < L and U < delta    too small to matter: equivalent, if there is something to be equivalent about

What comes later never changes what was said: seeds past that look are not read at all. Only the floor is read
as far as it goes, since it may take longer than the pair; its own first word stands as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from qkvlab.evidence.betting import Intervals, intervals
from qkvlab.evidence.differences import Outcome, paired
from qkvlab.evidence.floor import beats_floor
from qkvlab.evidence.proportion import Rate, rate
from qkvlab.evidence.rule import Rule

Word = Literal[
    "better",
    "worse",
    "equivalent",
    "better, by less than delta",
    "worse, by less than delta",
    "undecided",
    "nothing to compare",
    "inconsistent",
]

Reason = Literal[
    "",  # the verdict speaks for itself
    "too few seeds",  # fewer pairs than min_seeds
    "interval still wide",  # neither 0 nor a difference of delta is excluded yet
    "waiting for the floor",  # within delta; uniform and baseline need more seeds, the pair does not
    "floor not beaten",  # within delta, but the baseline is not ahead of uniform by the gate
    "no floor",  # within delta, but the study has no uniform
    "too many diverged",  # within delta, but one arm diverged in more than max_diverged of the pairs
    "interval empty",  # L >= U
    "below the bar",  # the baseline did not learn the task well enough for a comparison to mean anything
]


@dataclass(frozen=True)
class Verdict:
    """What a comparison says, and every number needed to print it. Numbers are those of look n.

    Attributes:
        verdict: the word.
        reason: why it is that word, as a code; "" for a plain one.
        n: pairs read: the look at which it stopped, or all pairs if it has not.
        low: L, lower end for the mean of the clipped differences, design minus baseline (less is better).
        high: U, upper end.
        estimate: mean of the clipped differences; NaN where n = 0.
        unclipped_mean: mean of the raw differences of pairs in which neither arm diverged; NaN without any.
        share_clipped: share of those pairs that were clipped.
        diverged: runs of the design that diverged.
        baseline_diverged: runs of the baseline that diverged.
        rate: divergence rate of the design with its own interval at the rule's alpha.
        baseline_rate: the same for the baseline.
    """

    verdict: Word
    reason: Reason
    n: int
    low: float
    high: float
    estimate: float
    unclipped_mean: float
    share_clipped: float
    diverged: int
    baseline_diverged: int
    rate: Rate
    baseline_rate: Rate

    @property
    def decided(self) -> bool:
        """Whether the comparison is over: more seeds would not change the verdict."""
        return self.verdict != "undecided"


def decide(
    design: Sequence[Outcome], baseline: Sequence[Outcome], uniform: Sequence[Outcome] | None, rule: Rule
) -> Verdict:
    """Compare two designs by the rule and say what is known.

    The arms may differ in length: the pair is read on the common prefix of design and baseline, the floor on
    that of baseline and uniform. A proven difference needs no floor; "equivalent" does.

    Args:
        design: outcomes in the order of the registered seed list.
        baseline: outcomes of the same seeds.
        uniform: outcomes of the floor; None where the study has none, and then nothing is called equivalent.
        rule: registered before the first run; its alpha is the share of this comparison.

    Returns:
        The verdict at the first look that says anything, otherwise "undecided" at the last.
    """
    n = min(len(design), len(baseline))
    pairs = paired(design[:n], baseline[:n], rule.clip)
    bounds = intervals(pairs.values, rule.clip, rule.alpha, rule.bets, rule.weights)
    look, word, reason = _first_word(bounds, rule)
    if word == "equivalent":
        word, reason = _worth_saying(design[:look], baseline, uniform, rule)
    read = paired(design[:look], baseline[:look], rule.clip)
    if look < n:  # from these pairs alone, so that later ones do not touch even the last bit of what is printed
        bounds = intervals(read.values, rule.clip, rule.alpha, rule.bets, rule.weights)
    rates = [rate([run.lost for run in arm[:look]], rule.alpha, rule.bets, rule.weights) for arm in (design, baseline)]
    return Verdict(
        verdict=word,
        reason=reason,
        n=look,
        low=float(bounds.low[-1]) if look else -rule.clip,
        high=float(bounds.high[-1]) if look else rule.clip,
        estimate=float(read.values.mean()) if look else math.nan,
        unclipped_mean=read.unclipped_mean,
        share_clipped=read.share_clipped,
        diverged=read.diverged,
        baseline_diverged=read.baseline_diverged,
        rate=rates[0],
        baseline_rate=rates[1],
    )


def not_counted(rule: Rule) -> Verdict:
    """Return the verdict where the baseline misses the bar of the task: nothing is judged, nothing is compared."""
    nothing = decide([], [], None, rule)
    return replace(nothing, verdict="nothing to compare", reason="below the bar")


def _first_word(bounds: Intervals, rule: Rule) -> tuple[int, Word, Reason]:
    """Return the first look at which the pair alone says anything, the word and the reason."""
    for look in range(rule.min_seeds, len(bounds) + 1):
        low, high = bounds.low[look - 1], bounds.high[look - 1]
        small = -rule.delta < low and high < rule.delta
        if low >= high:
            return look, "inconsistent", "interval empty"
        if high < 0:
            return look, "better, by less than delta" if small else "better", ""
        if low > 0:
            return look, "worse, by less than delta" if small else "worse", ""
        if small:
            return look, "equivalent", ""
    few = len(bounds) < rule.min_seeds
    return len(bounds), "undecided", "too few seeds" if few else "interval still wide"


def _worth_saying(
    design: Sequence[Outcome], baseline: Sequence[Outcome], uniform: Sequence[Outcome] | None, rule: Rule
) -> tuple[Word, Reason]:
    """Return what becomes of an "equivalent" that the pair has reached at look ``len(design)``.

    While the floor is waiting no further pair is read: the pair has said its word, and the verdict must not
    depend on which of the two was quicker.
    """
    look = len(design)
    if any(sum(run.lost for run in arm) / look > rule.max_diverged for arm in (design, baseline[:look])):
        return "nothing to compare", "too many diverged"
    state = beats_floor(baseline, uniform, rule)
    if state == "beaten":
        return "equivalent", ""
    if state == "waiting":
        return "undecided", "waiting for the floor"
    return "nothing to compare", "floor not beaten" if state == "not beaten" else "no floor"
