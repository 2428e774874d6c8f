"""Pairing: which seeds count, and what one seed says about two designs.

Seed i gives both arms the same data order, initial noise and evaluation data, so that their difference shows
the designs and little else. Only an unbroken prefix of the registered seed list counts: which run finishes
first depends on how it went (a run that diverges stops early), so the first to finish are not a fair sample.

Axes: n pair, in the order of the seed list. Units: those of the judged metric, of which less is better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qkvlab.errors import BadInput
from qkvlab.evidence.checks import Floats, positive


@dataclass(frozen=True)
class Outcome:
    """How one run ended.

    Attributes:
        value: the judged metric, less is better; may be NaN where the run diverged.
        diverged: the training left the finite numbers, or ended far above chance.
    """

    value: float
    diverged: bool = False

    @property
    def lost(self) -> bool:
        """Whether it counts as diverged: it says so, or its value is no finite number."""
        return self.diverged or not math.isfinite(self.value)


@dataclass(frozen=True, eq=False)
class Differences:
    """The paired differences of two arms, design minus baseline: positive means that the design lost more.

    Attributes:
        values: D, clipped to [-R, R], [n].
        unclipped_mean: mean of the raw differences over the pairs in which neither arm diverged; NaN without
            any.
        share_clipped: share of those same pairs whose raw difference lay outside [-R, R]; 0 without any.
        diverged: pairs in which the design diverged.
        baseline_diverged: pairs in which the baseline diverged.
    """

    values: Floats
    unclipped_mean: float
    share_clipped: float
    diverged: int
    baseline_diverged: int

    def __len__(self) -> int:
        return self.values.size


def paired(design: Sequence[Outcome], baseline: Sequence[Outcome], clip: float) -> Differences:
    """Return D_i = design_i - baseline_i, clipped to [-R, R].

    An arm that diverged counts as R against it, since leaving it out would reward the arm that dies on hard
    seeds; where both did the pair says nothing, D_i = 0.

    Args:
        design: outcomes in the order of the seed list, [n].
        baseline: outcomes of the same seeds, [n].
        clip: R, above 0.

    Raises:
        BadInput: arms of different length, or a clip that is not a finite number above 0.

    >>> paired([Outcome(1.5), Outcome(float("nan"))], [Outcome(1.25), Outcome(1.0)], clip=1.0).values.tolist()
    [0.25, 1.0]
    """
    positive("clip", clip, "It bounds every difference; the rule's default is 4 delta.")
    if len(design) != len(baseline):
        raise BadInput(
            f"both arms need the same seeds; got {len(design)} design and {len(baseline)} baseline outcomes. "
            "Cut them with prefix()."
        )
    a_lost = np.array([run.lost for run in design], dtype=bool)
    b_lost = np.array([run.lost for run in baseline], dtype=bool)
    finite = ~(a_lost | b_lost)
    with np.errstate(over="ignore", invalid="ignore"):  # losses of lost runs, or finite ones near 1e308
        raw = np.array([run.value for run in design], dtype=float) - np.array(
            [run.value for run in baseline], dtype=float
        )
        mean = float(raw[finite].mean()) if finite.any() else math.nan
    values = clip * (a_lost.astype(float) - b_lost)  # R against the arm that is lost, 0 where both are
    values[finite] = np.clip(raw[finite], -clip, clip)
    return Differences(
        values=values,
        unclipped_mean=mean,
        share_clipped=float((np.abs(raw[finite]) > clip).mean()) if finite.any() else 0.0,
        diverged=int(a_lost.sum()),
        baseline_diverged=int(b_lost.sum()),
    )


def leading(seeds: Sequence[int], outcomes: Mapping[int, Outcome]) -> list[Outcome]:
    """Return the outcomes of one arm up to the first registered seed that has none.

    Outcomes of seeds outside the list (those used for tuning) are never looked at.

    Raises:
        BadInput: a seed stands twice in the list; the same run would be counted twice.
    """
    if len(set(seeds)) != len(seeds):
        twice = next(seed for index, seed in enumerate(seeds) if seed in seeds[:index])
        raise BadInput(f"each registered seed may stand in the list once; got {twice} twice.")
    found: list[Outcome] = []
    for seed in seeds:
        if seed not in outcomes:
            break
        found.append(outcomes[seed])
    return found


def prefix(
    seeds: Sequence[int], design: Mapping[int, Outcome], baseline: Mapping[int, Outcome]
) -> tuple[list[Outcome], list[Outcome]]:
    """Return both arms on the longest prefix of the seed list for which both have a result.

    >>> one = Outcome(1.0)
    >>> [len(arm) for arm in prefix([7, 8, 9], {7: one, 9: one}, {7: one, 8: one, 9: one})]
    [1, 1]
    """
    a, b = leading(seeds, design), leading(seeds, baseline)
    n = min(len(a), len(b))
    return a[:n], b[:n]
