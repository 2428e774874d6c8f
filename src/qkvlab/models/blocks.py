"""Transformer blocks with any design inside: what encoder and decoder share.

    b batch    t token    n wanted token    d d_model    f hidden

Norms have no gains and no layer has a bias, so every parameter is a matrix and the budget of a design is easy to count.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qkvlab.attention import Attention, Trace, core
from qkvlab.attention.masks import Causal
from qkvlab.designs import Design


def norm(x: Tensor) -> Tensor:
    """Scale every token to root mean square 1 (Zhang & Sennrich, arXiv 1910.07467), without a gain."""
    return F.rms_norm(x, x.shape[-1:])


def at(x: Tensor, places: Tensor) -> Tensor:
    """Tokens at some places: (b, t, d) and (b, n) -> (b, n, d)."""
    return torch.take_along_dim(x, places[..., None], dim=-2)


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)) (pre-norm, Xiong et al., arXiv 2002.04745).

    Args:
        design: how q, k and v are made.
        d_model: width of x.
        heads: query heads.
        hidden: width of the feed-forward part; 0 for none.
        causal: whether a token sees only itself and what stands before it.
    """

    def __init__(self, design: Design, *, d_model: int, heads: int, hidden: int, causal: bool) -> None:
        super().__init__()
        self.causal: Causal = causal
        # a few dozen tokens: plain products are faster than a fused kernel, above all under vmap
        self.attention = Attention(design, d_model=d_model, heads=heads, route="plain")
        self.widen = nn.Linear(d_model, hidden, bias=False) if hidden else None
        self.narrow = nn.Linear(hidden, d_model, bias=False) if hidden else None

    def forward(self, x: Tensor, *, padding: Tensor | None = None, only: Tensor | None = None) -> Tensor:
        """(b, t, d) -> (b, t, d), or (b, n, d) at some places only.

        Args:
            x: (b, t, d).
            padding: (b, t), True for real tokens; None when all are.
            only: (b, n), places whose result is wanted; no other token asks or is fed forward.
        """
        if only is None:
            return self._feed(x + self.attention(norm(x), causal=self.causal, padding=padding))
        memory, asking = self.attention.remember(norm(x)), at(x, only)
        visible = self._visible(x, padding, only)
        brought = self.attention(norm(asking), memory, padding=padding, mask=visible, positions=only)
        return self._feed(asking + brought)

    def trace(self, x: Tensor, *, padding: Tensor | None = None, keys: Tensor | None = None) -> tuple[Tensor, Trace]:
        """Do what `forward` does and keep every step of its attention.

        Args:
            x: (b, t, d).
            padding: (b, t), True for real tokens.
            keys: (b, t), which place's key stands at each place, a permutation; its own unless given. Scores and
                weights are those before this exchange, which moves weights from one value to another.
        """
        trace = self.attention.trace(norm(x), causal=self.causal, padding=padding)
        if keys is None:
            return self._feed(x + trace.output), trace
        # softmax does not know in which order keys stand: with them, whole columns of weights change places
        weights = torch.take_along_dim(trace.weights, keys[:, None, None, :], dim=-1)
        return self._feed(x + self.attention.join(core.mix(weights, trace.v))), trace

    def _visible(self, x: Tensor, padding: Tensor | None, only: Tensor) -> Tensor | None:
        # what the tokens at some places see, (b, 1, n, t): the layer cannot know which tokens of a memory ask
        shape = (len(x), 1, x.shape[-2], x.shape[-2])
        visible = self.attention.visible(shape, x.device, own=True, causal=self.causal, padding=padding)
        allowed = visible.of(visible.all_rows, visible.all_keys)
        if allowed is None:
            return None
        return torch.take_along_dim(allowed.expand(shape), only[:, None, :, None], dim=-2)

    def _feed(self, x: Tensor) -> Tensor:
        if self.widen is None or self.narrow is None:
            return x
        return x + self.narrow(F.gelu(self.widen(norm(x))))
