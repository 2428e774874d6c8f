"""Attention written from its definition in NumPy, once more and sharing nothing with the layer.

    x (..., t, d)    y (..., s, d)    q (..., h, t, c)    k (..., g, s, c)    v (..., u, s, e)

The yardstick of the tests, and fast enough to run small trained models without PyTorch.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from qkvlab.reference import parts as folder
from qkvlab.reference.definition import Array, Definition, Kind, Places, serving, softmax

__all__ = ["Array", "Steps", "softmax", "trace"]


@dataclass(frozen=True)
class Steps:
    """Every step of one attention layer.

    Attributes:
        q: (..., h, t, c).
        k: (..., g, s, c).
        v: (..., u, s, e).
        scores: (..., h, t, s), scaled, and bent where the design bends them; before mask and softmax.
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
    positions: tuple[Places | None, Places | None] = (None, None),
) -> Steps:
    """Compute one layer step by step, in the precision of its inputs.

    Args:
        name: of the design: three letters or a base, and parts behind slashes (`reference.parts`).
        weights: the matrices by name, rows d_model (``x @ W``), and ``out``, W_O with columns d_model.
        x: the tokens that ask.
        memory_x: the tokens that are asked; x itself unless given.
        heads: query heads h.
        d_head: c.
        kv_heads: g; what the name says, else h.
        allowed: booleans that broadcast to (..., h, t, s), True where a query may look.
        positions: where the tokens of x and of memory_x stand, (t,) or (b, t) each; 0, 1, 2, ... unless given.
    """
    kind, pattern = understood(name)
    definition = kind(pattern, weights, heads=heads, d_head=d_head, kv_heads=kv_heads or heads)
    y = x if memory_x is None else memory_x
    at = np.arange(x.shape[-2]) if positions[0] is None else positions[0]
    of = (np.arange(y.shape[-2]) if positions[1] is None else positions[1]) if memory_x is not None else at
    back = at[..., :, None] - of[..., None, :] if at.ndim == of.ndim else _unequal(at, of)
    back = back if back.ndim == 2 else back[:, None]
    x, y = definition.tokens(x, at), definition.tokens(y, of)
    q, k, v = definition.queries(x, at), definition.keys(y, of), definition.values(y, of)
    scores = definition.scores(q, k, back)
    seen = np.broadcast_to(True if allowed is None else definition.masks(allowed), scores.shape)
    mass = definition.shares(scores, definition.visible(seen, back, memory_x is None))
    mixed = definition.finish(np.einsum("...hts,...hse->...hte", mass, serving(v, q.shape[-3])))
    flat = np.moveaxis(mixed, -3, -2)
    flat = flat.reshape(*flat.shape[:-2], flat.shape[-2] * flat.shape[-1])
    return Steps(q, k, v, scores, mass, definition.out(flat))


def understood(name: str) -> tuple[Kind, str]:
    """Read a name: the kind of definition, and its three letters."""
    for pattern, make in _stated("BASE"):
        whole = re.fullmatch(pattern, name, re.IGNORECASE)
        if whole:
            return make(*whole.groups())
    before, slash, last = name.rpartition("/")
    if not slash:
        return Definition, name.upper()
    kind, letters = understood(before)
    for pattern, change in _stated("PART"):
        part = re.fullmatch(pattern, last, re.IGNORECASE)
        if part:
            return change(kind, *part.groups()), letters
    raise ValueError(f"the reference knows no part {last!r} of {name!r}")


@cache
def _stated(what: str) -> tuple:
    modules: list[ModuleType] = [
        importlib.import_module(f"{folder.__name__}.{found.name}") for found in pkgutil.iter_modules(folder.__path__)
    ]
    return tuple(getattr(module, what) for module in modules if hasattr(module, what))


def _unequal(at: Places, of: Places) -> Places:
    # one of them is the same for every sequence
    return np.atleast_2d(at)[:, :, None] - np.atleast_2d(of)[:, None, :]
