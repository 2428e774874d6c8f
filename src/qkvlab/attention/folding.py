"""Where 1 / root can go: the matrix by which q grows and nothing else does.

Scaling it costs one pass over a matrix instead of one over q. It is found by watching `project` once on tensors without
numbers, so no design has to declare it and none can be mistaken.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from qkvlab.attention.scoring import Scoring
from qkvlab.contracts import Dims
from qkvlab.designs import Design
from qkvlab.designs.design import Weights, split_heads

FEW = 128
"""Tokens for which a pass over q costs less than a look at what makes it."""
_TOKENS = 2


def folded(
    design: Design, dims: Dims, weights: dict[str, Tensor], x: Tensor, scoring: Scoring
) -> tuple[dict[str, Tensor], Scoring]:
    """Return weights that make q / root, and the scoring that is left, where q has more numbers than its matrix.

    Args:
        design: whose `project` will be called.
        dims: its sizes.
        weights: as they are.
        x: (..., t, d), what it will be called with.
        scoring: with the design's root.
    """
    tokens = 0 if torch.compiler.is_compiling() else x.shape[:-1].numel()  # a compiler joins passes by itself
    name = None if scoring.root == 1 or tokens <= FEW else scales(design, dims)
    if name is None or tokens <= weights[name].shape[0]:
        return weights, scoring
    return {**weights, name: weights[name] * (1 / scoring.root)}, replace(scoring, root=1.0)


@cache
def scales(design: Design, dims: Dims) -> str | None:
    """Name the last matrix that makes q, by a product and a cut into heads, if neither serves anything else.

    What it is multiplied with may be x or anything that other matrices make of x.
    """
    with torch.no_grad(), torch.device("meta"):
        weights = {name: torch.empty(m.rows, m.columns) for name, m in design.matrices(dims).items()}
        x, positions = torch.empty(1, _TOKENS, dims.d_model), torch.arange(_TOKENS)
    try:
        with torch.no_grad(), _Products(weights) as products:
            q, memory = design.project(weights, x, dims, positions)
    except RuntimeError:  # it looks at numbers, or makes tensors elsewhere: more than a product in any case
        return None
    return products.last(q, list(memory.kept.values()))


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

    def last(self, q: Tensor, others: list[Tensor]) -> str | None:
        """Name the matrix whose product is q, cut into heads, if it was used once and the product is not kept."""
        name, made = self._made.get(_storage(q), (None, q))
        if name is None or self._uses[name] != 1 or made._version or any(_storage(o) == _storage(q) for o in others):
            return None
        return name if _is_whole(q, split_heads(made, q.shape[-3])) else None


def _is_whole(part: Tensor, whole: Tensor) -> bool:
    same = _storage(part) == _storage(whole) and part.storage_offset() == whole.storage_offset()
    return same and part.shape == whole.shape and part.stride() == whole.stride()


def _storage(x: Tensor) -> int:
    return x.untyped_storage()._cdata
