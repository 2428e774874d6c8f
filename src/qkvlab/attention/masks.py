"""Who may look at whom: causal and padding masks as booleans, True where attention is allowed.

Shapes: queries t, keys s, batch b, heads h. A row that may look at nothing attends to nothing: it gives 0.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from qkvlab.errors import BadInput

Causal = bool | Literal["top-left", "bottom-right"]


def causal_mask(queries: int, keys: int, align: Causal, device: torch.device | None = None) -> Tensor:
    """Let each query see itself and what stands before it: bool (t, s).

    Args:
        queries: t.
        keys: s.
        align: where query 0 stands among the keys if t differs from s: at key 0 (``top-left``) or so that
            the last query stands at the last key (``bottom-right``). True needs t = s.
        device: of the mask.

    Raises:
        BadInput: t differs from s and no alignment is named.
    """
    if align is True and queries != keys:
        raise BadInput(
            f"causal attention of {queries} queries over {keys} keys needs an alignment: pass "
            "causal='top-left' (query 0 stands at key 0) or causal='bottom-right' (the last query stands at "
            "the last key)."
        )
    if align not in (True, "top-left", "bottom-right"):
        raise BadInput(f"causal must be True, False, 'top-left' or 'bottom-right'; got {align!r}.")
    shift = keys - queries if align == "bottom-right" else 0
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(shift)


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
    # a compiled or exported graph cannot look at values
    if not torch.compiler.is_compiling() and bool(((padding < 0) | (padding > keys)).any()):
        raise BadInput(f"lengths must lie in 0..{keys}; got {padding.tolist()}.")
    return (torch.arange(keys, device=padding.device) < padding[:, None])[:, None, None, :]


def combine(
    shape: tuple[int, ...],
    *,
    causal: Causal,
    padding: Tensor | None,
    mask: Tensor | None,
    device: torch.device,
) -> Tensor | None:
    """Join all masks by "and"; None when everything is allowed.

    Args:
        shape: of the scores, (b, h, t, s); the result broadcasts to it and has at least two axes.
        causal: see `causal_mask`.
        padding: see `padding_mask`.
        mask: booleans that broadcast to ``shape``.
        device: of the result.

    Raises:
        BadInput: see `causal_mask`, `padding_mask`; or ``mask`` is not boolean; or one does not broadcast.
    """
    queries, keys = shape[-2:]
    parts: dict[str, Tensor] = {}
    if causal is not False:
        parts["causal"] = causal_mask(queries, keys, causal, device)
    if padding is not None:
        parts["padding"] = padding_mask(keys, padding)
    if mask is not None:
        if mask.dtype != torch.bool:
            raise BadInput(
                f"mask must be boolean, True where attention is allowed; got {mask.dtype}. "
                "For 0/1 masks pass mask.bool(); additive masks are not taken."
            )
        parts["mask"] = mask
    joined: Tensor | None = None
    for name, part in parts.items():
        if not _broadcasts(part.shape, shape):
            raise BadInput(
                f"{name} must broadcast to the scores, (batch, heads, queries, keys) = {tuple(shape)}; "
                f"got {tuple(part.shape)}."
            )
        joined = part if joined is None else joined & part
    return None if joined is None else torch.atleast_2d(joined)


def without_self(allowed: Tensor | None, tokens: int, device: torch.device) -> Tensor:
    """Take every token's view of itself away, unless it is all that the token may see: bool (..., t, t).

    Args:
        allowed: what else may be seen, see `combine`; everything when None.
        tokens: t, of queries and keys alike.
        device: of the mask.
    """
    own = torch.eye(tokens, dtype=torch.bool, device=device)
    others = ~own if allowed is None else allowed & ~own
    lonely = ~others.any(-1, keepdim=True)
    return others | (lonely & own if allowed is None else lonely & own & allowed)


def _broadcasts(small: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    pairs = zip(reversed(small), reversed(shape), strict=False)
    return len(small) <= len(shape) and all(n in (1, size) for n, size in pairs)
