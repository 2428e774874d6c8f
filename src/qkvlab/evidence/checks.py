"""Refusals shared by this package: a number that cannot be meant is named, with what to pass instead."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qkvlab.errors import BadInput

Floats: TypeAlias = NDArray[np.float64]


def positive(name: str, value: float, hint: str) -> None:
    """Refuse a ``value`` that is not a finite number above 0; ``hint`` says what the number means."""
    if not (math.isfinite(value) and value > 0):
        raise BadInput(f"{name} must be a finite number above 0; got {value!r}. {hint}")


def probability(name: str, value: float) -> None:
    """Refuse an error rate outside the open interval (0, 1)."""
    if not 0 < value < 1:
        raise BadInput(f"{name} must lie strictly between 0 and 1; got {value!r}. Usual: 0.05, split over k.")


def within(differences: ArrayLike, clip: float) -> Floats:
    """Return the differences as float64, refusing any that is not a number in [-clip, clip]."""
    values = np.asarray(differences, dtype=np.float64)
    outside = ~(np.abs(values) <= clip)  # written so that NaN counts as outside
    if outside.any():
        worst = float(values[outside].flat[0])
        raise BadInput(
            f"differences must lie in [-{clip:g}, {clip:g}]; got {worst!r}. Make them with paired(), which clips."
        )
    return values


def bet_grid(bets: Sequence[float], weights: Sequence[float] | None) -> tuple[Floats, Floats]:
    """Return bets and log weights, both [bet]; ``weights=None`` means equal ones.

    Raises:
        BadInput: no bets, a bet outside (0, 1), or weights that are not positive, as many as the bets and
            of sum 1. Weights of a larger sum would start the game with borrowed money: the error rate
            would grow by the same factor.
    """
    stakes = np.asarray(bets, dtype=np.float64)
    if stakes.ndim != 1 or stakes.size == 0 or not ((stakes > 0) & (stakes < 1)).all():
        raise BadInput(f"bets must be one or more numbers strictly between 0 and 1; got {tuple(bets)!r}.")
    if weights is None:
        return stakes, np.full(stakes.size, -math.log(stakes.size))
    shares = np.asarray(weights, dtype=np.float64)
    if shares.shape != stakes.shape or not (shares > 0).all() or abs(math.fsum(weights) - 1) > 1e-9:
        raise BadInput(f"weights must be {stakes.size} positive numbers of sum 1, one per bet; got {tuple(weights)!r}.")
    return stakes, np.log(shares)
