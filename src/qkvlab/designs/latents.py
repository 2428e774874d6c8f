"""q, k and v of MLA as one step of autograd, whose gradient is written out.

    n numbers of the latent    r channels that turn    c channels of a head that do not    e of its values
    made     x [W_Q and W_QR of each head, W_DKV, W_KR]    (..., t, h (c + r) + n + r), turned where it lies

What autograd records of formulas puts parts side by side and cuts them again, forward and backward, each time in a pass
over all tokens. Here that is done once each way, and not to q. There are no second derivatives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from qkvlab.contracts import Dims
from qkvlab.designs.design import at_least_single, split_heads
from qkvlab.designs.joined import beside
from qkvlab.designs.mla import EPSILON

if TYPE_CHECKING:
    from qkvlab.designs.joined import Joined

MATRICES = ("q", "qr", "dkv", "kr", "dkv_gain", "uk", "uv")
"""In the order of `Latents`."""


class Latents(torch.autograd.Function):
    """``(form, dims, positions, x, *matrices)`` -> q (..., h, t, c + r), k (..., h, t, c + r), v (..., h, t, e).

    The form is one whose `Joined.learns`.
    """

    @staticmethod
    def forward(ctx: Any, form: Joined, dims: Dims, positions: Tensor | None, x: Tensor, *matrices: Tensor) -> Any:
        firsts, (gain, *ups) = matrices[:4], matrices[4:]
        whole = x.new_empty(x.shape[-1], sum(matrix.shape[1] for matrix in firsts))
        for part, matrix in zip(_parts(form, dims, whole), firsts, strict=True):
            part.copy_(matrix.view(part.shape))
        made = torch.mm(x.flatten(0, -2), whole).view(*x.shape[:-1], -1)
        q, kept = _turned(form, dims, positions, made, back=False)
        c, r = kept.split_with_sizes(form.whole.widths(dims), -1)
        exact = at_least_single(c, c)
        root = (exact.square().mean(-1, keepdim=True) + EPSILON).sqrt()
        level = exact / root
        latent = level.to(c.dtype) * gain
        k, v = (split_heads(latent @ up, dims.heads) for up in ups)
        ctx.save_for_backward(positions, x, whole, level, root, latent, gain, *ups)
        ctx.form, ctx.dims = form, dims
        return q, beside(k, r), v

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        form, dims = ctx.form, ctx.dims
        positions, x, whole, level, root, latent, gain, *ups = ctx.saved_tensors
        of_q, of_k, of_v = (each.swapaxes(-3, -2) for each in slopes)  # (..., t, h, channels)
        of_made_up = of_k[..., : dims.d_head].flatten(-2), of_v.flatten(-2)
        of_latent = of_made_up[0] @ ups[0].T + of_made_up[1] @ ups[1].T
        of_level = at_least_single(of_latent * gain, of_latent)
        of_c = (of_level - level * (level * of_level).mean(-1, keepdim=True)) / root
        of_made = torch.cat([of_q.flatten(-2), of_c.to(x.dtype), of_k[..., dims.d_head :].sum(-2)], -1)
        _turned(form, dims, positions, of_made, back=True)
        rows, of_rows = x.flatten(0, -2), of_made.flatten(0, -2)
        of_x = (of_rows @ whole.T).view(x.shape) if ctx.needs_input_grad[3] else None
        of_firsts = (part.flatten(1) for part in _parts(form, dims, rows.T @ of_rows))
        of_gain = (of_latent * level).flatten(0, -2).sum(0, keepdim=True).to(gain.dtype)
        of_ups = (latent.flatten(0, -2).T @ each.flatten(0, -2) for each in of_made_up)
        return None, None, None, of_x, *of_firsts, of_gain, *of_ups


def _cut(form: Joined, dims: Dims, whole: Tensor) -> tuple[Tensor, Tensor]:
    # (..., h (c + r) + n + r) -> (..., h, c + r), (..., n + r)
    of_q, of_kept = whole.tensor_split([whole.shape[-1] - sum(form.whole.widths(dims))], -1)
    return of_q.unflatten(-1, (dims.heads, -1)), of_kept


def _parts(form: Joined, dims: Dims, whole: Tensor) -> list[Tensor]:
    # (..., h (c + r) + n + r) -> (..., h, c), (..., h, r), (..., n), (..., r)
    of_q, of_kept = _cut(form, dims, whole)
    return [*of_q.tensor_split([dims.d_head], -1), *of_kept.split_with_sizes(form.whole.widths(dims), -1)]


def _turned(form: Joined, dims: Dims, positions: Tensor | None, made: Tensor, *, back: bool) -> tuple[Tensor, Tensor]:
    # q (..., h, t, c + r) and what is kept (..., t, n + r), of which the last channels are turned where they lie
    of_q, kept = _cut(form, dims, made)
    q = of_q.swapaxes(-3, -2)
    for heads in (q, kept[..., None, :, :]):
        form.turn(heads, dims, positions, back=back)
    return q, kept
