"""Attention layers of others at their best settings, with the weights of one of ours, so that all compute the same.

Each peer has `forward(x, causal)` and `decode(tokens)`, which returns a call that makes one more token with so many in
its own cache, or None where the library has none. The cache is filled by the peer's own code and its length set back,
so that every timed call is the same step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qkvlab import Attention

Step = Callable[[Tensor], Tensor]


class Ours:
    """The layer of this package, as who serves it has it: prepared; or as it comes."""

    def __init__(self, layer: Attention, *, prepared: bool = True) -> None:
        self.module = layer.prepare() if prepared else layer
        self.name = "qkvlab" if prepared else "qkvlab as it comes"

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        return self.module(x, causal=causal)

    def decode(self, context: Tensor) -> Step:
        cache = self.module.new_cache(context.shape[0], context.shape[1] + 1)
        self.module.step(context, cache)

        def step(x: Tensor) -> Tensor:
            cache.truncate(context.shape[1])
            return self.module.step(x, cache)

        return step


class HandWritten:
    """What a careful engineer writes: one product for q, k and v, the fused kernel, a cache (b, h, m, c) in place."""

    name = "fused SDPA by hand"

    def __init__(self, layer: Attention) -> None:
        module = nn.Module()
        d, h = layer.dims.d_model, layer.dims.heads
        module.qkv = nn.Linear(d, 3 * d, bias=False)
        module.out = nn.Linear(d, d, bias=False)
        weights = layer.projections.weights
        _fill(module.qkv, torch.cat([weights[name] for name in "qkv"], 1).T)
        _fill(module.out, layer.out.weight)
        self.module, self.heads = module.to(layer.out.weight), h

    def _made(self, x: Tensor) -> tuple[Tensor, ...]:
        b, t, _ = x.shape
        return tuple(part.view(b, t, self.heads, -1).transpose(1, 2) for part in self.module.qkv(x).chunk(3, dim=-1))

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        q, k, v = self._made(x)
        heads = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return self.module.out(heads.transpose(1, 2).reshape(x.shape))

    def decode(self, context: Tensor) -> Step:
        b, n, d = context.shape
        keys, values = (context.new_zeros(b, self.heads, n + 1, d // self.heads) for _ in range(2))
        with torch.no_grad():
            _, keys[:, :, :n], values[:, :, :n] = self._made(context)

        def step(x: Tensor) -> Tensor:
            q, k, v = self._made(x)
            keys[:, :, n : n + 1] = k
            values[:, :, n : n + 1] = v
            heads = F.scaled_dot_product_attention(q, keys[:, :, : n + 1], values[:, :, : n + 1])
            return self.module.out(heads.transpose(1, 2).reshape(x.shape))

        return step


class Torch:
    """`nn.MultiheadAttention`, without the weights that nobody asked for; it has no cache."""

    name = "nn.MultiheadAttention"

    def __init__(self, layer: Attention) -> None:
        module = nn.MultiheadAttention(layer.dims.d_model, layer.dims.heads, bias=False, batch_first=True)
        with torch.no_grad():
            module.in_proj_weight.copy_(torch.cat([layer.projections.weights[name] for name in "qkv"], 1).T)
        _fill(module.out_proj, layer.out.weight)
        self.module = module.to(layer.out.weight)
        self._masks: dict[int, Tensor] = {}

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        mask = self._masks.setdefault(x.shape[1], _upper(x.shape[1]).to(x.device)) if causal else None
        return self.module(x, x, x, need_weights=False, attn_mask=mask, is_causal=causal)[0]

    def decode(self, context: Tensor) -> None:
        return None


class XTransformers:
    """`x_transformers.Attention` with flash; its own cache grows by concatenation."""

    name = "x-transformers"

    def __init__(self, layer: Attention) -> None:
        from x_transformers.x_transformers import Attention as Theirs

        dims = layer.dims
        # whether it is causal is settled when it is built; both share one set of weights
        self.module, self._free = (
            Theirs(dims.d_model, dim_head=dims.d_head, heads=dims.heads, flash=True, causal=causal)
            for causal in (True, False)
        )
        for name, linear in (("q", self.module.to_q), ("k", self.module.to_k), ("v", self.module.to_v)):
            _fill(linear, layer.projections.weights[name].T)
        _fill(self.module.to_out, layer.out.weight)
        self.module.to(layer.out.weight).eval()
        self._free.to(layer.out.weight)
        for name in ("to_q", "to_k", "to_v", "to_out"):
            setattr(self._free, name, getattr(self.module, name))
        self._free.eval()

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        return (self.module if causal else self._free)(x)

    def decode(self, context: Tensor) -> Step:
        with torch.no_grad():
            kept = self.module(context, return_intermediates=True)[-1]

        def step(x: Tensor) -> Tensor:
            return self.module(x, cache=kept, return_intermediates=True)[0]

        return step


def peers(layer: Attention) -> list[Any]:
    """Return every peer that is installed, with this layer's weights."""
    found: list[Any] = [HandWritten(layer), Torch(layer)]
    try:
        found.append(XTransformers(layer))
    except ModuleNotFoundError:
        print("x-transformers is not installed; python -m pip install -c constraints.txt -e '.[bench]'")
    return found


def _fill(linear: nn.Linear, weight: Tensor) -> None:
    with torch.no_grad():
        linear.weight.copy_(weight)


def _upper(tokens: int) -> Tensor:
    return torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
