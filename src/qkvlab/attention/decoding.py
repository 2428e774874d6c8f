"""One step of decoding: the next tokens of every sequence, against all that a cache holds.

b batch    h heads    t new tokens    s tokens that they can see
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from qkvlab.attention import core
from qkvlab.attention.cache import Cache
from qkvlab.attention.scoring import Scoring
from qkvlab.attention.visible import Span, Visible
from qkvlab.attention.work import cheaper
from qkvlab.designs import Design
from qkvlab.errors import BadInput

if TYPE_CHECKING:
    from qkvlab.attention.layer import Attention


@torch.no_grad()
def step(layer: Attention, x: Tensor, cache: Cache) -> Tensor:
    """Do what `Attention.step` says: (b, t, d) -> (b, t, d)."""
    if not isinstance(cache, Cache):
        raise BadInput(f"step needs a cache from new_cache of this layer; got {type(cache).__name__}.")
    cache.require(layer, x)
    first, count = len(cache), x.shape[1]
    keys = reach(layer.design, first, count)
    design, weights = cheaper(layer, count, len(keys)), layer.projections.weights
    positions = continued(first, count, x.device)
    q, memory = design.project(weights, x, layer.dims, positions)
    cache.add(memory)
    k, v = cache.recall(layer, design, keys)
    scoring = Scoring(
        root=design.root(layer.dims),
        bends=design.bends(weights, layer.dims),
        sinks=design.sinks(weights, layer.dims),
    )
    attend = core.attend_fused if layer.route == "fused" else core.attend
    heads = attend(q, k, v, visible(design, q, positions, keys), scoring)
    return layer.join(heads, design)


def continued(first: int, count: int, device: torch.device) -> Tensor:
    """Return where the new tokens stand, (t,): behind all that came before."""
    return torch.arange(first, first + count, device=device)


def reach(design: Design, first: int, count: int) -> Span:
    """Return the tokens that the new ones can see at all: a window reads no more than its last tokens.

    Args:
        design: may have a window, and may keep a token from itself.
        first: place of the first new token.
        count: new tokens.
    """
    start = 0 if design.window is None else max(0, first - design.window + 1)
    stop = first + count
    alone = count == 1 and stop - start > 1 and not design.sees_itself
    return Span(start, stop - 1 if alone else stop)


def visible(design: Design, q: Tensor, positions: Tensor, keys: Span) -> Visible:
    """Return who sees whom: a single token sees all that is in `reach`, many do so causally."""
    shape = (*q.shape[:-1], len(keys))
    if q.shape[-2] == 1:
        return Visible(shape=shape, device=q.device, asked=positions - keys.start)
    return Visible(shape=shape, device=q.device, causal="bottom-right", window=design.window, itself=design.sees_itself)
