"""The encoder: all words of a sentence look at all; at each verb it names the nouns that play its roles.

b sentence    t token    v asked token    r role    n noun    d d_model    l layer    h head    c channel
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qkvlab.attention import Trace
from qkvlab.designs import Design
from qkvlab.models.blocks import Block, at, norm


class Encoder(nn.Module):
    """Vectors of words, optional positions, blocks, and logits over nouns for each role. Token 0 is padding.

    Args:
        design: how q, k and v are made.
        words: size of the vocabulary, padding included.
        nouns: how many answers there are.
        roles: questions that are asked at a token.
        tokens: longest input; that many positions are learned. 0 for no positions.
        d_model: width.
        heads: query heads.
        layers: blocks.
        hidden: width of the feed-forward part; 0 for none.
    """

    def __init__(
        self,
        design: Design,
        *,
        words: int,
        nouns: int,
        roles: int,
        tokens: int,
        d_model: int,
        heads: int,
        layers: int,
        hidden: int,
    ) -> None:
        super().__init__()
        self.words = nn.Parameter(torch.randn(words, d_model))
        self.positions = nn.Parameter(torch.randn(tokens, d_model)) if tokens else None
        self.blocks = nn.ModuleList(
            Block(design, d_model=d_model, heads=heads, hidden=hidden, causal=False) for _ in range(layers)
        )
        self.names = nn.Linear(d_model, roles * nouns, bias=False)
        self.roles = roles

    def forward(self, tokens: Tensor, asked: Tensor) -> Tensor:
        """Words (b, t) and the places of verbs (b, v) -> logits (b, v, r, n)."""
        x, real = self._embed(tokens), tokens != 0
        *first, last = self.blocks
        for block in first:
            x = block(x, padding=real)
        return self._name(last(x, padding=real, only=asked))

    def exchanged(self, tokens: Tensor, asked: Tensor, keys: Tensor) -> Tensor:
        """Do what `forward` does while, in every layer, place s carries the key of place ``keys[s]``, (b, t)."""
        x, real = self._embed(tokens), tokens != 0
        for block in self._blocks():
            x, _ = block.trace(x, padding=real, keys=keys)
        return self._name(at(x, asked))

    def weights(self, tokens: Tensor) -> Tensor:
        """Attention of every layer: (l, b, h, t, t)."""
        return torch.stack([trace.weights for trace in self._traces(tokens)])

    def keys_and_values(self, tokens: Tensor) -> Tensor:
        """Keys, then values, of every layer, heads side by side: (2, l, b, t, h c)."""
        traces = self._traces(tokens)
        made = [[trace.k for trace in traces], [trace.v for trace in traces]]
        return torch.stack([torch.stack([a.swapaxes(-3, -2).flatten(-2) for a in row]) for row in made])

    def _traces(self, tokens: Tensor) -> list[Trace]:
        x, real, traces = self._embed(tokens), tokens != 0, []
        for block in self._blocks():
            x, trace = block.trace(x, padding=real)
            traces.append(trace)
        return traces

    def _blocks(self) -> list[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]

    def _embed(self, tokens: Tensor) -> Tensor:
        x = F.embedding(tokens, self.words)
        if self.positions is not None:
            x = x + self.positions[: x.shape[-2]]
        return norm(x)

    def _name(self, verbs: Tensor) -> Tensor:
        return self.names(norm(verbs)).unflatten(-1, (self.roles, -1))
