"""The layer's own kernel for the CPU: one head after the other, block by block in a core's caches.

    m model    b batch    h query head    g key head    u value head    t query    s key    c, e channels

What PyTorch does in several passes is one pass here, forward and for the gradient, and heads are read where the
projections wrote them; keys that no query of a block sees cost nothing. See `native.cpp`: a kind of numbers and
channels takes two seconds to compile, and is kept on disk.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from qkvlab.kernels import kernel

SHORTEST = 24
"""Queries and keys: of fewer, starting the kernel takes longer than it saves."""
WIDEST = 256
"""Channels of a head."""
EVERYWHERE = 1 << 40
"""The window of queries that see all keys there are."""
LONG = 1 << 16
"""Channels of all keys of a head from which on PyTorch's gradient takes no longer in bf16, on processors with units."""
UNITS = 32
"""Channels of a head from which on PyTorch's forward is faster in bf16, on such processors."""
VECTOR = 16
"""Channels that are read together."""


def fits(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether the kernel can do these: q (..., h, t, c), k (..., g, s, c), v (..., u, s, e)."""
    long = min(q.shape[-2], k.shape[-2]) >= SHORTEST and max(q.shape[-1], v.shape[-1]) <= WIDEST
    known = {x.dtype for x in (q, k, v)} <= {torch.float32, torch.bfloat16}
    return long and known and q.device.type == "cpu" and 0 not in (*q.shape, *k.shape, *v.shape)


def pays(q: Tensor, k: Tensor, v: Tensor, *, causal: bool, masked: bool = False) -> bool:
    """Whether it is there, and faster than PyTorch's.

    It is everywhere but in bf16 on processors that have units for it: PyTorch's takes them. Its gradient gains little
    by that, so with gradients the kernel is faster there too, unless keys are many.
    """
    if any(kernel.has_units(x.dtype) for x in (q, k, v)):
        learns = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
        if not learns or k.shape[-2] * k.shape[-1] > (2 * LONG if causal else LONG):
            return False
    return works(q, v, masked=masked)


def works(q: Tensor, v: Tensor, *, masked: bool = False) -> bool:
    """Whether the kernel was measured on such processors, and is there or can be compiled for these numbers."""
    half = torch.bfloat16 in (q.dtype, v.dtype)
    return kernel.is_known() and kernel.works("native", C=q.shape[-1], E=v.shape[-1], MASKED=masked, HALF=half)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    allowed: Tensor | None = None,
    *,
    causal: bool = False,
    shift: int = 0,
    window: int | None = None,
    root: float = 1.0,
) -> Tensor:
    """softmax(q k^T / root) v, (..., h, t, e), where `fits` says so; in bf16 where one of them is.

    Args:
        q: (..., h, t, c).
        k: (..., g, s, c); heads share keys in the order of `core`.
        v: (..., u, s, e).
        allowed: booleans that broadcast to (..., h, t, s); None when nothing else is hidden.
        causal: whether a query sees no key after its own place.
        shift: the key at which query 0 stands.
        window: a query sees the keys that are nearer to its place than this; all unless given.
        root: what scores are divided by.

    Raises:
        NoCompiler: see `kernel.compiled`.
    """
    batch, rows, keys = q.shape[:-3], q.shape[-3:-1], k.shape[-2]
    if allowed is not None:
        allowed = allowed.expand(*batch, *rows, keys).reshape(1, -1, *rows, keys)
    dtype = torch.bfloat16 if torch.bfloat16 in (q.dtype, k.dtype, v.dtype) else torch.float32
    q, k, v = (x.to(dtype).reshape(1, -1, *x.shape[-3:]) for x in (q, k, v))
    # `torch.compile` cannot read the one, `torch.func` cannot pass through the other
    op: Any = torch.ops.qkvlab.attend if torch.compiler.is_dynamo_compiling() else _Attend.apply
    out, _ = op(q, k, v, allowed, causal, shift, EVERYWHERE if window is None else window, root)
    return out.reshape(*batch, *rows, v.shape[-1])


def attend_once(q: Tensor, k: Tensor, v: Tensor, root: float) -> Tensor:
    """softmax(q k^T / root) v of one query for each head, which sees every key, without gradients: (b, h, 1, e).

    Args:
        q: (b, h, 1, c).
        k: (b, g, s, c), as `fits_once` says.
        v: (b, g, s, e).
        root: what scores are divided by.
    """
    q, k, v = (_with_channels_side_by_side(x)[None] for x in (q, k, v))
    out = _room(q, v.shape[-1])
    _run("once", q, k, v, None, (q, k, v, out), (q, k, v, out), False, 0, EVERYWHERE, root)
    return out[0]


def fits_once(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether `attend_once` can do these: heads share values as they share keys, and channels are whole vectors."""
    c, e = q.shape[-1], v.shape[-1]
    whole = c % VECTOR == 0 and e % VECTOR == 0 and max(c, e) <= WIDEST
    alike = q.dtype == k.dtype == v.dtype and q.dtype in (torch.float32, torch.bfloat16) and q.device.type == "cpu"
    return whole and alike and k.shape[-3] == v.shape[-3] and q.shape[-2] == 1 and 0 not in (*q.shape, *k.shape)


# one level below `torch.library.custom_op`, whose own rule for gradients knows nothing of `torch.func`
_REST = "bool causal, int shift, int window, float root"
torch.library.define("qkvlab::attend", f"(Tensor q, Tensor k, Tensor v, Tensor? allowed, {_REST}) -> (Tensor, Tensor)")
torch.library.define(
    "qkvlab::attend_backward",
    "(Tensor slope, Tensor q, Tensor k, Tensor v, Tensor? allowed, Tensor out, Tensor logs, "
    f"{_REST}) -> (Tensor, Tensor, Tensor)",
)


@torch.library.impl("qkvlab::attend", "CPU")
def _forward(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None, *rest: Any) -> tuple[Tensor, Tensor]:
    """All with five axes, (m, b, ...); also returns the log of each query's sum of exponentials, (m, b, h, t)."""
    q, k, v = (_with_channels_side_by_side(x) for x in (q, k, v))
    if allowed is None and _units_can(q, k, v, *rest):
        return _by_units(q, k, v, *rest)
    out, logs = _results(q, k, v, allowed, *rest)
    _run("forward", q, k, v, allowed, (q, k, v, allowed, out, logs), (q, k, v, allowed, out), *rest)
    return out, logs


def _units_can(q: Tensor, k: Tensor, v: Tensor, causal: bool, shift: int, window: int, root: float) -> bool:
    # whether PyTorch's forward, which takes the units of the processor for bf16, does just this
    alike = q.shape[2] == k.shape[2] == v.shape[2] and q.shape[-1] == v.shape[-1] >= UNITS
    near = shift == 0 and window >= k.shape[3] and (not causal or q.shape[3] == k.shape[3])
    return alike and near and kernel.has_units(q.dtype)


def _by_units(
    q: Tensor, k: Tensor, v: Tensor, causal: bool, shift: int, window: int, root: float
) -> tuple[Tensor, Tensor]:
    # q is scaled, not the product, as everywhere
    parts = (x.flatten(0, 1) for x in (q if root == 1 else q * (1 / root), k, v))
    out, logs = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*parts, 0.0, causal, scale=1.0)
    return out.unflatten(0, q.shape[:2]), logs.contiguous().unflatten(0, q.shape[:2])


@torch.library.impl("qkvlab::attend_backward", "CPU")
def _backward(
    slope: Tensor, q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None, out: Tensor, logs: Tensor, *rest: Any
) -> tuple[Tensor, ...]:
    slope, q, k, v, out = (_with_channels_side_by_side(x) for x in (slope, q, k, v, out))
    logs = logs.contiguous()
    slopes = _slopes(slope, q, k, v, allowed, out, logs, *rest)
    given = q, k, v, allowed, out, slope, logs, *slopes
    _run("backward", q, k, v, allowed, given, (q, k, v, allowed, out, slope, *slopes), *rest)
    return slopes


@torch.library.register_fake("qkvlab::attend")
def _results(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None, *rest: Any) -> tuple[Tensor, Tensor]:
    return _room(q, v.shape[-1]), torch.empty(q.shape[:-1], dtype=torch.float32, device=q.device)


@torch.library.register_fake("qkvlab::attend_backward")
def _slopes(
    slope: Tensor, q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None, out: Tensor, logs: Tensor, *rest: Any
) -> tuple[Tensor, ...]:
    return tuple(_room(x, x.shape[-1]) for x in (q, k, v))


class _Attend(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(*arguments: Any) -> Any:
        return torch.ops.qkvlab.attend(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        *tensors, ctx.causal, ctx.shift, ctx.window, ctx.root = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*tensors, *output)

    @staticmethod
    def backward(ctx: Any, *slopes: Any) -> Any:
        found = _Slopes.apply(slopes[0], *ctx.saved_tensors, ctx.causal, ctx.shift, ctx.window, ctx.root)
        return *found, None, None, None, None, None


class _Slopes(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(*arguments: Any) -> Any:
        return torch.ops.qkvlab.attend_backward(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *slopes: Any) -> Any:
        raise NotImplementedError("route 'native' has no second derivatives; 'plain' has.")  # never silently 0


torch.library.register_autograd("qkvlab::attend", _Attend.backward, setup_context=_Attend.setup_context)


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


for _op in (torch.ops.qkvlab.attend.default, torch.ops.qkvlab.attend_backward.default):
    torch.library.register_vmap(_op, _over_models(_op))


def _room(x: Tensor, channels: int) -> Tensor:
    """Return room for (m, b, h, t, channels), heads side by side in each token, as the next product reads them."""
    m, b, h, t, _ = x.shape
    return x.new_empty(m, b, t, h, channels).transpose(2, 3)


def _with_channels_side_by_side(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


def _run(
    name: str, q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None, given: tuple[Tensor | None, ...],
    strided: tuple[Tensor | None, ...], causal: bool, shift: int, window: int, root: float,
) -> None:  # fmt: skip
    """Call a function of the kernel on the addresses of all that is given and the strides of some of it."""
    numbers = [
        *q.shape[:3], k.shape[2], v.shape[2], q.shape[3], k.shape[3], shift, window, causal, torch.get_num_threads()
    ]  # fmt: skip
    for x in strided:
        numbers += (0,) * 5 if x is None else x.stride()
    kind = {"C": q.shape[-1], "E": v.shape[-1], "MASKED": allowed is not None, "HALF": q.dtype == torch.bfloat16}
    done = getattr(kernel.compiled("native", **kind), name)(
        *(ctypes.c_void_p(None if x is None else x.data_ptr()) for x in given),
        (ctypes.c_int64 * len(numbers))(*numbers),
        ctypes.c_float(root),
    )
    if not done:
        raise MemoryError("attention: no room for the blocks of a head")
