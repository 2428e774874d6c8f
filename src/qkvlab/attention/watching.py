"""Tensors without numbers, on which a design is watched, and telling whether one of them is another one whole."""

from __future__ import annotations

import torch
from torch import Tensor

from qkvlab.contracts import Dims
from qkvlab.designs import Design

BATCH, TOKENS = 2, 3

as_elsewhere = torch.inference_mode(False)
"""Inference mode hides the products that are watched, and what is found is remembered for all calls."""


def without_numbers(design: Design, dims: Dims) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Return a design's matrices, the x of two texts (b, t, d), and where their tokens stand (t,)."""
    with torch.device("meta"):
        weights = {name: torch.empty(m.rows, m.columns) for name, m in design.matrices(dims).items()}
        return weights, torch.empty(BATCH, TOKENS, dims.d_model), torch.arange(TOKENS)


def is_whole(part: Tensor, whole: Tensor) -> bool:
    """Say whether two tensors are the same numbers in the same places."""
    same = storage(part) == storage(whole) and part.storage_offset() == whole.storage_offset()
    return same and part.shape == whole.shape and part.stride() == whole.stride()


def storage(x: Tensor) -> int:
    """Say where the numbers lie, or would."""
    return x.untyped_storage()._cdata
