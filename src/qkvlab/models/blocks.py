"""Transformer blocks with any design inside: what encoder and decoder share.

    b batch    t token    q asked token    d d_model    f hidden

Norms have no gains and no layer has a bias, so every parameter is a matrix and the budget of a design is easy to count.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qkvlab.attention import Attention
from qkvlab.attention.masks import Causal, combine, without_self
from qkvlab.designs import Design


def norm(x: Tensor) -> Tensor:
    """Scale every token to root mean square 1 (Zhang & Sennrich, arXiv 1910.07467), without a gain."""
    return F.rms_norm(x, x.shape[-1:])


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

    def forward(self, x: Tensor) -> Tensor:
        """(b, t, d) -> (b, t, d)."""
        return self._feed(x + self.attention(norm(x), causal=self.causal))

    def at(self, x: Tensor, asked: Tensor) -> Tensor:
        """Do what `forward` does for the tokens at the places ``asked`` alone: (b, t, d), (b, q) -> (b, q, d)."""
        tokens = x.shape[-2]
        allowed = combine((tokens, tokens), causal=self.causal, padding=None, mask=None, device=x.device)
        if not self.attention.design.sees_itself:  # the layer cannot know which tokens of a memory ask
            allowed = without_self(allowed, tokens, x.device)
        memory = self.attention.remember(norm(x))
        x = torch.take_along_dim(x, asked[..., None], dim=-2)
        return self._feed(
            x + self.attention(norm(x), memory, mask=None if allowed is None else allowed[asked][..., None, :, :])
        )

    def _feed(self, x: Tensor) -> Tensor:
        if self.widen is None or self.narrow is None:
            return x
        return x + self.narrow(F.gelu(self.widen(norm(x))))
