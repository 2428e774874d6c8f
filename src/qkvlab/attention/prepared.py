"""What a step of decoding needs of a layer and only changes with its weights, made once and used while they stand.

x (b, t, d)    first matrices: those that x itself is multiplied with, side by side (d, columns of all)
brought (b, t, h e): what the heads brought, side by side
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from qkvlab.attention import few, routes
from qkvlab.attention.direct import direct, first_products
from qkvlab.attention.few import Few
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

    It stands as long as every parameter is as it was, see `Followed`. A layer that takes its own kernels has one for
    these products, too (`few`), and takes the matrices of the joined form of its design, if there is one.

    Args:
        layer: whose weights.
        design: the layer's, or an equal form of it.

    Attributes:
        form: the design, or its joined form.
        scoring: what is left of it for q and k that are made here.
    """

    def __init__(self, layer: Attention, design: Design) -> None:
        self.form, self._asked, self._weights = design, design, layer.projections.weights
        self._own = routes.takes_its_own(layer)
        self._out = self._take_out(layer) if self._own and _is_plain(layer.out) else None
        self._followed, design = Followed(layer, out=self._out is not None), self.form
        self.scoring = Scoring.of(design, layer.dims, self._weights)
        first = first_products(design, layer.dims, self._weights)
        self._names = [f"made:{name}" for name in first]
        parts = [self._weights[name] for name in first]
        says = direct(design, layer.dims)
        if says is not None and says.owned and says.asks in first:
            at = first.index(says.asks)
            parts[at] = parts[at] * (1 / self.scoring.root)
            self.scoring = self.scoring.without_root()
        self._columns = [part.shape[-1] for part in parts]
        self._product: Callable[[Tensor], Tensor] | None = None
        whole = torch.cat(parts, 1) if len(parts) > 1 else parts[0] if parts else None
        if whole is not None and self._own and few.pays(whole):
            self._product = Few(whole).times
        elif whole is not None and (len(parts) > 1 or self.form is not self._asked):
            if whole.dtype == torch.bfloat16:
                whole = whole.T.contiguous().T  # as oneDNN reads few rows fastest; MKL does not
            self._product = partial(_times, whole)
        self._direct = None
        if says is not None and says.owned and self._product is not None:  # each matrix makes one thing
            heads = design.head_sizes(layer.dims).queries
            self._direct = heads, first.index(says.asks), [(name, first.index(made)) for name, made in says.keeps]

    def _take_out(self, layer: Attention) -> Callable[[Tensor], Tensor] | None:
        # what does the product of W_O, if that is not left to the layer; a joined form may have another matrix
        matrix = out = layer.out.weight.detach().T
        joined = self.form.joined(layer.dims)
        if joined is not None:
            out = joined.settle_out(self._weights, matrix, layer.dims)
            self.form, self._weights = joined, joined.settle(self._weights, layer.dims)
        if few.pays(out):
            return Few(out).times
        return None if out is matrix else partial(_times, out)

    def stands(self, layer: Attention, design: Design) -> bool:
        """Whether nothing has been written to the layer's parameters since."""
        same = self._asked is design and self._own == routes.takes_its_own(layer)
        return same and (self._out is None or _is_plain(layer.out)) and self._followed.stands(layer)

    def project(self, layer: Attention, x: Tensor, first: int) -> tuple[Tensor, Memory]:
        """Do what `Design.project` does for tokens of which the first stands at ``first``."""
        if self._product is None:
            return self.form.project(self._weights, x, layer.dims, continued(first, x))
        made = self._product(x.flatten(0, 1)).view(*x.shape[:2], -1).split_with_sizes(self._columns, -1)
        if self._direct is not None:
            heads, asks, keeps = self._direct
            return split_heads(made[asks], heads), Memory({name: made[at] for name, at in keeps})
        weights = {**self._weights, **dict(zip(self._names, made, strict=True)), "made:x": x}
        return self.form.project(weights, x, layer.dims, continued(first, x))

    def out(self, layer: Attention, brought: Tensor) -> Tensor:
        """Do what ``layer.out`` does."""
        if self._out is None:
            return layer.out(brought)
        made, bias = self._out(brought.flatten(0, 1)).view(*brought.shape[:2], -1), layer.out.bias
        return made if bias is None else made.add_(bias)


def _times(matrix: Tensor, x: Tensor) -> Tensor:
    return torch.mm(x, matrix)


def _is_plain(module: nn.Module) -> bool:
    # whether it is x W^T + b and nobody watches or changes that
    if type(module) is not nn.Linear or module._forward_hooks or module._forward_pre_hooks:
        return False
    return not module.weight.is_inference()
