"""What happens between q k^T and the weighted sum, where a design says more than softmax(q k^T / sqrt(c))."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from qkvlab.designs.design import Bend


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

    @property
    def fusible(self) -> bool:
        """Whether `scaled_dot_product_attention` can do all of it."""
        return len(self.bends) == 0 and self.sinks is None
