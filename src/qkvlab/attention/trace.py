"""Everything that one attention layer computed, for looking and measuring."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Trace:
    """One forward pass, opened up. What stands in padding counts as nothing: k, v and scores are 0 there.

    Attributes:
        q: (b, h, t, c).
        k: (b, g, s, c).
        v: (b, g, s, e).
        scores: (b, h, t, s), scaled by 1 / sqrt(c); before mask and softmax.
        weights: (b, h, t, s), rows sum to 1, or to 0 where nothing may be seen.
        output: (b, t, d), what the layer returns.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    scores: Tensor
    weights: Tensor
    output: Tensor
