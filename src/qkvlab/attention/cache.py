"""The KV cache of one layer: what `remember` keeps of each token and no more, in place, for tokens that come later.

b batch    g heads of a kept array    s tokens so far    m room for tokens

Every kept array has a store (b, g, m, c). Where keys and values are kept as they are, cut into heads, the store holds
them head by head and they are read without `recall`: a query then walks through each head's keys in one piece.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from qkvlab.attention.direct import direct, multiplied
from qkvlab.attention.following import can_be_followed
from qkvlab.attention.prepared import Prepared
from qkvlab.attention.visible import Span
from qkvlab.contracts import Memory
from qkvlab.designs import Design
from qkvlab.designs.design import split_heads
from qkvlab.designs.work import work
from qkvlab.errors import BadInput

if TYPE_CHECKING:
    from qkvlab.attention.layer import Attention


class Cache:
    """Preallocated memory of one layer for a batch of sequences of equal length; `Attention.new_cache` makes it.

    Beside the memory stand, from the second step on, the layer's matrices side by side (`Prepared`).

    Args:
        layer: the layer whose tokens it will hold.
        batch: sequences.
        max_tokens: room for each.
        dtype: of the kept numbers; the layer's unless given.
        device: where they stand; the layer's unless given.

    Raises:
        BadInput: sizes below 1.

    >>> from qkvlab import Attention
    >>> cache = Attention("QKK", d_model=16, heads=2).new_cache(1, max_tokens=8)
    >>> len(cache), cache.nbytes == 8 * 16 * 4
    (0, True)
    """

    def __init__(
        self,
        layer: Attention,
        batch: int,
        max_tokens: int,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        for name, size in (("batch", batch), ("max_tokens", max_tokens)):
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise BadInput(f"{name} of a cache must be a positive whole number; got {size!r}.")
        self.design, self.dims = layer.design, layer.dims
        self.batch, self.max_tokens = batch, max_tokens
        self._layer = weakref.ref(layer)
        self._length = 0
        self.absorbed = layer.design.absorbed()
        for form in (self.design, self.absorbed):  # found once per design and sizes: here, and not in anybody's step
            if form is not None:
                if self.absorbed is not None:
                    work(form, self.dims)
                for each in (form, form.joined(self.dims)):
                    if each is not None:
                        direct(each, self.dims)
                        multiplied(each, self.dims)
        self._prepared: Prepared | None = None
        like = layer.out.weight
        with torch.no_grad():
            memory = layer.remember(like.new_zeros(2, 2, self.dims.d_model))
            self._cut = _as_kept(layer.design, layer.projections.recall(memory), memory)
        heads = {} if self._cut is None else dict(self._cut)
        self._stores = {
            name: torch.zeros(
                (batch, heads.get(name, 1), max_tokens, kept.shape[-1] // heads.get(name, 1)),
                dtype=dtype or like.dtype,
                device=device or like.device,
            )
            for name, kept in memory.kept.items()
        }

    def __len__(self) -> int:
        return self._length

    @property
    def dtype(self) -> torch.dtype:
        return next(iter(self._stores.values())).dtype

    @property
    def device(self) -> torch.device:
        return next(iter(self._stores.values())).device

    @property
    def nbytes(self) -> int:
        """Bytes of all stores: batch x max_tokens x `Cost.cache_per_token` x bytes of a number."""
        return sum(store.nbytes for store in self._stores.values())

    def reset(self) -> None:
        """Forget every token; the room stays."""
        self._length = 0

    def truncate(self, tokens: int) -> None:
        """Forget all but the first tokens, as when a guess of several tokens is taken back.

        Raises:
            BadInput: fewer than 0 or more than are held.
        """
        if not isinstance(tokens, int) or isinstance(tokens, bool) or not 0 <= tokens <= self._length:
            raise BadInput(f"a cache of {self._length} tokens can be cut to 0..{self._length}; got {tokens!r}.")
        self._length = tokens

    def require(self, layer: Attention, x: Tensor) -> None:
        """Refuse a layer or tokens that this cache was not made for.

        Raises:
            BadInput: what came and what was expected.
        """
        if self._layer() is not layer:
            if (self.design, self.dims) != (layer.design, layer.dims):
                raise BadInput(
                    f"this cache was made for {self.design} at {self.dims}; the layer is {layer.design} "
                    f"at {layer.dims}."
                )
            raise BadInput(f"this cache belongs to another layer of {self.design}: each layer has a cache of its own.")
        if x.ndim != 3 or x.shape[0] != self.batch or x.shape[-1] != self.dims.d_model:
            raise BadInput(
                f"x must be (batch={self.batch}, tokens, d_model={self.dims.d_model}) for this cache; "
                f"got {tuple(x.shape)}."
            )
        cast = x.dtype == self.dtype or torch.is_autocast_enabled(x.device.type)
        if not cast or x.device != self.device:
            raise BadInput(f"this cache holds {self.dtype} on {self.device}; x is {x.dtype} on {x.device}.")
        if self._length + x.shape[1] > self.max_tokens:
            raise BadInput(
                f"this cache has room for {self.max_tokens} tokens and holds {self._length}; {x.shape[1]} more do not "
                "fit: make a larger one, or reset() it."
            )

    def prepared(self, layer: Attention, design: Design) -> Prepared | None:
        """Return the layer's matrices side by side, or None for the first tokens, which are many as a rule.

        They are read anew when a parameter was written to, and whenever the cache begins anew; None where that is not
        seen.
        """
        if self._length == 0:
            self._prepared = None
        elif self._prepared is None or not self._prepared.stands(layer, design):
            self._prepared = Prepared(layer, design) if can_be_followed(layer) else None
        return self._prepared

    def add(self, memory: Memory) -> None:
        """Write what was kept of the next tokens behind what is there."""
        end = self._length
        for name, store in self._stores.items():
            kept = split_heads(memory.kept[name], store.shape[1])
            end = self._length + kept.shape[-2]
            store.narrow(2, self._length, kept.shape[-2]).copy_(kept)
        self._length = end

    def recall(self, layer: Attention, design: Design, keys: Span) -> tuple[Tensor, Tensor]:
        """Keys (b, g, s, c) and values (b, u, s, e) of some of the tokens, as ``design`` makes them."""
        if self._cut is not None and design is layer.design:
            (k, _), (v, _) = self._cut
            start, count = keys.start, len(keys)
            return self._stores[k].narrow(2, start, count), self._stores[v].narrow(2, start, count)
        stores = {name: store[:, :, keys.slice] for name, store in self._stores.items()}
        kept = {name: part[:, 0] if part.shape[1] == 1 else _side_by_side(part) for name, part in stores.items()}
        positions = torch.arange(keys.start, keys.stop, device=self.device) if keys.start else None
        return design.recall(layer.projections.weights, Memory(kept, positions), self.dims)

    def __repr__(self) -> str:
        return (
            f"Cache({self.design}, {self._length} of {self.max_tokens} tokens, batch {self.batch}, "
            f"{self.dtype} on {self.device}, {self.nbytes} bytes)"
        )


def _side_by_side(heads: Tensor) -> Tensor:
    return heads.swapaxes(-3, -2).flatten(-2)


def _as_kept(
    design: Design, made: tuple[Tensor, Tensor], memory: Memory
) -> tuple[tuple[str, int], tuple[str, int]] | None:
    # the kept arrays that are k and v, and their heads; None where `recall` computes either
    found = []
    for part in made:
        heads = part.shape[-3]
        for name, kept in memory.kept.items():
            if kept.shape[-1] % heads == 0 and _same_numbers(part, split_heads(kept, heads)):
                found.append((name, heads))
                break
    if len(found) < 2 or (found[0][0] == found[1][0] and found[0] != found[1]):
        return None
    return found[0], found[1]


def _same_numbers(a: Tensor, b: Tensor) -> bool:
    same = a.data_ptr() == b.data_ptr()
    return same and a.shape == b.shape and a.stride() == b.stride() and a.dtype == b.dtype
