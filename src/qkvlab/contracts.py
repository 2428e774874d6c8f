"""The words that every part shares: sizes, costs, what a token leaves behind.

Axes, in shapes and in einsum letters:

    b batch            t query tokens     s key tokens (the memory)
    d d_model          h heads            g kv_heads (each serves h // g query heads)
    c d_head           e d_value

This module knows neither PyTorch nor files: recipes, statistics and reports import it freely.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from qkvlab.errors import BadInput

Array = Any
"""A tensor of PyTorch or an array of NumPy: recipes only use what both have (``@``, ``reshape``, ``*``)."""


@dataclass(frozen=True, kw_only=True)
class Dims:
    """Sizes of one attention layer; ``kv_heads`` belongs to the design.

    Attributes:
        d_model: width of x.
        heads: number of query heads.
        d_head: channels of one query or key.
        d_value: channels of one value.
    """

    d_model: int
    heads: int
    d_head: int
    d_value: int

    def __post_init__(self) -> None:
        for name in ("d_model", "heads", "d_head", "d_value"):
            size = getattr(self, name)
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise BadInput(f"{name} must be a positive whole number; got {size!r}.")

    @classmethod
    def of(cls, d_model: int, heads: int = 1, d_head: int | None = None, d_value: int | None = None) -> Dims:
        """Fill in the usual sizes: d_head = d_model / heads, d_value = d_head.

        >>> Dims.of(768, 12).d_head
        64
        """
        if d_head is None:
            if not all(isinstance(n, int) and n > 0 for n in (d_model, heads)) or d_model % heads:
                raise BadInput(
                    "d_model must be a multiple of heads, so that each head gets an equal slice; "
                    f"got d_model={d_model}, heads={heads}. Pass d_head to choose another head size."
                )
            d_head = d_model // heads
        if d_value is None:
            d_value = d_head
        return cls(d_model=d_model, heads=heads, d_head=d_head, d_value=d_value)


@dataclass(frozen=True)
class Cost:
    """What making q, k and v costs (the output matrix W_O and everything after it is the same for all).

    Attributes:
        parameters: entries of all matrices, trained or not.
        flops_per_token: multiply-adds count two; each shared matrix is used once.
        cache_per_token: numbers that decoding must keep for every token.
    """

    parameters: int
    flops_per_token: int
    cache_per_token: int


@dataclass(frozen=True, kw_only=True)
class LayerCost:
    """What one attention layer costs for one sequence, W_O and biases included; `qkvlab.cost` makes it.

    FLOPs are those of matrix products as PyTorch's counter finds them on the plain route: multiply-adds count two, and
    the scores that causality or a window hides are computed too.

    Attributes:
        parameters: entries of all matrices, trained or not.
        forward_flops: of a forward pass over all tokens.
        decode_flops: of the last token alone, the others being in the cache.
        absorbed: whether it is decoded in the absorbed form, because that takes fewer FLOPs.
        cache_numbers: that are kept of each token.
        cache_bytes: that they take.
        read_weight_bytes: of weights that decoding a token reads, once for a whole batch.
        read_cache_bytes: of the cache that decoding it reads, for each sequence.
    """

    parameters: int
    forward_flops: int
    decode_flops: int
    absorbed: bool
    cache_numbers: int
    cache_bytes: int
    read_weight_bytes: int
    read_cache_bytes: int

    @property
    def read_bytes(self) -> int:
        """Bytes of weights and cache that decoding one token of one sequence reads."""
        return self.read_weight_bytes + self.read_cache_bytes


@dataclass(frozen=True)
class Memory:
    """What a design keeps of each token: the KV cache, and no more.

    Attributes:
        kept: name -> array of shape (..., s, channels); equal names never hold the same numbers twice.
        positions: where the tokens stand, whole numbers (s,) or (b, s); None is 0, 1, 2, ...
    """

    kept: Mapping[str, Array]
    positions: Array | None = None


@dataclass(frozen=True, kw_only=True)
class HeadSizes:
    """What `ask` and `recall` make of a token at given `Dims`.

    Attributes:
        queries: heads of q.
        keys: heads of k; each serves queries // keys heads of q.
        values: heads of v, likewise.
        channels: of one query or key.
        value_channels: of one value.
    """

    queries: int
    keys: int
    values: int
    channels: int
    value_channels: int


Products = Literal["fp32", "bf16"]
"""Precision of matrix products in training."""


@dataclass(frozen=True)
class Words:
    """A text in both languages; people see it before any code.

    >>> str(Words("同一矩阵", "one matrix"))
    '同一矩阵 / one matrix'
    """

    zh: str
    en: str

    def __str__(self) -> str:
        return f"{self.zh} / {self.en}"

    def of(self, lang: str) -> str:
        """Return the text in ``lang`` (``zh`` or ``en``)."""
        return self.zh if lang == "zh" else self.en
