"""The speller: which character comes next, from the last few ones looked up and from all others through attention.

b batch    t token    c classes    d d_model    n grams    u bucket    l layer    h head
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qkvlab.designs import Design
from qkvlab.models.blocks import Block, norm

_MIX = 1_000_003
"""Multiplier of the hash; odd and larger than any alphabet."""


class Speller(nn.Module):
    """Vectors of characters, hashed n-grams and positions, causal blocks, and logits over the same characters.

    The vectors of hashed n-grams (as in Pagnoni et al., arXiv 2412.09871) give for a look-up what several layers
    would have to learn: which characters stood just before. All designs get them alike.

    Args:
        design: how q, k and v are made.
        classes: size of the alphabet.
        tokens: longest input; that many positions are learned.
        d_model: width.
        heads: query heads.
        layers: blocks.
        hidden: width of the feed-forward part.
        grams: longest n-gram that is looked up; 1 for none.
        buckets: how many vectors the n-grams of one length share.
    """

    def __init__(
        self,
        design: Design,
        *,
        classes: int,
        tokens: int,
        d_model: int,
        heads: int,
        layers: int,
        hidden: int,
        grams: int,
        buckets: int,
    ) -> None:
        super().__init__()
        self.buckets = buckets
        self.characters = nn.Parameter(torch.randn(classes, d_model))
        self.positions = nn.Parameter(torch.randn(tokens, d_model))
        self.grams = nn.ParameterList(torch.randn(buckets, d_model) for _ in range(2, grams + 1))
        self.blocks = nn.ModuleList(
            Block(design, d_model=d_model, heads=heads, hidden=hidden, causal=True) for _ in range(layers)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Whole numbers (b, t) -> logits of what follows each, (b, t, c)."""
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)
        return norm(x) @ self.characters.mT

    def embed(self, tokens: Tensor) -> Tensor:
        """Whole numbers (b, t) -> what the first block reads, (b, t, d)."""
        x = F.embedding(tokens, self.characters)
        gram = tokens
        for back, table in enumerate(self.grams, start=1):
            gram = gram * _MIX + _past(tokens, back)
            x = x + F.embedding(gram % self.buckets, table)
        return norm(x + self.positions[: tokens.shape[-1]])

    def nats(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Negative log-probability of each target: (b, t), (b, t) -> (b, t)."""
        return F.cross_entropy(self(tokens).mT, targets, reduction="none")

    def own(self, tokens: Tensor) -> Tensor:
        """Whether a row's largest weight is strictly its own, mean over heads: (b, t) -> (l, b, t)."""
        x, rows = self.embed(tokens), []
        for block in self.blocks:
            assert isinstance(block, Block)
            weights = block.attention.trace(norm(x), causal=True).weights
            mine = weights.diagonal(dim1=-2, dim2=-1)
            others = weights - torch.diag_embed(mine)
            rows.append((mine > others.amax(-1)).float().mean(-2))
            x = block(x)
        return torch.stack(rows)


def _past(x: Tensor, n: int) -> Tensor:
    # what stood n places before, 0 at the beginning: (..., t) -> (..., t)
    return F.pad(x, (n, 0))[..., : x.shape[-1]]
