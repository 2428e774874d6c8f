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


def found(design: Design, dims: Dims) -> tuple[Cut | None, str | None]:
    """Return what makes q, k and v, if it is that simple, and the matrix that 1 / root can go into."""
    simple = cut(design, dims)
    return simple, scales(design, dims) if simple is None else simple.scales


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
    simple, name = found(design, dims)
    factor = 1.0 if name is None else 1 / scoring.root
    if simple is not None and core.only_numbers():
        made = _products(simple, weights, x.flatten(0, -2), factor)
    else:
        if name is not None and x.shape[:-1].numel() > max(FEW, weights[name].shape[0]):
            weights = {**weights, name: weights[name] * factor}
        else:
            factor = 1.0
        if simple is None:
            q, memory = design.project(weights, x, dims, positions)
            return q, *design.recall(weights, memory, dims), scoring if factor == 1 else scoring.without_root()
        made = {each: x @ weights[each] for each in dict.fromkeys(simple.names) if each != X}
    made[X] = x
    q, k, v = (_heads(made[each], count, x.shape[:-1]) for each, count in zip(simple.names, simple.heads, strict=True))
    return q, k, v, scoring if factor == 1 else scoring.without_root()


def _products(simple: Cut, weights: dict[str, Tensor], x: Tensor, factor: float) -> dict[str, Tensor]:
    # (n, d) times every matrix once, one of them also by the factor, without gradients, which would be scaled apart
    names = [name for name in dict.fromkeys(simple.names) if name != X]
    parts = [weights[name] for name in names]
    if x.dtype == torch.bfloat16 and x.numel() > sum(map(Tensor.numel, parts)) and len(parts) > 1:
        # fast products wait for x: it is read once, which takes less time than to put the matrices side by side
        side_by_side = torch.cat(
            [p * factor if n == simple.scales else p for n, p in zip(names, parts, strict=True)], 1
        )
        made = torch.mm(x, side_by_side).split_with_sizes([part.shape[1] for part in parts], 1)
        return dict(zip(names, made, strict=True))
    return {
        name: torch.addmm(x.new_empty(()), x, weight, beta=0, alpha=factor if name == simple.scales else 1.0)
        for name, weight in zip(names, parts, strict=True)
    }


def _heads(part: Tensor, count: int, front: torch.Size) -> Tensor:
    # (n, columns) or (..., t, columns) -> (..., heads, t, c)
    return part.view(*front, count, part.shape[-1] // count).transpose(-3, -2)


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
