"""A matrix that few rows are multiplied with, in fp32 on the CPU: kept in the order in which a kernel reads it.

n rows    d depth    m columns of the matrix    p columns of a panel

PyTorch's product lays the matrix out anew in every call, which takes longer than a few rows need. See `rows.cpp`.
"""

from __future__ import annotations

import ctypes

import torch
import torch.nn.functional as F
from torch import Tensor

from qkvlab.kernels import kernel

MOST = 64
"""Rows; more are left to PyTorch."""
SMALLEST = 1 << 15
"""Numbers of a matrix: of smaller ones, calling the kernel takes longer than it saves."""


def pays(matrix: Tensor) -> bool:
    """Whether few rows are multiplied faster with `Few` of a matrix (d, m) than with the matrix."""
    able = matrix.device.type == "cpu" and matrix.dtype == torch.float32 and matrix.numel() >= SMALLEST
    return able and kernel.is_known() and kernel.works("rows")


class Few:
    """A matrix in panels; products are those of the matrix to rounding.

    Args:
        matrix: (d, m), as `pays` says.
    """

    def __init__(self, matrix: Tensor) -> None:
        self._columns, wide = matrix.shape[1], kernel.compiled("rows").columns()
        padded = F.pad(matrix.detach(), (0, -self._columns % wide))
        self._panels = padded.unflatten(1, (-1, wide)).swapaxes(0, 1).contiguous()  # (m / p, d, p)

    def times(self, x: Tensor) -> Tensor:
        """Return x (n, d) times the matrix, (n, m), without gradients."""
        if x.shape[0] > MOST or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return torch.mm(x, self._panels.swapaxes(0, 1).flatten(1)[:, : self._columns])
        x = x.contiguous()
        out = x.new_empty(x.shape[0], self._columns)
        kernel.compiled("rows").times(  # which nothing that is copied may hold
            *(ctypes.c_void_p(each.data_ptr()) for each in (x, self._panels, out)),
            *(ctypes.c_int64(n) for n in (*x.shape, self._columns, torch.get_num_threads())),
        )
        return out
