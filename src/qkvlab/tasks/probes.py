"""What trained models hold inside, as numbers: rows that look at themselves, attention on a place, linear probes."""

from __future__ import annotations

import numpy as np

RIDGE = 1e-2
"""Penalty of the probes, as a share of the mean variance of a channel."""


def own_share(weights: np.ndarray, real: np.ndarray) -> float:
    """Share of rows, over heads and real tokens, in which a token gives itself more than anything else.

    Equal weights are no preference: a row whose largest weight is shared does not count.

    Args:
        weights: (b, h, t, t).
        real: (b, t), False in padding.
    """
    t = weights.shape[-1]
    own = np.diagonal(weights, axis1=-2, axis2=-1)
    others = np.where(np.eye(t, dtype=bool), -np.inf, weights).max(-1)
    return float((own > others).swapaxes(1, 2)[real].mean())


def probe(x: np.ndarray, labels: np.ndarray) -> float:
    """Accuracy, on the second half of the rows, of a linear reader that was fitted to the first.

    Ridge regression on indicators of the classes, channels centred; the largest answer wins.

    Args:
        x: (n, c); rows must stand in no order that the labels know of.
        labels: (n,), whole numbers.
    """
    half = len(x) // 2
    x = x.astype(np.float64)
    mean = x[:half].mean(0)
    seen, asked = x[:half] - mean, x[half:] - mean
    classes = np.unique(labels)
    wanted = (labels[:half, None] == classes).astype(np.float64)
    covariance = seen.T @ seen / half
    penalty = RIDGE * np.trace(covariance) / len(covariance) + np.finfo(np.float64).tiny
    offset = wanted.mean(0)
    matrix = np.linalg.solve(covariance + penalty * np.eye(len(covariance)), seen.T @ (wanted - offset) / half)
    return float((classes[(asked @ matrix + offset).argmax(1)] == labels[half:]).mean())
