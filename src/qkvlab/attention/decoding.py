"""One step of decoding: the next tokens of every sequence, against all that a cache holds.

b batch    h heads    t new tokens    s tokens that they can see
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from qkvlab.attention import prepared, routes
from qkvlab.attention.cache import Cache
from qkvlab.attention.scoring import Scoring
from qkvlab.attention.visible import Span, Visible
from qkvlab.designs import Design
from qkvlab.designs.work import cheaper, reach
from qkvlab.errors import BadInput

if TYPE_CHECKING:
    from qkvlab.attention.layer import Attention


@torch.no_grad()
def step(layer: Attention, x: Tensor, cache: Cache) -> Tensor:
    """Do what `Attention.step` says: (b, t, d) -> (b, t, d)."""
    if not isinstance(cache, Cache):
        raise BadInput(f"step needs a cache from new_cache of this layer; got {type(cache).__name__}.")
    layer.require_tokens(x)
    cache.require(layer, x)
    first, count = len(cache), x.shape[1]
    seen = reach(layer.design, first, count)
    keys = Span(seen.start, seen.stop)
    design = cheaper(layer.design, cache.absorbed, layer.dims, count, len(keys))
    ready = cache.prepared(layer, design)
    form = design if ready is None else ready.form
    if ready is None:
        weights = layer.projections.weights
        scoring = Scoring.of(design, layer.dims, weights)
        q, memory = design.project(weights, x, layer.dims, prepared.continued(first, x))
    else:
        scoring = ready.scoring
        q, memory = ready.project(layer, x, first)
    cache.add(memory)
    k, v = cache.recall(layer, form, keys)
    if count == 1 and routes.has_kernels(layer, q, scoring):
        heads = routes.attend_one(layer, q, k, v, scoring)
    else:
        heads = routes.attend(layer, q, k, v, visible(design, q, first, keys), scoring)
    brought = layer.brought(heads, form)
    return layer.out(brought) if ready is None else ready.out(layer, brought)


def visible(design: Design, q: Tensor, first: int, keys: Span) -> Visible:
    """Return who sees whom: a single token sees all that is in `reach`, many do so causally."""
    shape = (*q.shape[:-1], len(keys))
    if q.shape[-2] == 1:
        return Visible(shape=shape, device=q.device, asked=torch.full((1,), first - keys.start, device=q.device))
    return Visible(shape=shape, device=q.device, causal="bottom-right", window=design.window, itself=design.sees_itself)
