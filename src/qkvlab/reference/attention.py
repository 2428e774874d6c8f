"""Attention written from its definition in NumPy, once more and sharing nothing with the layer.

    x (..., t, d)    y (..., s, d)    q (..., h, t, c)    k (..., g, s, c)    v (..., g, s, e)

The yardstick of the tests, and fast enough to run small trained models without PyTorch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Steps:
    """Every step of one attention layer.

    Attributes:
        q: (..., h, t, c).
        k: (..., g, s, c).
        v: (..., g, s, e).
        scores: (..., h, t, s), scaled by 1 / sqrt(c), before mask and softmax.
        weights: (..., h, t, s), what each query gives to each key.
        output: (..., t, d).
    """

    q: Array
    k: Array
    v: Array
    scores: Array
    weights: Array
    output: Array


def trace(
    name: str,
    weights: Mapping[str, Array],
    x: Array,
    memory_x: Array | None = None,
    *,
    heads: int,
    d_head: int,
    kv_heads: int | None = None,
    allowed: NDArray[np.bool_] | None = None,
) -> Steps:
    """Compute one layer step by step, in the precision of its inputs.

    Args:
        name: of the design: three letters, ``uniform``, ``frozen`` or ``QDQ``; with or without ``/kv2`` (key heads),
            ``/h16`` (channels of a head), ``/noself`` (no token looks at itself while it sees another).
        weights: the matrices by letter, rows d_model (``x @ W``), and ``out``, W_O with columns d_model.
        x: the tokens that ask.
        memory_x: the tokens that are asked; x itself unless given.
        heads: query heads h.
        d_head: c.
        kv_heads: g; what the name says, else h.
        allowed: booleans that broadcast to (..., h, t, s), True where a query may look.
    """
    letters, *parts = name.split("/")
    numbers = {"".join(filter(str.isalpha, part)): "".join(filter(str.isdigit, part)) for part in parts}
    groups = kv_heads or int(numbers.get("kv", heads))
    d_head = int(numbers.get("h", d_head))
    y = x if memory_x is None else memory_x
    if "noself" in numbers and memory_x is None:
        allowed = _others(x.shape[-2], allowed)
    if letters == "uniform":
        v = _heads(y @ weights["v"], groups)
        q = np.zeros((*x.shape[:-2], heads, x.shape[-2], d_head), x.dtype)
        k = np.zeros((*v.shape[:-1], d_head), y.dtype)
    else:
        of_q, of_k, of_v = {"frozen": "QKV", "QDQ": "QQV"}.get(letters, letters)
        q = _heads(_times(x, of_q, weights), heads)
        k = _heads(_times(y, of_k, weights), groups)
        v = _heads(_times(y, of_v, weights), groups)
        if letters == "QDQ":
            q = q * np.where(np.arange(d_head) % 2 == 0, 1, -1).astype(q.dtype)
    serves = np.arange(heads) * groups // heads  # the key head of each query head
    scores = np.einsum("...htc,...hsc->...hts", q, k[..., serves, :, :]) / q.dtype.type(d_head**0.5)
    mass = softmax(scores, allowed)
    mixed = np.einsum("...hts,...hse->...the", mass, v[..., serves, :, :])
    output = mixed.reshape(*mixed.shape[:-2], heads * v.shape[-1]) @ weights["out"]
    return Steps(q, k, v, scores, mass, output)


def softmax(scores: Array, allowed: NDArray[np.bool_] | None = None) -> Array:
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


def _others(tokens: int, allowed: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    seen = np.ones((tokens, tokens), bool) if allowed is None else np.array(np.broadcast_to(allowed, allowed.shape))
    for t in range(tokens):
        elsewhere = np.delete(seen[..., t, :], t, axis=-1).any(-1)
        seen[..., t, t] &= ~elsewhere
    return seen


def _times(x: Array, letter: str, weights: Mapping[str, Array]) -> Array:
    return x if letter == "X" else x @ weights[letter.lower()]


def _heads(flat: Array, count: int) -> Array:
    # head i owns columns i * size ... (i + 1) * size
    size = flat.shape[-1] // count
    return np.stack([flat[..., i * size : (i + 1) * size] for i in range(count)], axis=-3)
