"""A design around another one: everything is the inner design's unless a part says otherwise."""

from __future__ import annotations

from dataclasses import dataclass, replace

from qkvlab.contracts import Array, Dims, HeadSizes, Memory, Words
from qkvlab.designs.design import Bend, Design, Matrix, Weights
from qkvlab.errors import BadInput


@dataclass(frozen=True)
class Around(Design):
    """Base of the parts that are written behind a slash, such as ``QQV/noself``.

    Attributes:
        inner: the design that is changed.
    """

    inner: Design

    def __post_init__(self) -> None:
        inside: Design = self.inner
        while isinstance(inside, Around):
            if type(inside) is type(self):
                raise BadInput(f"a part can stand in a design once; got {self.name}.")
            inside = inside.inner

    @property
    def adds(self) -> Words:
        """What the part says behind the words of the inner design."""
        inner, whole = self.inner.words, self.words
        return Words(whole.zh.removeprefix(inner.zh).lstrip("，"), whole.en.removeprefix(inner.en).lstrip("; "))

    @property
    def sees_itself(self) -> bool:
        return self.inner.sees_itself

    @property
    def window(self) -> int | None:
        return self.inner.window

    @property
    def own_keys(self) -> str | None:
        return self.inner.own_keys

    @property
    def keys_are_values(self) -> str | None:
        return self.inner.keys_are_values

    @property
    def turns_as(self) -> str | None:
        return self.inner.turns_as

    @property
    def out_bias(self) -> bool:
        return self.inner.out_bias

    def sizes(self, dims: Dims) -> Dims:
        return self.inner.sizes(dims)

    def head_sizes(self, dims: Dims) -> HeadSizes:
        return self.inner.head_sizes(self.sizes(dims))

    def served(self, dims: Dims) -> tuple[int, ...] | None:
        return self.inner.served(self.sizes(dims))

    def kv_heads(self, dims: Dims) -> int:
        return self.inner.kv_heads(self.sizes(dims))

    def matrices(self, dims: Dims) -> dict[str, Matrix]:
        return self.inner.matrices(self.sizes(dims))

    def ask(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> Array:
        return self.inner.ask(weights, x, self.sizes(dims), positions)

    def remember(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> Memory:
        return self.inner.remember(weights, x, self.sizes(dims), positions)

    def recall(self, weights: Weights, memory: Memory, dims: Dims) -> tuple[Array, Array]:
        return self.inner.recall(weights, memory, self.sizes(dims))

    def project(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> tuple[Array, Memory]:
        return self.inner.project(weights, x, self.sizes(dims), positions)

    def products(self, dims: Dims) -> tuple[str, ...]:
        return self.inner.products(self.sizes(dims))

    def root(self, dims: Dims) -> float:
        return self.inner.root(self.sizes(dims))

    def bends(self, weights: Weights, dims: Dims) -> tuple[Bend, ...]:
        return self.inner.bends(weights, self.sizes(dims))

    def sinks(self, weights: Weights, dims: Dims) -> Array | None:
        return self.inner.sinks(weights, self.sizes(dims))

    def finish(self, weights: Weights, heads: Array, dims: Dims, like: Array | None = None) -> Array:
        return self.inner.finish(weights, heads, self.sizes(dims), like)

    def absorbed(self) -> Design | None:
        inside = self.inner.absorbed()
        return None if inside is None else replace(self, inner=inside)
