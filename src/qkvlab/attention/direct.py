"""Designs that multiply x with one matrix for each of q, k and v, or for q and memory, and do nothing else.

Found by watching `project` once on tensors without numbers, so no design has to declare it and none can be mistaken.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from qkvlab.attention.watching import BATCH, as_elsewhere, is_whole, storage, without_numbers
from qkvlab.contracts import Dims
from qkvlab.designs import Design
from qkvlab.designs.design import Weights, split_heads

X = "x itself"


@dataclass(frozen=True)
class Cut:
    """Which matrices make q, k and v.

    Attributes:
        parts: of q, k and v the matrix that x is multiplied with, or `X`, and the heads that it is cut into.
        matrices: each once.
        scales: the one by which q, or else k, grows and nothing else does.
    """

    parts: tuple[tuple[str, int], ...]
    matrices: tuple[str, ...]
    scales: str | None


@dataclass(frozen=True)
class Direct:
    """Which matrices make what.

    Attributes:
        asks: q is x times this one, cut into heads.
        keeps: each kept array and the matrix that x is multiplied with to make it.
    """

    asks: str
    keeps: tuple[tuple[str, str], ...]

    @property
    def owned(self) -> bool:
        """Whether the matrix of q makes nothing else, so that it may be scaled."""
        return all(name != self.asks for _, name in self.keeps)


@cache
@as_elsewhere
def cut(design: Design, dims: Dims) -> Cut | None:
    """Find what makes q, k and v, or None where more is done to x or to what was made of it."""
    weights, x, positions = without_numbers(design, dims)
    try:
        with _Products(x, weights) as products:
            q, memory = design.project(weights, x, dims, positions)
            made = q, *design.recall(weights, memory, dims)
    except RuntimeError:  # it looks at numbers, or makes tensors elsewhere: more than a product in any case
        return None
    names = [products.maker(part, part.shape[-3]) for part in made]
    parts = tuple((name, part.shape[-3]) for name, part in zip(names, made, strict=True) if name is not None)
    if len(parts) < len(made):
        return None
    matrices = tuple(name for name, _ in parts if name != X)
    alone = [name for name, _ in parts[:2] if matrices.count(name) == 1]
    return Cut(parts, tuple(dict.fromkeys(matrices)), alone[0] if alone else None)


@cache
@as_elsewhere
def direct(design: Design, dims: Dims) -> Direct | None:
    """Find what makes q and memory, or None where more is done to x or to what was made of it, or x itself is kept."""
    weights, x, positions = without_numbers(design, dims)
    try:
        with _Products(x, weights) as products:
            q, memory = design.project(weights, x, dims, positions)
    except RuntimeError:
        return None
    asks = products.maker(q, q.shape[-3])
    keeps = tuple((name, products.maker(kept, None)) for name, kept in memory.kept.items())
    if any(made in (None, X) for made in (asks, *(made for _, made in keeps))) or asks is None:
        return None
    return Direct(asks, tuple((name, made) for name, made in keeps if made is not None))


@cache
@as_elsewhere
def multiplied(design: Design, dims: Dims) -> frozenset[str]:
    """Find the matrices that x itself passes by `times`: none where a part changes x first."""
    asked = set[str]()

    class Watched(dict[str, Tensor]):
        def __getitem__(self, name: str) -> Tensor:
            asked.add(name)
            return super().__getitem__(name)

    weights, x, positions = without_numbers(design, dims)
    made = {f"made:{name}": x.new_empty(*x.shape[:-1], weight.shape[-1]) for name, weight in weights.items()}
    try:
        design.project(Watched({**weights, **made, "made:x": x}), x, dims, positions)
    except RuntimeError:  # it looks at numbers, or makes tensors elsewhere: take none of its products beforehand
        return frozenset()
    return frozenset(name for name in weights if f"made:{name}" in asked)


def first_products(design: Design, dims: Dims, weights: Weights) -> list[str]:
    """Name the matrices that x itself passes in a layer with these weights: the first of two where there are two."""
    passed = multiplied(design, dims)
    names = (f"{name}_down" if f"{name}_down" in weights else name for name in design.products(dims))
    return [name for name in names if name in passed]


class _Products(TorchDispatchMode):
    """Remembers which tensor is x times which matrix, as long as nobody writes into it."""

    def __init__(self, x: Tensor, weights: Weights) -> None:
        super().__init__()
        self._x, self._weights = x.flatten(0, 1), weights
        self._made: dict[int, tuple[str, Tensor]] = {storage(x): (X, self._x)}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if func._schema.is_mutable:
            for each in args:
                if isinstance(each, Tensor):
                    self._made.pop(storage(each), None)
        if func is torch.ops.aten.mm.default and is_whole(args[0], self._x):
            for name, weight in self._weights.items():
                if is_whole(args[1], weight):
                    self._made[storage(made)] = name, made
        return made

    def maker(self, part: Tensor, heads: int | None) -> str | None:
        """Name the matrix whose product with x this is, cut into heads unless None."""
        name, made = self._made.get(storage(part), (None, part))
        if name is None:
            return None
        whole = made.unflatten(0, (BATCH, -1))
        return name if is_whole(part, whole if heads is None else split_heads(whole, heads)) else None
