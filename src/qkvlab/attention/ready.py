"""q, k and v of many tokens without gradients, from matrices that were put side by side once: `Attention.prepare`.

x (..., t, d)    side by side (d, columns of all): every matrix that x itself is multiplied with
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from qkvlab.attention import core
from qkvlab.attention.direct import X, first_products
from qkvlab.attention.following import Followed, can_be_followed
from qkvlab.attention.making import cut_into_heads, found
from qkvlab.attention.scoring import Scoring
from qkvlab.kernels import kernel

if TYPE_CHECKING:
    from qkvlab.attention.layer import Attention


class Ready:
    """The matrices of a layer side by side, so that x is read once, and 1 / root in one of them where it can be.

    Args:
        layer: whose weights, as they are.
    """

    def __init__(self, layer: Attention) -> None:
        self._dims, weights = layer.dims, layer.projections.weights
        self._followed = Followed(layer)
        joined = layer.design.joined(layer.dims)
        self._design = layer.design if joined is None else joined
        if joined is not None:
            with torch.no_grad():
                weights = joined.settle(weights, layer.dims)
        self._plain, name = found(self._design, self._dims)
        self._scoring = Scoring.of(self._design, self._dims, weights)
        if name is not None:
            weights[name] = weights[name].detach() * (1 / self._scoring.root)
            self._scoring = self._scoring.without_root()
        self._weights = weights
        if self._plain is not None:
            self._first = list(self._plain.matrices)
        else:
            self._first = first_products(self._design, self._dims, weights)
        parts = [weights[name].detach() for name in self._first]
        parts += _room(parts) if len(parts) > 1 else []
        self._columns = [part.shape[1] for part in parts]
        self._whole = torch.cat(parts, 1) if len(parts) > 1 else parts[0] if parts else None
        self._places = self._found()

    def stands(self, layer: Attention) -> bool:
        """Whether nothing has been written to the layer's parameters since."""
        return self._followed.stands(layer)

    def make(self, x: Tensor, positions: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Scoring]:
        """Do what `making.make` does of x (..., t, d), whose tokens stand at ``positions``."""
        made: dict[str, Tensor] = {}
        if self._whole is not None:
            whole = torch.mm(x.flatten(0, -2), self._whole)
            if self._places is not None and x.ndim == 3:
                q, k, v = (whole.as_strided(*view) for view in self._views(*x.shape[:2]))
                return q, k, v, self._scoring
            parts = whole.split_with_sizes(self._columns, 1)
            made = dict(zip(self._first, parts, strict=False))  # the last may be nobody's
        if self._plain is not None:
            return *cut_into_heads(self._plain, made, x), self._scoring
        before = {f"made:{name}": part.view(*x.shape[:-1], part.shape[1]) for name, part in made.items()}
        weights = {**self._weights, **before, "made:x": x}
        q, memory = self._design.project(weights, x, self._dims, positions)
        return q, *self._design.recall(weights, memory, self._dims), self._scoring

    def _found(self) -> list[tuple[int, int, int]] | None:
        # (heads, channels of a head, first column) of q, k and v in the product; None where it holds not all of them
        if self._plain is None or any(name == X for name, _ in self._plain.parts):
            return None
        starts = dict(zip(self._first, itertools.accumulate(self._columns, initial=0), strict=False))
        widths = dict(zip(self._first, self._columns, strict=False))
        return [(heads, widths[name] // heads, starts[name]) for name, heads in self._plain.parts]

    def _views(self, b: int, t: int) -> list[tuple[tuple[int, ...], tuple[int, ...], int]]:
        # shape, strides and offset of (b, heads, t, c): one view each, where cutting and turning would be two
        columns = sum(self._columns)
        return [((b, h, t, c), (t * columns, c, columns, 1), start) for h, c, start in self._places or []]


def _room(parts: list[Tensor]) -> list[Tensor]:
    # rows of x times them that stand a multiple of 1 KB apart share few places of a cache: 64 bytes more, if so.
    # PyTorch's kernel for units of bf16 lays out anew what it reads, so the product would only be wider
    size = parts[0].element_size()
    if kernel.has_units(parts[0].dtype):
        return []
    whole = size * sum(part.shape[1] for part in parts)
    return [parts[0].new_zeros(parts[0].shape[0], 64 // size)] if whole % 1024 == 0 else []


class Preparation:
    """A layer's `Ready`, made when first needed and made anew when a parameter was written to; copies have none."""

    def __init__(self) -> None:
        self._made: Ready | None = None

    def of(self, layer: Attention, x: Tensor) -> Ready | None:
        """Return it, or None where more than numbers is asked for, or writing to a parameter would not be seen."""
        if not core.only_numbers() or torch.is_autocast_enabled(x.device.type) or (layer.training and layer.dropout):
            return None
        if self._made is None or not self._made.stands(layer):
            self._made = Ready(layer) if can_be_followed(layer) else None
        return self._made

    def __getstate__(self) -> dict[str, None]:
        return {"_made": None}
