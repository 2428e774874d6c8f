"""Who may look at whom, answered for any block of queries and keys, so that no queries x keys mask need exist.

b batch    h heads    t queries    s keys
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qkvlab.attention.masks import (
    Causal,
    causal_shift,
    padding_mask,
    require_broadcast,
    require_mask,
    require_positions,
)
from qkvlab.contracts import Memory


@dataclass(frozen=True)
class Span:
    """Places ``start`` up to but not including ``stop``."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def count(self) -> int:
        """What `len` gives, which may be a symbol: `len` would fix the size of a graph that is to hold for many."""
        return self.stop - self.start

    @property
    def slice(self) -> slice:
        return slice(self.start, self.stop)


@dataclass(frozen=True, kw_only=True)
class Visible:
    """All that limits whom a query sees, joined by "and".

    Attributes:
        shape: of the scores, (b, h, t, s) or (h, t, s).
        device: of the masks.
        causal: see `masks.causal_shift`.
        padding: see `masks.padding_mask`.
        mask: booleans that broadcast to ``shape``, or to one entry per head that is served, True where attention is
            allowed.
        served: see `Design.served`.
        segments: which text each query, (b, t), and each key, (b, s), belongs to; only equal numbers see each other.
        window: see `Design.window`; in positions.
        itself: whether a token may look at itself while it sees another; False needs keys that hold the queries' own
            tokens, t = s or ``"bottom-right"``.
        asked: positions of the queries, (t,) or (b, t); None is 0, 1, 2, ... (under ``"bottom-right"`` the last ones).
        kept: positions of the keys, likewise.

    Raises:
        BadInput: see the parts.
    """

    shape: tuple[int, ...]
    device: torch.device
    causal: Causal = False
    padding: Tensor | None = None
    mask: Tensor | None = None
    served: tuple[int, ...] | None = None
    segments: tuple[Tensor, Tensor] | None = None
    window: int | None = None
    itself: bool = True
    asked: Tensor | None = None
    kept: Tensor | None = None

    def __post_init__(self) -> None:
        if self.padding is not None:
            require_broadcast("padding", padding_mask(self.shape[-1], self.padding).shape, self.shape)
        if self.mask is not None:
            heads = self.shape[-3] if self.served is None else len(set(self.served))
            require_mask(self.mask, (*self.shape[:-3], heads, *self.shape[-2:]))
        if self.asked is not None:
            require_positions("queries", self.shape[-2], self.asked, self.shape[:-3])
        if self.kept is not None:
            require_positions("keys", self.shape[-1], self.kept, self.shape[:-3])
        if self.causal is not False:
            causal_shift(self.shape[-2], self.shape[-1], self.causal)  # refuses an alignment that is not named

    @property
    def shift(self) -> int:
        """The key at which query 0 stands."""
        return 0 if self.causal is False else causal_shift(self.shape[-2], self.shape[-1], self.causal)

    @property
    def all_rows(self) -> Span:
        return Span(0, self.shape[-2])

    @property
    def all_keys(self) -> Span:
        return Span(0, self.shape[-1])

    @property
    def all_see(self) -> bool:
        """Whether every query is sure to see some key."""
        free = self.padding is None and self.mask is None and self.segments is None
        if self.window is not None:  # then its own key must be there
            free = free and self.asked is None and self.kept is None and self.shape[-2] + self.shift <= self.shape[-1]
        return free and self.shift >= 0

    @property
    def only_causal(self) -> bool:
        """Whether nothing but the plain causal mask of as many queries as keys applies."""
        square = self.causal is not False and self.shape[-2] == self.shape[-1]
        return square and self._bare and self.padding is None and self.mask is None

    @property
    def near_by_sizes(self) -> bool:
        """Whether causality and the window follow from the sizes, and all else that hides keys is in `said`."""
        placed = self.window is None or (self.asked is None and self.kept is None)
        rows = 1 if self.mask is None or self.mask.ndim < 2 else self.mask.shape[-2]
        joins = self.padding is None or rows == 1  # else a tensor of queries x keys of each sequence would be made
        return placed and joins and self.segments is None and self.itself

    @property
    def says(self) -> bool:
        """Whether the caller hides keys by padding or a mask."""
        return self.padding is not None or self.mask is not None

    def said(self, rows: Span, keys: Span) -> Tensor | None:
        """Return what padding and the mask say alone, as `of` does; no larger than the larger of them."""
        return _joined(self._said(rows, keys))

    @property
    def rows_are_alike(self) -> bool:
        """Whether all queries of a head see the same keys, so that no mask of queries x keys has to be made."""
        causal = self.causal is not False and self.shift < self.shape[-1] - 1
        one_row = self.mask is None or self.mask.ndim < 2 or self.mask.shape[-2] == 1
        return self._bare and not causal and one_row

    @property
    def _bare(self) -> bool:
        return self.segments is None and self.window is None and self.itself

    @property
    def reach_is_limited(self) -> bool:
        """Whether `reach` is no more than a window around the queries, however many keys there are."""
        return self.window is not None and self.asked is None and self.kept is None

    def reach(self, rows: Span) -> Span:
        """Return keys outside of which these queries see nothing; at least one where there are any."""
        start, stop = 0, self.shape[-1]
        if self.causal is not False:
            stop = min(stop, rows.stop + self.shift)
        if self.window is not None and self.reach_is_limited:
            start = max(start, rows.start + self.shift - self.window + 1)
            stop = min(stop, rows.stop + self.shift + self.window - 1)
        stop = min(max(stop, 1), self.shape[-1])
        return Span(max(min(start, stop - 1), 0), stop)

    def back(self, rows: Span, keys: Span) -> Tensor:
        """Distance from each query back to each key: whole numbers (t, s) or (b, 1, t, s), negative ahead."""
        asked, kept = self._at(self.asked, rows, self.shift), self._at(self.kept, keys, 0)
        if asked.ndim == 1 and kept.ndim == 1:
            return asked[:, None] - kept
        asked, kept = (at if at.ndim == 2 else at[None] for at in (asked, kept))
        return (asked[:, :, None] - kept[:, None, :])[:, None]

    def of(self, rows: Span, keys: Span) -> Tensor | None:
        """Booleans that broadcast to these scores, at least two axes; None when every query sees every key."""
        allowed = _joined(self._parts(rows, keys))
        if self.itself:
            return allowed
        return without_self(allowed, Span(rows.start + self.shift, rows.stop + self.shift), keys, self.device)

    def _parts(self, rows: Span, keys: Span) -> list[Tensor | None]:
        causal = window = segments = None
        if self.causal is not False and rows.start + self.shift < keys.stop - 1:
            causal = self._places(keys) <= self._places(rows)[:, None] + self.shift
        if self.window is not None:
            back = self.back(rows, keys)
            window = (back < self.window) & (back > -self.window)
        if self.segments is not None:
            asked, kept = self.segments
            segments = (asked[:, rows.slice, None] == kept[:, None, keys.slice])[:, None]
        return [causal, window, *self._said(rows, keys), segments]

    def _said(self, rows: Span, keys: Span) -> list[Tensor | None]:
        padding = mask = None
        if self.padding is not None:
            padding = padding_mask(self.shape[-1], self.padding)[..., keys.slice]
        if self.mask is not None:
            mask = _cut(self.mask, -1, keys) if self.mask.ndim else self.mask
            mask = _cut(mask, -2, rows) if mask.ndim > 1 else mask
            if self.served is not None and mask.ndim > 2 and mask.shape[-3] > 1:
                mask = mask[..., list(self.served), :, :]
        return [padding, mask]

    def _places(self, span: Span) -> Tensor:
        return torch.arange(span.start, span.stop, device=self.device)

    def _at(self, positions: Tensor | None, span: Span, shift: int) -> Tensor:
        # distances may be negative and large, whatever whole numbers the caller's are
        return self._places(span) + shift if positions is None else positions[..., span.slice].long()


def standing(queries: int, memory: Memory, causal: Causal) -> Tensor | None:
    """Return where queries stand of whom nothing else is said: (t,) or (b, t); None is 0, 1, 2, ...

    Under ``"bottom-right"`` each stands at its own key; those before the first key see nothing and stand with it.
    """
    kept = next(iter(memory.kept.values()))
    if causal != "bottom-right" or queries == kept.shape[-2]:
        return memory.positions if causal == "bottom-right" else None
    at = torch.arange(queries, device=kept.device) + causal_shift(queries, kept.shape[-2], causal)
    at = at.clamp(min=0)
    return at if memory.positions is None else memory.positions[..., at]


def without_self(allowed: Tensor | None, rows: Span, keys: Span, device: torch.device) -> Tensor:
    """Take every token's view of itself away, unless it is all that the token may see: bool (..., t, s).

    Args:
        allowed: what else may be seen of these keys; everything when None.
        rows: places of the queries among the keys.
        keys: places of the keys, all that the queries may see.
        device: of the mask.
    """
    at = [torch.arange(span.start, span.stop, device=device) for span in (rows, keys)]
    own = at[0][:, None] == at[1]
    others = ~own if allowed is None else allowed & ~own
    lonely = ~others.any(-1, keepdim=True)
    return others | (lonely & own if allowed is None else lonely & own & allowed)


def _joined(parts: list[Tensor | None]) -> Tensor | None:
    found = [part for part in parts if part is not None]
    allowed = torch.atleast_2d(found[0]) if found else None
    for part in found[1:]:
        allowed = part if allowed is None else allowed & part
    return allowed


def _cut(mask: Tensor, axis: int, span: Span) -> Tensor:
    return mask if mask.shape[axis] == 1 else mask.narrow(axis, span.start, span.count)
