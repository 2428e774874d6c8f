"""The route of short sequences: one head after the other in a core's caches, by a kernel that is compiled when needed.

    m model    b batch    h query head    g key head    u value head    t query    s key    c, e channels

What PyTorch does in a dozen passes over queries x keys is one pass here, forward and for the gradient, and heads are
read where the projections wrote them; the weights are made again for the gradient (as Dao et al., arXiv 2205.14135, do
on accelerators). See `small.cpp`: a size takes a second or two to compile and is kept by the process.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SHORTEST, LONGEST = 24, 256
"""Queries and keys: of fewer, starting the kernel takes longer than it saves; of more, a head's weights leave a core's
second cache."""
WIDEST = 128
"""Channels of a head."""
_SOURCE = Path(__file__).with_suffix(".cpp")
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-shared", "-fPIC", "-w")


class NoCompiler(Exception):
    """The kernel cannot be compiled on this machine; the message says why, in one line."""


def compiler() -> str | None:
    """Return the C++ compiler that CXX names, or that is there; None without one."""
    return shutil.which(os.environ.get("CXX") or "c++") or shutil.which("g++") or shutil.which("clang++")


def fits(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether the kernel can do these: q (..., h, t, c), k (..., g, s, c), v (..., u, s, e)."""
    counts = q.shape[-2], k.shape[-2]
    short = max(counts) <= LONGEST and min(counts) >= SHORTEST and max(q.shape[-1], v.shape[-1]) <= WIDEST
    known = {x.dtype for x in (q, k, v)} <= {torch.float32, torch.bfloat16}
    return short and known and q.device.type == "cpu" and 0 not in (*q.shape, *k.shape, *v.shape)


def attend(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None, *, causal: bool, root: float) -> Tensor:
    """softmax(q k^T / root) v, (..., h, t, e), where `fits` says so; in bf16 where one of them is.

    Args:
        q: (..., h, t, c).
        k: (..., g, s, c); heads share keys in the order of `core`.
        v: (..., u, s, e).
        allowed: booleans that broadcast to (..., h, t, s); None when nothing is hidden but by causality.
        causal: whether a query sees the keys up to its own place only, s = t.
        root: what scores are divided by.

    Raises:
        NoCompiler: there is no C++ compiler, or it refuses.
    """
    batch, rows, keys = q.shape[:-3], q.shape[-3:-1], k.shape[-2]
    if allowed is not None:
        allowed = allowed.expand(*batch, *rows, keys).reshape(1, -1, *rows, keys)
    dtype = torch.bfloat16 if torch.bfloat16 in (q.dtype, k.dtype, v.dtype) else torch.float32
    q, k, v = (x.to(dtype).reshape(1, -1, *x.shape[-3:]) for x in (q, k, v))
    out, _ = _Attend.apply(q, k, v, allowed, causal, root)
    return out.reshape(*batch, *rows, v.shape[-1])


# one level below `torch.library.custom_op`, whose own rule for gradients knows nothing of `torch.func`
torch.library.define(
    "qkvlab::attend_small",
    "(Tensor q, Tensor k, Tensor v, Tensor? allowed, bool causal, float root) -> (Tensor, Tensor)",
)
torch.library.define(
    "qkvlab::attend_small_backward",
    "(Tensor slope, Tensor q, Tensor k, Tensor v, Tensor? allowed, Tensor logs, bool causal, float root)"
    " -> (Tensor, Tensor, Tensor)",
)


@torch.library.impl("qkvlab::attend_small", "CPU")
def _forward(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None, causal: bool, root: float) -> tuple[Tensor, ...]:
    """All with five axes, (m, b, ...); also returns the log of each query's sum of exponentials, (m, b, h, t)."""
    q, k, v = (_with_channels_side_by_side(x) for x in (q, k, v))
    out, logs = _results(q, k, v, allowed, causal, root)
    _kernel(q, k, v, allowed, causal).forward(
        *map(_address, (q, k, v, allowed, out, logs)), _sizes(q, k, v), *map(_steps, (q, k, v, allowed, out)),
        ctypes.c_float(root),
    )  # fmt: skip
    return out, logs


@torch.library.impl("qkvlab::attend_small_backward", "CPU")
def _backward(
    slope: Tensor, q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None, logs: Tensor, causal: bool, root: float
) -> tuple[Tensor, ...]:
    slope, q, k, v = (_with_channels_side_by_side(x) for x in (slope, q, k, v))
    logs, slopes = logs.contiguous(), _slopes(slope, q, k, v, allowed, logs, causal, root)
    _kernel(q, k, v, allowed, causal).backward(
        *map(_address, (q, k, v, allowed, slope, logs, *slopes)), _sizes(q, k, v),
        *map(_steps, (q, k, v, allowed, slope, *slopes)), ctypes.c_float(root),
    )  # fmt: skip
    return slopes


@torch.library.register_fake("qkvlab::attend_small")
def _results(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None, causal: bool, root: float) -> tuple[Tensor, ...]:
    return _room(q, v.shape[-1]), torch.empty(q.shape[:-1], dtype=torch.float32, device=q.device)


@torch.library.register_fake("qkvlab::attend_small_backward")
def _slopes(
    slope: Tensor, q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None, logs: Tensor, causal: bool, root: float
) -> tuple[Tensor, ...]:
    return tuple(_room(x, x.shape[-1]) for x in (q, k, v))


class _Attend(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(*arguments: Any) -> Any:
        return torch.ops.qkvlab.attend_small(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        q, k, v, allowed, ctx.causal, ctx.root = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(q, k, v, allowed, output[1])

    @staticmethod
    def backward(ctx: Any, *slopes: Any) -> Any:
        found = _Slopes.apply(slopes[0], *ctx.saved_tensors, ctx.causal, ctx.root)
        return *found, None, None, None


class _Slopes(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(*arguments: Any) -> Any:
        return torch.ops.qkvlab.attend_small_backward(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *slopes: Any) -> Any:
        raise NotImplementedError("route 'small' has no second derivatives; 'plain' has.")  # never silently 0


def _over_models(op: Callable[..., tuple[Tensor, ...]]) -> Callable[..., Any]:
    """Return the rule of `torch.vmap`: models join those that are there, whose strides the kernel knows."""

    def joined(
        info: Any, in_dims: tuple[int | None, ...], *arguments: Any
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        def laid(x: Any, dim: int | None) -> Any:
            if not isinstance(x, Tensor):
                return x
            x = x[None].expand(info.batch_size, *x.shape) if dim is None else x.movedim(dim, 0)
            return x.flatten(0, 1)

        found = op(*map(laid, arguments, in_dims))
        return tuple(x.unflatten(0, (info.batch_size, -1)) for x in found), (0,) * len(found)

    return joined


for _op in (torch.ops.qkvlab.attend_small.default, torch.ops.qkvlab.attend_small_backward.default):
    torch.library.register_vmap(_op, _over_models(_op))


def _room(x: Tensor, channels: int) -> Tensor:
    """Return room for (m, b, h, t, channels), heads side by side in each token, as the next product reads them."""
    m, b, h, t, _ = x.shape
    return x.new_empty(m, b, t, h, channels).transpose(2, 3)


def _with_channels_side_by_side(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


def _address(x: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if x is None else x.data_ptr())


def _steps(x: Tensor | None) -> ctypes.Array[ctypes.c_int64]:
    return (ctypes.c_int64 * 5)(*((0,) * 5 if x is None else x.stride()))


def _sizes(q: Tensor, k: Tensor, v: Tensor) -> ctypes.Array[ctypes.c_int64]:
    return (ctypes.c_int64 * 5)(*q.shape[:3], k.shape[2], v.shape[2])


def _kernel(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None, causal: bool) -> ctypes.CDLL:
    return _compiled(
        T=q.shape[-2], S=k.shape[-2], C=q.shape[-1], E=v.shape[-1],
        CAUSAL=causal, MASKED=allowed is not None, HALF=q.dtype == torch.bfloat16,
    )  # fmt: skip


@functools.cache
def _compiled(**sizes: int) -> ctypes.CDLL:
    found = compiler()
    if found is None:
        raise NoCompiler("there is no C++ compiler (the one that CXX names, c++, g++ or clang++)")
    said = [f"-D{name}={int(value)}" for name, value in sizes.items()]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        made = Path(folder) / "small.so"
        try:
            subprocess.run([found, *_FLAGS, *said, _SOURCE, "-o", made], check=True, capture_output=True, text=True)
            return ctypes.CDLL(str(made))
        except subprocess.CalledProcessError as error:
            raise NoCompiler(f"{found}: {next(iter(error.stderr.splitlines()), 'refused')}") from error
        except OSError as error:
            raise NoCompiler(f"{found}: {error}") from error
