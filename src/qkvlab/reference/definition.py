"""Attention as its definition says, one method for each sentence of it, for parts to change.

x (..., t, d)    y (..., s, d)    q (..., h, t, c)    k (..., g, s, c)    v (..., u, s, e)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Places = NDArray[np.integer]
Mask = NDArray[np.bool_]


class Definition:
    """softmax(q k^T / sqrt(c)) v with q = x W_a, k = y W_b, v = y W_c for the letters a, b, c of a pattern.

    Args:
        pattern: three letters; X is no matrix.
        weights: matrices by name, rows d_model (``x @ W``), and ``out``, W_O with columns d_model.
        heads: query heads h.
        d_head: c.
        kv_heads: g.
    """

    def __init__(self, pattern: str, weights: Mapping[str, Array], *, heads: int, d_head: int, kv_heads: int) -> None:
        self.pattern, self.weights = pattern, weights
        self.heads, self.d_head, self.kv_heads = heads, d_head, kv_heads

    def tokens(self, x: Array, at: Places) -> Array:
        """What stands at places ``at``, (t,) or (b, t), before any matrix."""
        return x

    def times(self, x: Array, name: str) -> Array:
        """X W."""
        return x @ self.weights[name]

    def letter(self, x: Array, letter: str) -> Array:
        """X W for the matrix of a letter."""
        return x if letter == "X" else self.times(x, letter.lower())

    def queries(self, x: Array, at: Places) -> Array:
        return cut(self.letter(x, self.pattern[0]), self.heads)

    def keys(self, y: Array, at: Places) -> Array:
        return cut(self.letter(y, self.pattern[1]), self.kv_heads)

    def values(self, y: Array, at: Places) -> Array:
        return cut(self.letter(y, self.pattern[2]), self.kv_heads)

    def scores(self, q: Array, k: Array, back: Places) -> Array:
        """Scores; ``back`` is the distance from each query back to each key, (t, s) or (b, 1, t, s)."""
        return np.einsum("...htc,...hsc->...hts", q, serving(k, q.shape[-3])) / q.dtype.type(self.root())

    def root(self) -> float:
        """What scores are divided by."""
        return self.d_head**0.5

    def masks(self, allowed: Mask) -> Mask:
        """What is said to each head of q by a mask with one entry, or none, per head of the layer."""
        return allowed

    def visible(self, allowed: Mask, back: Places, own: bool) -> Mask:
        """Who sees whom; ``own`` says that the keys are the queries' own tokens."""
        return allowed

    def shares(self, scores: Array, allowed: Mask) -> Array:
        return softmax(scores, allowed)

    def finish(self, mixed: Array) -> Array:
        """What the heads brought, (..., h, t, e), as W_O reads it."""
        return mixed

    def out(self, flat: Array) -> Array:
        return flat @ self.weights["out"]


def cut(flat: Array, count: int) -> Array:
    """(..., t, count * c) -> (..., count, t, c): head i owns columns i * c ... (i + 1) * c."""
    size = flat.shape[-1] // count
    return np.stack([flat[..., i * size : (i + 1) * size] for i in range(count)], axis=-3)


def serving(each: Array, heads: int) -> Array:
    """The key or value head of each query head: (..., g, s, c) -> (..., h, s, c)."""
    return each[..., np.arange(heads) * each.shape[-3] // heads, :, :]


def softmax(scores: Array, allowed: Mask | None = None) -> Array:
    """Shares over the last axis, which sum to 1; where nothing is allowed, or nothing is there, all are 0.

    >>> softmax(np.array([0.0, 0.0, 9.0]), np.array([True, True, False])).tolist()
    [0.5, 0.5, 0.0]
    """
    seen = np.broadcast_to(True if allowed is None else allowed, scores.shape)
    top = np.max(scores, axis=-1, keepdims=True, where=seen, initial=-np.inf)
    with np.errstate(over="ignore"):  # a score far below the top is exp(-inf) = 0
        powers = np.exp(np.where(seen, scores - np.where(seen, top, 0), -np.inf))
    total = powers.sum(axis=-1, keepdims=True)
    return powers / np.where(total == 0, 1, total)


Kind = Any
"""A class that is a `Definition`; parts make new ones of it."""
