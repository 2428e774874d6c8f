"""softmax(q k^T / root) v, three times: a fast route, a kernel of its own and an explaining route, which agree.

    q (..., h, t, c)    k (..., g, s, c)    v (..., u, s, e)    allowed broadcasts to (..., h, t, s)

Grouped heads (g < h) are computed as more query rows of the same key head: query head i belongs to key
head i // (h // g), and to value head i // (h // u). A row that may look at nothing gives exactly 0, with finite
gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from qkvlab.attention import halves, native
from qkvlab.attention.asked import inside_func, only_numbers
from qkvlab.attention.scoring import Scoring
from qkvlab.attention.visible import Span, Visible

Attend = Callable[..., Tensor]
"""(q, k, v, scoring=) -> heads (..., h, t, e)."""
ROWS = 256
"""Queries of one block, where scores are made block by block."""


def scaled_scores(q: Tensor, k: Tensor, root: float) -> Tensor:
    """q k^T / root, before bends and masks: (..., h, t, s)."""
    heads, groups = q.shape[-3], k.shape[-3]
    # q is scaled, not the product: q k^T may overflow where the score itself does not
    return _as_heads(_as_rows(q * (1 / root), groups) @ k.swapaxes(-2, -1), heads)


def softmax_allowed(
    scores: Tensor, allowed: Tensor | None, *, all_see: bool = False, sinks: Tensor | None = None
) -> Tensor:
    """Softmax over the keys that are allowed; rows without any are 0.

    Args:
        scores: (..., h, t, s).
        allowed: broadcasts to them.
        all_see: promises that every row sees something, which saves a pass over the weights.
        sinks: (h,), see `Scoring`.
    """
    if sinks is not None:
        hidden = scores if allowed is None else scores.masked_fill(~allowed, -math.inf)
        sink = sinks[:, None, None].to(scores.dtype).expand(*scores.shape[:-1], 1)
        return torch.cat([hidden, sink], -1).softmax(-1)[..., :-1]
    if allowed is None:
        return scores.softmax(-1)
    if all_see:
        return scores.masked_fill(~allowed, -math.inf).softmax(-1)
    # a finite score where nothing is allowed keeps softmax and its gradient finite; the row is then set to 0
    weights = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min).softmax(-1)
    return weights.masked_fill(~allowed.any(-1, keepdim=True), 0.0)


def mix(weights: Tensor, v: Tensor) -> Tensor:
    """Weighted sum of values: (..., h, t, s) x (..., u, s, e) -> (..., h, t, e)."""
    heads = weights.shape[-3]
    return _as_heads(_as_rows(weights, v.shape[-3]) @ v, heads)


def shares(
    q: Tensor, k: Tensor, visible: Visible, scoring: Scoring, rows: Span | None = None, keys: Span | None = None
) -> tuple[Tensor, Tensor]:
    """Scores and weights, each (..., h, t, s), of some queries over some keys; all unless said."""
    rows, keys = visible.all_rows if rows is None else rows, visible.all_keys if keys is None else keys
    scores = scaled_scores(q, k, scoring.root)
    if scoring.bends:
        back = visible.back(rows, keys)
        for bend in scoring.bends:
            scores = bend(scores, back)
    allowed = visible.of(rows, keys)
    return scores, softmax_allowed(scores, allowed, all_see=visible.all_see, sinks=scoring.sinks)


def attend(q: Tensor, k: Tensor, v: Tensor, visible: Visible, scoring: Scoring) -> Tensor:
    """The explaining route: matrix products, all weights at once, (..., h, t, e)."""
    return mix(F.dropout(shares(q, k, visible, scoring)[1], scoring.dropout), v)


def attend_fused(q: Tensor, k: Tensor, v: Tensor, visible: Visible, scoring: Scoring) -> Tensor:
    """The fast route, (..., h, t, e): `scaled_dot_product_attention`, or blocks of rows where it cannot do it all.

    No tensor of queries x keys is made beside the caller's own mask, neither forward nor for the gradient. Only inside
    `torch.func.grad`, which allows no recomputation, the blocks of rows are kept.
    """
    can = fusible(q, scoring)
    if can and visible.only_causal:
        if not _reads_groups(q, k, v):
            k, v = _repeat(k, q.shape[-3]), _repeat(v, q.shape[-3])
        return _fused(q, k, v, scoring, causal=True)
    size = _rows(visible)
    if q.shape[-2] <= size or (can and visible.rows_are_alike):
        return _block(q, k, v, visible, scoring, visible.all_rows, visible.all_keys)
    # masks of a window's blocks together grow with the queries alone, and are kept
    again = _recomputes() and not (can and visible.reach_is_limited)
    found = []
    for start in range(0, q.shape[-2], size):
        rows = Span(start, min(start + size, q.shape[-2]))
        keys = visible.reach(rows)
        parts = q[..., rows.slice, :], k[..., keys.slice, :], v[..., keys.slice, :]
        if again:  # the scores of a block, or its mask, are made again for its gradient
            found.append(checkpoint(_block, *parts, visible, scoring, rows, keys, use_reentrant=False))
        else:
            found.append(_block(*parts, visible, scoring, rows, keys))
    # joined where the kernels wrote them, token by token with heads side by side, as W_O reads them
    return torch.cat([part.swapaxes(-3, -2) for part in found], -3).swapaxes(-3, -2)


def attend_native(q: Tensor, k: Tensor, v: Tensor, visible: Visible, scoring: Scoring) -> Tensor:
    """The route of the layer's own kernel, (..., h, t, e).

    What it cannot do goes the explaining way while scores are few, else the fast one: no large tensor of queries x keys
    is made beside the caller's own mask.

    Raises:
        NoCompiler: see `kernel.compiled`.
    """
    if torch.compiler.is_exporting():  # a program is to run where this library is not, at every length
        return attend_fused(q, k, v, visible, scoring)
    few, able = max(q.shape[-2], k.shape[-2]) <= ROWS, _native_can(q, k, v, scoring)
    if able and visible.near_by_sizes:
        return _near(q, k, v, visible, scoring)
    if able and few:
        return native.attend(q, k, v, visible.of(visible.all_rows, visible.all_keys), root=scoring.root)
    return (attend if few else attend_fused)(q, k, v, visible, scoring)


def attend_prepared(q: Tensor, k: Tensor, v: Tensor, visible: Visible, scoring: Scoring) -> Tensor:
    """The fast route of a prepared layer, (..., h, t, e): its own kernel where that is faster and there is one."""
    if torch.compiler.is_compiling():  # a graph is to run where it is taken to, at every length
        return attend_fused(q, k, v, visible, scoring)
    able = visible.near_by_sizes and _native_can(q, k, v, scoring)
    if able and native.pays(q, k, v, causal=visible.causal is not False, masked=visible.says):
        return _near(q, k, v, visible, scoring)
    return attend_fused(q, k, v, visible, scoring)


def attend_once(q: Tensor, k: Tensor, v: Tensor, scoring: Scoring) -> Tensor:
    """The route of the layer's own kernel for one query of each head, which sees every key: (..., h, 1, e)."""
    if only_numbers() and native.fits_once(q, k, v) and native.works(q, v):
        return native.attend_once(q, k, v, scoring.root)
    return attend_everything(q, k, v, scoring)


def attend_everything(q: Tensor, k: Tensor, v: Tensor, scoring: Scoring) -> Tensor:
    """The fast route where every query sees every key and scores need nothing but their root: (..., h, t, e)."""
    heads, groups = q.shape[-3], k.shape[-3]
    if groups != v.shape[-3]:
        k, v, groups = _repeat(k, heads), _repeat(v, heads), heads
    return _as_heads(_fused(_as_rows(q, groups), k, v, scoring), heads)


def _native_can(q: Tensor, k: Tensor, v: Tensor, scoring: Scoring) -> bool:
    # whether the layer's own kernel can do all of it but what is hidden
    return scoring.fusible and not scoring.dropout and native.fits(q, k, v)


def _near(q: Tensor, k: Tensor, v: Tensor, visible: Visible, scoring: Scoring) -> Tensor:
    reach = {"causal": visible.causal is not False, "shift": visible.shift, "window": visible.window}
    said = visible.said(visible.all_rows, visible.all_keys) if visible.says else None
    return native.attend(q, k, v, said, root=scoring.root, **reach)


def _block(q: Tensor, k: Tensor, v: Tensor, visible: Visible, scoring: Scoring, rows: Span, keys: Span) -> Tensor:
    if not fusible(q, scoring):
        return mix(F.dropout(shares(q, k, visible, scoring, rows, keys)[1], scoring.dropout), v)
    allowed = visible.of(rows, keys)
    heads, groups = q.shape[-3], k.shape[-3]
    heads_differ = allowed is not None and allowed.ndim > 2 and allowed.shape[-3] > 1
    if groups != v.shape[-3] or (heads_differ and visible.rows_are_alike):
        k, v, groups = _repeat(k, heads), _repeat(v, heads), heads
    if allowed is not None and groups != heads and heads_differ:
        allowed = _as_rows(allowed.expand(*allowed.shape[:-2], rows.count, keys.count), groups)
    elif allowed is not None and groups != heads and allowed.shape[-2] > 1:
        allowed = torch.cat([allowed] * (heads // groups), -2)
    out = _fused(_as_rows(q, groups), k, v, scoring, allowed)
    if allowed is not None and not visible.all_see:
        out = torch.where(allowed.any(-1, keepdim=True), out, out.new_zeros(()))
    return _as_heads(out, heads)


def _fused(
    q: Tensor, k: Tensor, v: Tensor, scoring: Scoring, allowed: Tensor | None = None, *, causal: bool = False
) -> Tensor:
    # the kernels that keep no queries x keys want four axes, channels that lie side by side, and equal widths
    if q.ndim == 3:
        return _fused(q[None], k[None], v[None], scoring, allowed, causal=causal)[0]
    if allowed is not None and allowed.ndim == 3:
        allowed = allowed[None]
    c, e = q.shape[-1], v.shape[-1]
    if c < e:  # channels of 0 change nothing
        q, k = F.pad(q, (0, e - c)), F.pad(k, (0, e - c))
    elif e < c:
        v = k if _is_front(v, k) else F.pad(v, (0, c - e))
    scale = 1 / scoring.root
    if scale != 1 and not _scales_safely(q):  # as in `scaled_scores`
        q, scale = q * scale, 1.0
    q, k, v = (_with_channels_side_by_side(part) for part in (q, k, v))
    out = None
    if causal and not (torch.compiler.is_compiling() or inside_func()) and halves.pay(q, k, v):
        out = halves.attend(q, k, v)
    if out is None:
        out = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=allowed,
            dropout_p=scoring.dropout,
            is_causal=causal,
            scale=scale,
            enable_gqa=q.shape[-3] != k.shape[-3],
        )
    return out if c == e else out[..., :e]


def alone(q: Tensor, k: Tensor, v: Tensor, visible: Visible, scoring: Scoring, *, own: bool) -> Attend | None:
    """Return the one kernel (the layer's ``own``, where that pays) that does all of it for such sizes, or None."""
    able = own and visible.near_by_sizes and not visible.says and _native_can(q, k, v, scoring)
    if able and native.pays(q, k, v, causal=visible.causal is not False):
        return lambda q, k, v, scoring: _near(q, k, v, visible, scoring)
    alike = q.shape[-3] == k.shape[-3] == v.shape[-3] and q.shape[-1] == v.shape[-1]
    if fusible(q, scoring) and alike and (visible.only_causal or (visible.rows_are_alike and not visible.says)):
        return partial(_at_once if q.is_cuda else _fused, causal=visible.only_causal)
    return None


def _at_once(q: Tensor, k: Tensor, v: Tensor, scoring: Scoring, *, causal: bool) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=1 / scoring.root)


def _scales_safely(q: Tensor) -> bool:
    # the kernels of a GPU keep products in fp32 until they are scaled; those of the CPU scale what may have overflowed
    return q.is_cuda


def _with_channels_side_by_side(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


def fusible(q: Tensor, scoring: Scoring) -> bool:
    """Whether a kernel does all of it without queries x keys."""
    # what the kernels cannot do, `scaled_dot_product_attention` does with all scores at once
    if scoring.dropout and q.device.type == "cpu":
        return False
    return scoring.fusible and not (q.is_cuda and q.dtype == torch.float64)


def _rows(visible: Visible) -> int:
    # a block of many queries reads keys that most of them do not see
    return ROWS // 2 if visible.reach_is_limited and 2 * (visible.window or ROWS) <= ROWS else ROWS


def _reads_groups(q: Tensor, k: Tensor, v: Tensor) -> bool:
    # kernels of the CPU, and of GPUs in half precision, read a key head for each of its query heads; others may make
    # queries x keys
    reads = q.device.type == "cpu" or (q.is_cuda and q.element_size() == 2)
    return reads and k.shape[-3] == v.shape[-3]


def _is_front(v: Tensor, k: Tensor) -> bool:
    # whether v is the first channels of k: then k does as v, and the others are cut off the result
    if not only_numbers():
        return False
    same = v.data_ptr() == k.data_ptr() and v.dtype == k.dtype
    return same and v.shape[:-1] == k.shape[:-1] and v.stride() == k.stride()


def _recomputes() -> bool:
    # the gradient of `torch.func` refuses recomputation
    return torch.is_grad_enabled() and not inside_func() and not torch.compiler.is_exporting()


def _as_rows(x: Tensor, groups: int) -> Tensor:
    # (..., h, t, n) -> (..., g, h // g * t, n)
    if x.shape[-3] == groups:
        return x
    *batch, heads, t, n = x.shape
    return x.reshape(*batch, groups, heads // groups * t, n)


def _as_heads(x: Tensor, heads: int) -> Tensor:
    # (..., g, h // g * t, n) -> (..., h, t, n)
    if x.shape[-3] == heads:
        return x
    *batch, groups, rows, n = x.shape
    return x.reshape(*batch, heads, rows * groups // heads, n)


def _repeat(x: Tensor, heads: int) -> Tensor:
    if x.shape[-3] == 1:  # the kernels read one head many times without a copy
        return x.expand(*x.shape[:-3], heads, *x.shape[-2:])
    return x if x.shape[-3] == heads else x.repeat_interleave(heads // x.shape[-3], dim=-3)
