"""``/alibi``: head by head, scores fall by a slope for each token between query and key (2108.12409)."""

from __future__ import annotations

import numpy as np

from qkvlab.reference.definition import Array, Kind, Places


def slopes_of(heads: int) -> list[float]:
    """A geometric series that starts at its own ratio; between powers of two, filled from the next one."""
    if heads & (heads - 1) == 0:
        ratio = 2 ** (-8 / heads)
        return [ratio ** (i + 1) for i in range(heads)]
    smaller = 1
    while 2 * smaller < heads:
        smaller *= 2
    return slopes_of(smaller) + slopes_of(2 * smaller)[::2][: heads - smaller]


def linear_biases(kind: Kind) -> Kind:
    """Take slope times distance from every score."""

    class LinearBiases(kind):
        def scores(self, q: Array, k: Array, back: Places) -> Array:
            scores = np.array(super().scores(q, k, back))
            for head, slope in enumerate(slopes_of(scores.shape[-3])):
                distance = np.where(back < 0, -back, back)
                scores[..., head, :, :] -= slope * (distance if back.ndim == 2 else distance[:, 0])
            return scores

    return LinearBiases


PART = (r"alibi", linear_biases)
