"""What a step of decoding needs of a layer and only changes with its weights, made once and used while they stand.

x (b, t, d)    first matrices: those that x itself is multiplied with, side by side (d, columns of all)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from qkvlab.attention.direct import direct, first_products
from qkvlab.attention.following import Followed
from qkvlab.attention.scoring import Scoring
from qkvlab.contracts import Memory
from qkvlab.designs import Design
from qkvlab.designs.design import split_heads

if TYPE_CHECKING:
    from qkvlab.attention.layer import Attention


def continued(first: int, x: Tensor) -> Tensor:
    """Return where new tokens stand, (t,): behind all that came before."""
    return torch.arange(first, first + x.shape[1], device=x.device)


class Prepared:
    """The matrices of a layer side by side, so that x is read once; W_Q is divided by the root where that says all.

    It stands as long as every parameter is as it was, see `Followed`.

    Args:
        layer: whose weights.
        design: the layer's, or an equal form of it.
    """

    def __init__(self, layer: Attention, design: Design) -> None:
        self.design, self._weights = design, layer.projections.weights
        self.scoring = Scoring.of(design, layer.dims, self._weights)
        self._followed = Followed(layer)
        first = first_products(design, layer.dims, self._weights)
        self._names = [f"made:{name}" for name in first]
        parts = [self._weights[name] for name in first]
        says = direct(design, layer.dims)
        if says is not None and says.owned and says.asks in first:
            at = first.index(says.asks)
            parts[at] = parts[at] * (1 / self.scoring.root)
            self.scoring = self.scoring.without_root()
        self._columns = [part.shape[-1] for part in parts]
        self._side_by_side = torch.cat(parts, 1) if len(parts) > 1 else None
        if self._side_by_side is not None and self._side_by_side.dtype == torch.bfloat16:
            self._side_by_side = self._side_by_side.T.contiguous().T  # as oneDNN reads few rows fastest; MKL does not
        self._direct = None
        if says is not None and says.owned and self._side_by_side is not None:  # each matrix makes one thing
            heads = design.head_sizes(layer.dims).queries
            self._direct = heads, first.index(says.asks), [(name, first.index(made)) for name, made in says.keeps]

    def stands(self, layer: Attention, design: Design) -> bool:
        """Whether nothing has been written to the layer's parameters since."""
        return self.design is design and self._followed.stands(layer)

    def project(self, layer: Attention, x: Tensor, first: int) -> tuple[Tensor, Memory]:
        """Do what `Design.project` does for tokens of which the first stands at ``first``."""
        if self._side_by_side is None:
            return self.design.project(self._weights, x, layer.dims, continued(first, x))
        made = torch.mm(x.flatten(0, 1), self._side_by_side).view(*x.shape[:2], -1).split_with_sizes(self._columns, -1)
        if self._direct is not None:
            heads, asks, keeps = self._direct
            return split_heads(made[asks], heads), Memory({name: made[at] for name, at in keeps})
        weights = {**self._weights, **dict(zip(self._names, made, strict=True)), "made:x": x}
        return self.design.project(weights, x, layer.dims, continued(first, x))
