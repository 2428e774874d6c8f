"""softmax(q k^T / sqrt(c)) v, twice: a fast route and an explaining one that agree.

    q (..., h, t, c)    k (..., g, s, c)    v (..., g, s, e)    allowed broadcasts to (..., h, t, s)

Grouped heads (g < h) are computed as more query rows of the same key head: query head i belongs to key
head i // (h // g). A row that may look at nothing gives exactly 0, with finite gradients.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def scaled_scores(q: Tensor, k: Tensor) -> Tensor:
    """q k^T / sqrt(c), before any mask: (..., h, t, s)."""
    heads, groups = q.shape[-3], k.shape[-3]
    # q is scaled, not the product: q k^T may overflow where the score itself does not
    rows = _as_rows(q / math.sqrt(q.shape[-1]), groups)
    return _as_heads(rows @ k.swapaxes(-2, -1), heads)


def softmax_allowed(scores: Tensor, allowed: Tensor | None, *, all_see: bool = False) -> Tensor:
    """Softmax over the keys that are allowed; rows without any are 0.

    Args:
        scores: (..., h, t, s).
        allowed: broadcasts to them.
        all_see: promises that every row sees something, which saves a pass over the weights.
    """
    if allowed is None:
        return scores.softmax(-1)
    if all_see:
        return scores.masked_fill(~allowed, -math.inf).softmax(-1)
    # a finite score where nothing is allowed keeps softmax and its gradient finite; the row is then set to 0
    weights = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min).softmax(-1)
    return weights.masked_fill(~allowed.any(-1, keepdim=True), 0.0)


def mix(weights: Tensor, v: Tensor) -> Tensor:
    """Weighted sum of values: (..., h, t, s) x (..., g, s, e) -> (..., h, t, e)."""
    heads = weights.shape[-3]
    return _as_heads(_as_rows(weights, v.shape[-3]) @ v, heads)


def attend(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None = None, *, all_see: bool = False) -> Tensor:
    """The explaining route as one call: (..., h, t, e); see `softmax_allowed`."""
    return mix(softmax_allowed(scaled_scores(q, k), allowed, all_see=all_see), v)


def attend_fused(
    q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None = None, *, square_causal: bool = False
) -> Tensor:
    """The fast route through `scaled_dot_product_attention`: (..., h, t, e).

    Args:
        q: queries.
        k: keys.
        v: values.
        allowed: as in `attend`.
        square_causal: t = s and nothing but the causal mask applies; no mask is built, ``allowed`` is None.
    """
    heads, groups = q.shape[-3], k.shape[-3]
    if groups == heads or square_causal:
        k, v = _repeat(k, heads), _repeat(v, heads)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, is_causal=square_causal)
    else:
        if allowed is not None:
            allowed = _as_rows(allowed.expand(*q.shape[:-1], k.shape[-2]), groups)
        out = _as_heads(F.scaled_dot_product_attention(_as_rows(q, groups), k, v, attn_mask=allowed), heads)
    if allowed is None:
        return out
    nobody = ~allowed.any(-1, keepdim=True)
    if groups != heads:
        nobody = _as_heads(nobody, heads)
    return torch.where(nobody, out.new_zeros(()), out)


def _as_rows(x: Tensor, groups: int) -> Tensor:
    # (..., h, t, n) -> (..., g, h // g * t, n)
    *batch, heads, t, n = x.shape
    return x if heads == groups else x.reshape(*batch, groups, heads // groups * t, n)


def _as_heads(x: Tensor, heads: int) -> Tensor:
    # (..., g, h // g * t, n) -> (..., h, t, n)
    *batch, groups, rows, n = x.shape
    return x if groups == heads else x.reshape(*batch, heads, rows * groups // heads, n)


def _repeat(x: Tensor, heads: int) -> Tensor:
    return x if x.shape[-3] == heads else x.repeat_interleave(heads // x.shape[-3], dim=-3)
