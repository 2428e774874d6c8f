"""Causal attention of some hundred tokens in halves: the CPU's kernel makes all pairs of up to 512 keys.

    q (b, h, 2 n, c)    k (b, g, 2 n, c)    v (b, g, 2 n, c)    sums (b, h, 2 n): log sum exp of a row's scores

Both halves of the tokens attend to themselves, side by side in the batch, and the later one to the earlier one: three
quarters of the pairs. What a late query found in either place is joined in proportion to the exp of its two sums. These
are returned only by the operator that `scaled_dot_product_attention` itself runs here, which is not public; where it
does not exist, or would not be chosen, everything stays with the public function.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

LEAST, MOST = 384, 512
"""Tokens of a text between which halves are faster; beyond, the kernel itself leaves out much of what is ahead."""

PRECISION = torch.float32
"""In bf16 the kernel takes a third of the time, and to join two halves as long as in single precision: no gain."""

LARGEST = 128.0
"""A sum may not be larger: of larger ones a difference says less than the scores themselves."""

_kernel: Any = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
_gradient: Any = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu_backward", None)


def pay(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether halves are possible here and faster: single precision, plain tensors of an even number of tokens.

    And tokens that lie one behind the other through the whole batch, so that halves are read where they are.
    """
    tokens = q.shape[-2]
    if not (LEAST <= tokens <= MOST and tokens % 2 == 0) or _kernel is None or _gradient is None:
        return False
    plain = all(type(x) is Tensor and x.dtype == PRECISION and x.device.type == "cpu" for x in (q, k, v))
    chosen = torch.backends.cuda.flash_sdp_enabled() and not torch.is_autocast_enabled("cpu")
    lie = all(x.shape[0] == 1 or x.stride(0) == tokens * x.stride(-2) for x in (q, k, v))
    return plain and chosen and lie and q.shape[0] > 0 and q.shape[-1] == v.shape[-1] == k.shape[-1] > 0


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor | None:
    """softmax(q k^T) v of what each query sees, (b, h, 2 n, c); None where scores are too large for sums to tell."""
    out, sums = _joined(q.detach(), k.detach(), v.detach())
    if sums is None:
        return None
    recorded = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
    return _Halves.apply(q, k, v, (out, sums)) if recorded else out


def _joined(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor | None]:
    half = q.shape[-2] // 2
    out, sums = _kernel(*(_side_by_side(x) for x in (q, k, v)), 0.0, True, scale=1.0)
    out, sums = _behind(out).detach(), _behind(sums)  # no view to autograd: it may be written into
    earlier, other = _kernel(q[:, :, half:], k[:, :, :half], v[:, :, :half], 0.0, False, scale=1.0)
    own = sums[:, :, half:]
    if not torch.maximum(own.abs(), other.abs()).amax() < LARGEST:  # nor if one is no number
        return out, None
    out[:, :, half:].lerp_(earlier, (other - own).sigmoid_()[..., None])
    own.copy_(torch.logaddexp(own, other))
    return out, sums


class _Halves(torch.autograd.Function):
    """The gradient of what `_joined` found: of each part by the kernel's own, given what the whole came to."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, found: tuple[Tensor, Tensor]) -> Tensor:
        ctx.save_for_backward(q, k, v, *found)
        return found[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *along: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        q, k, v, out, sums = ctx.saved_tensors
        half = q.shape[-2] // 2
        given = along[0], q, k, v, out, sums
        dq, dk, dv = _gradient(*(_side_by_side(x) for x in given), 0.0, True, scale=1.0)
        dq, dk, dv = _behind(dq), _behind(dk), _behind(dv)
        late, early = slice(half, None), slice(half)
        cut = (x[:, :, rows] for x, rows in zip(given, (late, late, early, early, late, late), strict=True))
        late_dq, early_dk, early_dv = _gradient(*cut, 0.0, False, scale=1.0)
        dq[:, :, late] += late_dq
        dk[:, :, early] += early_dk
        dv[:, :, early] += early_dv
        return dq, dk, dv, None


def _side_by_side(x: Tensor) -> Tensor:
    # (b, h, 2 n, ...) -> (2 b, h, n, ...), a view of what tokens lie one behind the other in
    return x.unflatten(2, (2, -1)).transpose(1, 2).flatten(0, 1)


def _behind(x: Tensor) -> Tensor:
    # (2 b, h, n, ...) -> (b, h, 2 n, ...), which undoes it
    return x.unflatten(0, (-1, 2)).transpose(1, 2).flatten(2, 3)
