"""How often the sequence is wrong: exactly for laws of two points, by simulation for many others."""

from __future__ import annotations

import math

import numpy as np
import pytest

from qkvlab.evidence import wealth_down, wealth_up


def crossing(high: float, low: float, chance: float, target: float, looks: int) -> float:
    """Exact chance that K+ or K- reaches the target within ``looks``, for D = high with ``chance``, else low.

    The wealth depends on the number of highs only, so that is the state; what has crossed leaves the game.
    """
    mean = chance * high + (1 - chance) * low
    crossed = np.zeros((looks + 1, looks), dtype=bool)  # [highs, look]
    for start in range(0, looks + 1, 100):
        highs = np.arange(start, min(start + 100, looks + 1))[:, None]
        paths = np.where(np.arange(looks) < highs, high, low)  # the order does not matter: highs come first
        crossed[start : start + 100] = np.maximum(wealth_up(paths, mean, 1), wealth_down(paths, mean, 1)) >= target
    alive, lost = np.zeros(looks + 1), 0.0
    alive[0] = 1.0
    for look in range(looks):
        alive[1:] = chance * alive[:-1] + (1 - chance) * alive[1:]
        alive[0] *= 1 - chance
        out = crossed[:, look] & (np.arange(looks + 1) <= look + 1)
        lost += alive[out].sum()
        alive[out] = 0.0
    return lost


def test_fair_coin_crosses_with_the_published_chance() -> None:
    assert crossing(1.0, -1.0, 0.5, 40.0, 1000) == pytest.approx(0.030340, abs=5e-7)


@pytest.mark.parametrize("alpha", [0.05, 0.2])
@pytest.mark.parametrize(
    ("high", "low", "chance"),
    [
        (1, -1, 0.5),
        (1, -1, 0.9),
        (1, -1, 0.02),
        (0.3, -0.1, 0.25),
        (1, 0, 0.01),
        (0.05, -1, 0.97),
        (1, 0.9, 0.5),
    ],
)
def test_two_point_laws_cross_with_at_most_alpha(high: float, low: float, chance: float, alpha: float) -> None:
    found = crossing(high, low, chance, 2 / alpha, 250)
    assert 0 < found <= alpha


def test_the_exact_chance_notices_a_threshold_of_one_over_alpha() -> None:
    # The bound has bite: with alpha not halved between the sides the same coin is wrong about twice as often.
    assert crossing(1.0, -1.0, 0.5, 20.0, 500) > 0.05


def _population(law: str) -> np.ndarray:
    """20 000 equally likely values in [-1, 1]: drawing from them makes their mean the exact truth."""
    u = (np.arange(20_000) + 0.5) / 20_000
    rng = np.random.default_rng(11)
    normal = np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * rng.permutation(u))
    values = {
        "normal": 0.3 * normal,
        "normal, wide": 3 * normal,
        "t2": 0.2 * (2 * u - 1) / np.sqrt(2 * u * (1 - u)),
        "Cauchy": 0.2 * np.tan(np.pi * (u - 0.5)),
        "skewed": 0.2 * (-np.log(u) - 1),
        "skewed to the left": -0.2 * (-np.log(u) - 1),
        "log-normal": 0.1 * (np.exp(1.5 * normal) - 3),
        "two clusters": np.where(u < 0.7, -0.3, 0.6) + 0.05 * normal,
        "rare failures": np.where(u < 0.02, 1.0, -0.02),
        "coin": np.where(u < 0.5, -1.0, 1.0),
        "biased coin": np.where(u < 0.1, -1.0, 1.0),
        "constant": np.full(u.size, 0.25),
        "mostly ties": np.where(u < 0.9, 0.0, rng.permutation(u) - 0.5),
        "uniform": 2 * u - 1,
    }
    return np.clip(values[law], -1, 1)


LAWS = (
    "normal",
    "normal, wide",
    "t2",
    "Cauchy",
    "skewed",
    "skewed to the left",
    "log-normal",
    "two clusters",
    "rare failures",
    "coin",
    "biased coin",
    "constant",
    "mostly ties",
    "uniform",
)


@pytest.mark.parametrize("law", LAWS)
def test_many_laws_are_covered_at_every_look(law: str) -> None:
    alpha, paths = 0.1, 2500
    population = _population(law)
    rng = np.random.default_rng(LAWS.index(law))
    drawn = population[rng.integers(population.size, size=(paths, 100))]
    mean = float(population.mean())
    wealth = np.maximum(wealth_up(drawn, mean, 1), wealth_down(drawn, mean, 1))
    wrong = int((wealth.max(axis=1) > 2 / alpha).sum())
    # Four standard deviations of a binomial count: a rate of 0.124 would be noticed, one of 0.1 would not.
    assert wrong <= paths * alpha + 4 * math.sqrt(paths * alpha * (1 - alpha))
