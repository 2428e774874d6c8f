"""What happens between q k^T and the weighted sum, where a design says more than softmax(q k^T / sqrt(c))."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from qkvlab.contracts import Dims
from qkvlab.designs.design import Bend, Design, Weights


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How scores are made and shared out.

    Attributes:
        root: what q k^T is divided by.
        bends: what is done to the scores before the mask, in this order.
        sinks: (h,), a logit per head that takes its share and brings nothing.
        dropout: chance that a weight is dropped, the others growing by 1 / (1 - dropout).
    """

    root: float
    bends: tuple[Bend, ...] = ()
    sinks: Tensor | None = None
    dropout: float = 0.0

    @classmethod
    def of(cls, design: Design, dims: Dims, weights: Weights, dropout: float = 0.0) -> Scoring:
        """Return what a design says."""
        bends, sinks = design.bends(weights, dims), design.sinks(weights, dims)
        return cls(root=design.root(dims), bends=bends, sinks=sinks, dropout=dropout)

    def without_root(self) -> Scoring:
        """Return the same for q or k that hold it already."""
        return Scoring(root=1.0, bends=self.bends, sinks=self.sinks, dropout=self.dropout)

    @property
    def fusible(self) -> bool:
        """Whether `scaled_dot_product_attention` can do all of it."""
        return len(self.bends) == 0 and self.sinks is None
