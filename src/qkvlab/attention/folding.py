"""Where 1 / root can go: the matrix by which q, or else k, grows and nothing else does.

Its product then takes no more time than without it, or the matrix is scaled: one pass over it instead of one over q. It
is found by watching `project` and `recall` once on tensors without numbers, so no design has to declare it and none can
be mistaken.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from qkvlab.attention.watching import as_elsewhere, is_whole, storage, without_numbers
from qkvlab.contracts import Dims
from qkvlab.designs import Design
from qkvlab.designs.design import Weights, split_heads


@cache
@as_elsewhere
def scales(design: Design, dims: Dims) -> str | None:
    """Name the last matrix that makes q, by a product and a cut into heads, if neither serves anything else; else of k.

    What it is multiplied with may be x or anything that other matrices make of x.
    """
    weights, x, positions = without_numbers(design, dims)
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
        read = [storage(each) for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        new = [each for each in tree_leaves(made) if isinstance(each, Tensor) and storage(each) not in read]
        if not new:  # a view, a shape, or written into, which `_version` tells
            return made
        for each in read:
            self._made.pop(each, None)
        for name, weight in self._weights.items():
            self._uses[name] += read.count(storage(weight))
            if func in (Tensor.matmul, torch.matmul, Tensor.__matmul__) and is_whole(args[1], weight):
                self._made[storage(made)] = name, made
        return made

    def last(self, part: Tensor, others: list[Tensor]) -> str | None:
        """Name the matrix whose product is this, cut into heads, if it was used once and is none of the others."""
        name, made = self._made.get(storage(part), (None, part))
        if name is None or self._uses[name] != 1 or made._version or any(storage(o) == storage(part) for o in others):
            return None
        return name if is_whole(part, split_heads(made, part.shape[-3])) else None
