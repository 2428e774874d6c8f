"""The rule of a comparison: everything that must be fixed before the first verdict run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qkvlab.errors import BadInput
from qkvlab.evidence.betting import DEFAULT_BETS
from qkvlab.evidence.checks import bet_grid, positive, probability

_FROM_DELTA: Any = None


@dataclass(frozen=True)
class Rule:
    """What counts as a difference, how often one may be wrong, and what may be called equivalent.

    Attributes:
        delta: smallest difference that matters, in units of the judged metric.
        alpha: error rate of this comparison, already divided by the number of registered comparisons.
        clip: R, the bound of every difference; 4 delta unless given. It must exceed ``gate``.
        bets: the grid of bets.
        min_seeds: looks before this one decide nothing.
        gate: by how much the baseline must beat `uniform` before "equivalent" means anything; 2 delta unless
            given.
        max_diverged: largest share of diverged runs, in either arm, at which "equivalent" is still given.
        weights: one per bet, sum 1; equal when None.

    Raises:
        BadInput: a number that cannot be meant, or a clip that no interval could use to pass the gate.

    >>> Rule(delta=0.05, alpha=0.05).clip
    0.2
    """

    delta: float
    alpha: float
    clip: float = _FROM_DELTA
    bets: tuple[float, ...] = DEFAULT_BETS
    min_seeds: int = 8
    gate: float = _FROM_DELTA
    max_diverged: float = 0.1
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        positive("delta", self.delta, "It is the smallest difference that matters, such as 0.05 of the error rate.")
        probability("alpha", self.alpha)
        # Frozen: a default that depends on another field can only be set this way.
        object.__setattr__(self, "clip", 4 * self.delta if self.clip is None else self.clip)
        object.__setattr__(self, "gate", 2 * self.delta if self.gate is None else self.gate)
        positive("clip", self.clip, "It bounds every difference; leave it out for 4 delta.")
        positive("gate", self.gate, "The baseline must beat uniform by more than this; leave it out for 2 delta.")
        if self.clip <= max(self.gate, self.delta):
            raise BadInput(
                f"clip must exceed gate and delta, or no data could show either; got clip={self.clip!r}, "
                f"gate={self.gate!r}, delta={self.delta!r}. Leave it out for 4 delta."
            )
        if not (isinstance(self.min_seeds, int) and self.min_seeds >= 1):
            raise BadInput(
                f"min_seeds must be a whole number of at least 1; got {self.min_seeds!r}. Leave it out for 8."
            )
        if not 0 <= self.max_diverged < 1:
            raise BadInput(f"max_diverged must lie in [0, 1); got {self.max_diverged!r}. Leave it out for 0.1.")
        bet_grid(self.bets, self.weights)
