"""Everything that one attention layer computed, for looking and measuring."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from qkvlab.attention.layer import Attention


@dataclass(frozen=True)
class Trace:
    """One forward pass, opened up. What stands in padding counts as nothing: k and v are 0 there.

    Attributes:
        q: (b, h, t, c).
        k: (b, g, s, c).
        v: (b, u, s, e); g and u divide h.
        scores: (b, h, t, s), scaled, and bent where the design bends them; before mask and softmax.
        weights: (b, h, t, s), rows sum to 1, or to 0 where nothing may be seen; to less where a sink takes its share.
        output: (b, t, d), what the layer returns.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    scores: Tensor
    weights: Tensor
    output: Tensor
    _layer: Attention = field(repr=False, compare=False)

    def contributions(self) -> Tensor:
        """What each token s brought to the output of each token t through each head: (b, heads, t, s, d).

        Summed over heads and s it is `output` (less the bias behind W_O, if the design has one).
        """
        layer, weights = self._layer, self.weights
        v = self.v.repeat_interleave(weights.shape[-3] // self.v.shape[-3], dim=-3)
        pieces = weights[..., None] * v[..., None, :, :]  # (b, h, t, s, e)
        # a head's norm, if it has one, is that of the sum
        whole = pieces.sum(-2, keepdim=True).expand_as(pieces).flatten(-3, -2)
        pieces = layer.design.finish(layer.projections.weights, pieces.flatten(-3, -2), layer.dims, whole)
        matrix = layer.out.weight.unflatten(-1, (layer.dims.heads, -1))  # (d, h, e)
        return torch.einsum("...hpe,dhe->...hpd", pieces, matrix).unflatten(-2, weights.shape[-2:])
