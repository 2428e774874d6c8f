"""Where 1 / root can go: the matrix by which q, or else k, grows and nothing else does.

Its product then takes no more time than without, or the matrix is scaled, one pass over it instead of one over q. It is
found by watching `project` and `recall` once on tensors without numbers, so no design has to declare it and none can be
mistaken.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from qkvlab.attention import core
from qkvlab.attention.direct import Cut, X, cut
from qkvlab.attention.scoring import Scoring
from qkvlab.contracts import Dims
from qkvlab.designs import Design
from qkvlab.designs.design import Weights, split_heads

FEW = 128
"""Tokens for which a pass over q costs less than one over its matrix."""
_TOKENS = 2


def look(
    design: Design, dims: Dims, weights: dict[str, Tensor], x: Tensor, positions: Tensor | None, scoring: Scoring
) -> tuple[Tensor, Tensor, Tensor, Scoring]:
    """Make q, k and v of x, with 1 / root in them where that is cheaper, and return the scoring that is left.

    Args:
        design: says how.
        dims: its sizes.
        weights: as they are.
        x: (..., t, d).
        positions: where its tokens stand.
        scoring: with the design's root.
    """
    if torch.compiler.is_compiling():  # a compiler joins passes by itself
        q, memory = design.project(weights, x, dims, positions)
        return q, *design.recall(weights, memory, dims), scoring
    found = cut(design, dims)
    name = scales(design, dims) if found is None else found.scales
    factor, made = 1 / scoring.root, dict[str, Tensor]()
    if name is None or factor == 1:
        factor = 1.0
    elif found is not None and core.only_numbers():  # a gradient would be scaled in passes of its own
        made[name] = torch.addmm(x.new_empty(()), x.flatten(0, -2), weights[name], beta=0, alpha=factor)
    elif x.shape[:-1].numel() > max(FEW, weights[name].shape[0]):
        weights = {**weights, name: weights[name] * factor}
    else:
        factor = 1.0
    left = scoring if factor == 1 else scoring.without_root()
    if found is None:
        q, memory = design.project(weights, x, dims, positions)
        return q, *design.recall(weights, memory, dims), left
    return *_heads(found, weights, x, made), left


def _heads(found: Cut, weights: dict[str, Tensor], x: Tensor, made: dict[str, Tensor]) -> list[Tensor]:
    # x times every matrix once, cut into heads
    front, flat = x.shape[:-1], x.flatten(0, -2)
    heads = []
    for name, count in zip(found.names, found.heads, strict=True):
        if name == X:
            part = x
        else:
            part = made.get(name)
            if part is None:
                part = made[name] = torch.mm(flat, weights[name])
        heads.append(part.view(*front, count, part.shape[-1] // count).transpose(-3, -2))
    return heads


@cache
def scales(design: Design, dims: Dims) -> str | None:
    """Name the last matrix that makes q, by a product and a cut into heads, if neither serves anything else; else of k.

    What it is multiplied with may be x or anything that other matrices make of x.
    """
    with torch.no_grad(), torch.device("meta"):
        weights = {name: torch.empty(m.rows, m.columns) for name, m in design.matrices(dims).items()}
        x, positions = torch.empty(1, _TOKENS, dims.d_model), torch.arange(_TOKENS)
    try:
        with torch.no_grad(), _Products(weights) as products:
            q, memory = design.project(weights, x, dims, positions)
            k, v = design.recall(weights, memory, dims)
    except RuntimeError:  # it looks at numbers, or makes tensors elsewhere: more than a product in any case
        return None
    return products.last(q, [*memory.kept.values(), k, v]) or products.last(k, [q, v])


class _Products(TorchFunctionMode):
    """Remembers what is something times a whole matrix, as long as it is only viewed."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self._weights = weights
        self._uses = dict.fromkeys(weights, 0)
        self._made: dict[int, tuple[str, Tensor]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        read = [_storage(each) for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        new = [each for each in tree_leaves(made) if isinstance(each, Tensor) and _storage(each) not in read]
        if not new:  # a view, a shape, or written into, which `_version` tells
            return made
        for each in read:
            self._made.pop(each, None)
        for name, weight in self._weights.items():
            self._uses[name] += read.count(_storage(weight))
            if func in (Tensor.matmul, torch.matmul, Tensor.__matmul__) and _is_whole(args[1], weight):
                self._made[_storage(made)] = name, made
        return made

    def last(self, part: Tensor, others: list[Tensor]) -> str | None:
        """Name the matrix whose product is this, cut into heads, if it was used once and is none of the others."""
        name, made = self._made.get(_storage(part), (None, part))
        if name is None or self._uses[name] != 1 or made._version or any(_storage(o) == _storage(part) for o in others):
            return None
        return name if _is_whole(part, split_heads(made, part.shape[-3])) else None


def _is_whole(part: Tensor, whole: Tensor) -> bool:
    same = _storage(part) == _storage(whole) and part.storage_offset() == whole.storage_offset()
    return same and part.shape == whole.shape and part.stride() == whole.stride()


def _storage(x: Tensor) -> int:
    return x.untyped_storage()._cdata
