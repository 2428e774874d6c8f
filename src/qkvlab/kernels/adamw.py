"""AdamW with clipping for stacked models in fp32 on the CPU, all matrices in one call. See `adamw.cpp`.

m model    all stacked tensors lead with it
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from qkvlab.kernels import kernel


def works(weights: Sequence[Tensor]) -> bool:
    """Whether the kernel can move these, stacked, and is there."""
    able = all(w.device.type == "cpu" and w.dtype == torch.float32 and w.is_contiguous() for w in weights)
    return able and kernel.is_known() and kernel.works("adamw")


class Moved:
    """Stacked weights and their moments, with the addresses of all.

    Args:
        weights: (m, ...), as `works` says, changed in place.
        first: first moments, shaped and laid like them.
        second: second moments.
    """

    def __init__(self, weights: Sequence[Tensor], first: Sequence[Tensor], second: Sequence[Tensor]) -> None:
        self._held = [*weights], [*first], [*second]  # as long as their addresses are
        self._models = len(weights[0])
        self._addresses = [_numbers(ctypes.c_void_p, [x.data_ptr() for x in each]) for each in self._held]
        self._sizes = _numbers(ctypes.c_int64, [math.prod(w.shape[1:]) for w in weights])

    def step(
        self, slopes: Sequence[Tensor], rates: Sequence[float], steps: int, betas: tuple[float, float], eps: float,
        decay: float, clip: float,
    ) -> None:  # fmt: skip
        """Take a step.

        Args:
            slopes: gradients, (m, ...), side by side as the weights are.
            rates: of each model.
            steps: those taken, this one included.
            betas: of the moments.
            eps: what is added to the root of the second moments.
            decay: of weights, by the rate.
            clip: the largest norm of a model's gradient.
        """
        weights, first, second = self._addresses
        kernel.compiled("adamw").adamw(
            weights, _numbers(ctypes.c_void_p, [g.data_ptr() for g in slopes]), first, second, self._sizes,
            *(ctypes.c_int64(n) for n in (len(slopes), self._models)), _numbers(ctypes.c_float, rates),
            _numbers(ctypes.c_double, (*betas, eps, decay, clip, steps)), ctypes.c_int64(torch.get_num_threads()),
        )  # fmt: skip


def _numbers(kind: Any, values: Sequence) -> ctypes.Array:
    return (kind * len(values))(*values)
