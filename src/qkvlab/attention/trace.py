"""Everything that one attention layer computed, for looking and measuring."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor


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
    _split: Callable[[Tensor, Tensor], Tensor] = field(repr=False, compare=False)

    def contributions(self) -> Tensor:
        """What each token s brought to the output of each token t through each head: (b, heads, t, s, d).

        Summed over heads and s it is `output` (less the bias behind W_O, if the design has one).
        """
        return self._split(self.weights, self.v)
