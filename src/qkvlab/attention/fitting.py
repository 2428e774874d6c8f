"""What x, a memory and masks must be to fit a layer: shapes, dtypes and devices are compared, numbers never read.

x (b, t, d)    memory: arrays (b, s, channels)
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qkvlab.attention.masks import require_positions
from qkvlab.contracts import Dims, Memory
from qkvlab.designs import Design
from qkvlab.errors import BadInput


def require_tokens(x: Any, dims: Dims, weight: Any) -> None:
    """Refuse what is no plain tensor of tokens of this width, in the precision of the weights and beside them.

    Args:
        x: tokens.
        dims: of the layer.
        weight: one of the layer's; what is no tensor, as in a quantized layer, says nothing.

    Raises:
        BadInput: what came and what was expected.
    """
    if not isinstance(x, Tensor):
        raise BadInput(f"x must be a tensor (batch, tokens, d_model={dims.d_model}); got {type(x).__name__}.")
    if x.is_nested or x.layout != torch.strided:
        kind = "nested" if x.is_nested else str(x.layout)
        raise BadInput(f"x must be a dense tensor here; got a {kind} one. Only forward takes nested ones.")
    if x.ndim < 2 or x.shape[-1] != dims.d_model:
        raise BadInput(f"x must be (batch, tokens, d_model={dims.d_model}); got {tuple(x.shape)}.")
    if isinstance(weight, Tensor):
        _require_beside("x", x, weight, "the layer's weights")


def require_memory(memory: Any, x: Tensor, design: Design, dims: Dims) -> None:
    """Refuse a memory that the layer's own `remember` cannot have made, of tokens whose batch fits that of x.

    Raises:
        BadInput: what came and what was expected.
    """
    if not isinstance(memory, Memory):
        raise BadInput(f"memory must be what `remember` of this layer returns; got {type(memory).__name__}.")
    if torch.compiler.is_compiling():
        return  # the same call outside a graph is checked; what is kept is found with NumPy, which has no place in one
    keeps = kept_widths(design, dims)
    if not all(isinstance(kept, Tensor) and kept.ndim > 1 for kept in memory.kept.values()):
        raise BadInput("memory must hold tensors (batch, tokens, channels); make it with `remember` of this layer.")
    widths = {name: kept.shape[-1] for name, kept in memory.kept.items()}
    if widths != keeps:
        raise BadInput(
            f"memory of {design} here is {_listed(keeps)} of each token; got {_listed(widths)}: make it with "
            "`remember` of this layer."
        )
    shapes = {name: tuple(kept.shape[:-1]) for name, kept in memory.kept.items()}
    first = next(iter(shapes.values()))
    pairs = zip(reversed(first[:-1]), reversed(x.shape[:-2]), strict=False)
    if len(set(shapes.values())) > 1 or any(1 not in (a, b) and a != b for a, b in pairs):
        raise BadInput(
            f"memory must hold as many tokens in each array, for the batch {tuple(x.shape[:-2])} of x; got {shapes}."
        )
    for name, kept in memory.kept.items():
        _require_beside(f"{name} of the memory", kept, x, "x")
    if memory.positions is not None and not isinstance(memory.positions, Tensor):
        raise BadInput(f"positions of {first[-1]} keys must be a tensor; got {type(memory.positions).__name__}.")
    require_device("positions of the memory", memory.positions, x)
    require_positions("keys", first[-1], memory.positions, first[:-1])


def require_device(name: str, value: Any, x: Tensor) -> None:
    """Refuse what is no tensor on the device of x.

    Raises:
        BadInput: what came and what was expected.
    """
    if value is None:
        return
    if not isinstance(value, Tensor):
        raise BadInput(f"{name} must be a tensor; got {type(value).__name__}.")
    if value.device != x.device:
        raise BadInput(f"{name} must be on the device of x, {x.device}; got {value.device}.")


@functools.lru_cache(maxsize=256)
def kept_widths(design: Design, dims: Dims) -> dict[str, int]:
    """Name what `remember` keeps of one token, and how many numbers; found as `Design.cost` finds it.

    >>> from qkvlab.designs import parse
    >>> kept_widths(parse("QKV/kv2"), Dims.of(32, 4))
    {'k': 16, 'v': 16}
    """
    zero = np.zeros((), np.float32)  # each matrix is this one number, however large
    zeros = {name: np.broadcast_to(zero, (m.rows, m.columns)) for name, m in design.matrices(dims).items()}
    memory = design.remember(zeros, np.zeros((1, dims.d_model), np.float32), dims, None)
    return {name: kept.shape[-1] for name, kept in memory.kept.items()}


def _require_beside(name: str, x: Tensor, other: Tensor, whose: str) -> None:
    if x.device != other.device:
        raise BadInput(f"{name} is on {x.device} and {whose} on {other.device}; move one to the other.")
    if x.dtype != other.dtype and not torch.is_autocast_enabled(x.device.type):
        raise BadInput(f"{name} is {x.dtype} and {whose} {other.dtype}; cast one, or run under torch.autocast.")


def _listed(widths: dict[str, int]) -> str:
    return ", ".join(f"{name} ({width})" for name, width in widths.items()) or "nothing"
