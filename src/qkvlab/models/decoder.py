"""The decoder: words in a row, each predicts what follows from what stands before it.

b batch    t token    q asked token    w words    d d_model    n span    l layer
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qkvlab.designs import Design
from qkvlab.models.blocks import Block, norm


class Decoder(nn.Module):
    """Vectors of words, optional positions and a short local mixing, causal blocks, and logits over the same words.

    Args:
        design: how q, k and v are made.
        words: size of the vocabulary.
        tokens: longest input; that many positions are learned. 0 for no positions.
        d_model: width.
        heads: query heads.
        layers: blocks.
        hidden: width of the feed-forward part; 0 for none.
        span: how many tokens, the present one included, a causal depthwise convolution mixes before the first block
            (Poli et al., arXiv 2302.10866); 1 for none.
        learned: whether the vectors of words are trained. Logits are then products with them as they are, since they
            find their own length; given vectors, whose channels have size 1, are divided by the root of the width.
    """

    def __init__(
        self,
        design: Design,
        *,
        words: int,
        tokens: int,
        d_model: int,
        heads: int,
        layers: int,
        hidden: int,
        span: int = 1,
        learned: bool = True,
    ) -> None:
        super().__init__()
        self.words = nn.Parameter(torch.randn(words, d_model), requires_grad=learned)
        self.root = 1.0 if learned else math.sqrt(d_model)
        self.positions = nn.Parameter(torch.randn(tokens, d_model)) if tokens else None
        self.local = nn.Parameter(torch.randn(span - 1, d_model)) if span > 1 else None
        self.blocks = nn.ModuleList(
            Block(design, d_model=d_model, heads=heads, hidden=hidden, causal=True) for _ in range(layers)
        )

    def forward(self, tokens: Tensor, asked: Tensor | None = None) -> Tensor:
        """Whole numbers (b, t) -> logits (b, t, w), or (b, q, w) at the places ``asked`` (b, q)."""
        x = norm(self.embed(tokens))
        last = len(self.blocks) - 1
        for i, block in enumerate(self.blocks):
            x = block(x, only=asked if i == last else None)
        logits = norm(x) @ self.words.mT
        return logits if self.root == 1 else logits / self.root

    def own(self, tokens: Tensor) -> Tensor:
        """Share of heads in which a token's largest weight is strictly its own: (b, t) -> (l, b, t)."""
        x, shares = norm(self.embed(tokens)), []
        for block in self._blocks():
            weights = block.attention.trace(norm(x), causal=True).weights
            mine = weights.diagonal(dim1=-2, dim2=-1)
            others = weights - torch.diag_embed(mine)
            shares.append((mine > others.amax(-1)).float().mean(-2))
            x = block(x)
        return torch.stack(shares)

    def embed(self, tokens: Tensor) -> Tensor:
        """Whole numbers (b, t) -> what the first block reads, (b, t, d)."""
        x = F.embedding(tokens, self.words)
        if self.local is not None:
            shifted = [F.pad(x, (0, 0, n, 0))[..., : x.shape[-2], :] for n in range(1, len(self.local) + 1)]
            x = x + sum(past * weight for past, weight in zip(shifted, self.local, strict=True))
        if self.positions is not None:
            x = x + self.positions[: x.shape[-2]]
        return x

    def _blocks(self) -> list[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]
