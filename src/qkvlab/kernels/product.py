"""Products of stacked matrices on the CPU, for compiled programs: `torch.ops.qkvlab.product`, in fp32 or bf16.

m model    n row    d depth    c column

PyTorch's products of so small matrices spend much of their time on laying them out; in fp32 on processors of Intel they
do not. See `product.cpp`.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qkvlab.kernels import kernel

ROWS, COLUMNS = 8, 16
"""Products of fewer are left to PyTorch: most of the kernel's sums would be of nothing."""
_DECLARED = "AOTITorchError aoti_torch_cpu_product(AtenTensorHandle a, AtenTensorHandle b, AtenTensorHandle* made)"
_FROM_TORCH = ("get_data_ptr", "get_sizes", "get_strides", "get_dtype", "empty_strided", "dtype_bfloat16")


def pays(a: Tensor, b: Tensor) -> bool:
    """Whether a (m, n, d) times b (m, d, c) is faster by the kernel than by PyTorch, and the kernel is there."""
    large = a.shape[1] >= ROWS and b.shape[2] >= COLUMNS and 0 not in (*a.shape, *b.shape)
    return large and a.device.type == b.device.type == "cpu" and a.dtype == b.dtype and _multiplies(a.dtype)


def called() -> dict[str, Any]:
    """Return the options of PyTorch's compiler by which its programs call the kernel without asking Python."""
    found = ctypes.CDLL(str(next((Path(torch.__file__).parent / "lib").glob("*torch_cpu.*"))))
    addresses = [ctypes.cast(getattr(found, f"aoti_torch_{name}"), ctypes.c_void_p) for name in _FROM_TORCH]
    kernel.compiled("product").qkvlab_connect((ctypes.c_void_p * len(addresses))(*addresses))
    return {"aot_inductor.custom_ops_to_c_shims": _Declared({torch.ops.qkvlab.product.default: [_DECLARED]})}


# inputs may lie anyhow: the compiler need not copy them
torch.library.define("qkvlab::product", "(Tensor a, Tensor b) -> Tensor", tags=torch.Tag.flexible_layout)


def of(a: Tensor, b: Tensor) -> Tensor:
    """Return a (m, n, d) times b (m, d, c), without gradients: (m, n, c)."""
    out = _room(a, b)
    numbers = *a.shape, b.shape[2], torch.get_num_threads(), a.dtype == torch.bfloat16
    done = kernel.compiled("product").qkvlab_products(
        *_laid(a), *_laid(b), ctypes.c_void_p(out.data_ptr()), *map(ctypes.c_int64, numbers)
    )
    if not done:
        raise MemoryError("product: no room for a part of a matrix")
    return out


def _room(a: Tensor, b: Tensor) -> Tensor:
    return a.new_empty(a.shape[0], a.shape[1], b.shape[2])


torch.library.impl("qkvlab::product", "CPU", of)
torch.library.register_fake("qkvlab::product", _room)


class _Declared(dict):
    """Options that the compiler can write down, by which it finds what it compiled before: it cannot write ops."""

    def __deepcopy__(self, memo: Any) -> _Declared:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, ({str(op): declared for op, declared in self.items()},)


def _multiplies(dtype: torch.dtype) -> bool:
    if dtype not in (torch.float32, torch.bfloat16) or (dtype == torch.float32 and kernel.is_intel()):
        return False
    if kernel.has_units(dtype) or not (kernel.is_known() and kernel.works("product")):
        return False
    return dtype == torch.float32 or bool(kernel.compiled("product").qkvlab_multiplies_half())


def _laid(x: Tensor) -> tuple[Any, Any]:
    """Return where the numbers of a tensor lie, and how."""
    return ctypes.c_void_p(x.data_ptr()), (ctypes.c_int64 * x.ndim)(*x.stride())
