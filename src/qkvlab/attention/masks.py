"""What callers say about who may look at whom, and what is refused: alignment, padding, masks.

Shapes: queries t, keys s, batch b, heads h. A row that may look at nothing attends to nothing: it gives 0.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from qkvlab.errors import BadInput

Causal = bool | Literal["top-left", "bottom-right"]


def causal_shift(queries: int, keys: int, align: Causal) -> int:
    """Return the key at which query 0 stands; a query sees its own key and what stands before it.

    Args:
        queries: t.
        keys: s.
        align: ``top-left`` puts query 0 at key 0, ``bottom-right`` the last query at the last key. True needs t = s.

    Raises:
        BadInput: t differs from s and no alignment is named.

    >>> causal_shift(2, 4, "top-left"), causal_shift(2, 4, "bottom-right")
    (0, 2)
    """
    if align is True and queries != keys:
        raise BadInput(
            f"causal attention of {queries} queries over {keys} keys needs an alignment: pass "
            "causal='top-left' (query 0 stands at key 0) or causal='bottom-right' (the last query stands at "
            "the last key)."
        )
    if align is not True and align not in ("top-left", "bottom-right"):
        raise BadInput(f"causal must be True, False, 'top-left' or 'bottom-right'; got {align!r}.")
    return keys - queries if align == "bottom-right" else 0


def padding_mask(keys: int, padding: Tensor) -> Tensor:
    """Hide padded keys: bool (b, 1, 1, s).

    Args:
        keys: s.
        padding: the length of each sequence, whole numbers (b,), or True for every real token, bool (b, s).

    Raises:
        BadInput: another shape or dtype, or lengths outside 0..s.
    """
    if padding.dtype == torch.bool:
        if padding.ndim != 2 or padding.shape[-1] != keys:
            raise BadInput(f"a padding mask must be (batch, {keys}) booleans; got {tuple(padding.shape)}.")
        return padding[:, None, None, :]
    if padding.ndim != 1 or padding.is_floating_point() or padding.is_complex():
        raise BadInput(
            "padding must be lengths, whole numbers (batch,), or booleans (batch, keys), True for real "
            f"tokens; got {padding.dtype} {tuple(padding.shape)}."
        )
    # a compiled or exported graph cannot look at values, and on ``meta`` there are none
    if not (torch.compiler.is_compiling() or padding.is_meta) and bool(((padding < 0) | (padding > keys)).any()):
        raise BadInput(f"lengths must lie in 0..{keys}; got {padding.tolist()}.")
    return (torch.arange(keys, device=padding.device) < padding[:, None])[:, None, None, :]


def require_mask(mask: Tensor, shape: tuple[int, ...]) -> None:
    """Refuse a mask of the caller's that is not boolean or does not broadcast to scores of this shape.

    Raises:
        BadInput: what came and what is expected.
    """
    if mask.dtype != torch.bool:
        raise BadInput(
            f"mask must be boolean, True where attention is allowed; got {mask.dtype}. "
            "For 0/1 masks pass mask.bool(); additive masks are not taken."
        )
    if mask.ndim == 3 and len(shape) == 4 and mask.shape[0] not in (1, shape[1]):
        raise BadInput(
            f"a mask of three axes is (heads, queries, keys) = {tuple(shape[1:])}; got {tuple(mask.shape)}. "
            "One for each sequence is given as mask[:, None]."
        )
    require_broadcast("mask", mask.shape, shape)


def require_positions(name: str, tokens: int, positions: Tensor | None, batch: tuple[int, ...]) -> None:
    """Refuse positions that are not whole numbers, one for each token of all sequences or of each.

    Raises:
        BadInput: what came and what is expected.
    """
    if positions is None:
        return
    whole = not (positions.is_floating_point() or positions.is_complex() or positions.dtype == torch.bool)
    fits = positions.ndim in (1, 2) and positions.shape[-1] == tokens
    if not whole or not fits or (positions.ndim == 2 and positions.shape[0] not in (1, *batch)):
        raise BadInput(
            f"positions of {tokens} {name} must be whole numbers ({tokens},) or (batch, {tokens}); "
            f"got {positions.dtype} {tuple(positions.shape)}."
        )


def require_broadcast(name: str, small: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """Refuse what does not broadcast to scores of this shape.

    Raises:
        BadInput: both shapes.
    """
    pairs = zip(reversed(small), reversed(shape), strict=False)
    if len(small) > len(shape) or any(n not in (1, size) for n, size in pairs):
        raise BadInput(
            f"{name} must broadcast to the scores, (batch, heads, queries, keys) = {tuple(shape)}; got {tuple(small)}."
        )


def without_padding(x: Tensor, padding: Tensor | None) -> Tensor:
    """Return keys or values (b, h, s, c) with 0 where ``padding`` says that there is nothing."""
    # 0 x NaN is NaN: what stands in padding must not reach the sum even with weight 0
    if padding is None:
        return x
    real = padding_mask(x.shape[-2], padding).swapaxes(-2, -1)
    return x.masked_fill(~real, 0.0)
