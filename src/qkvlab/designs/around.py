"""A design around another one: everything is the inner design's unless a part says otherwise."""

from __future__ import annotations

from dataclasses import dataclass

from qkvlab.contracts import Array, Dims, Memory
from qkvlab.designs.design import Design, Matrix, Weights
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
    def sees_itself(self) -> bool:
        return self.inner.sees_itself

    def sizes(self, dims: Dims) -> Dims:
        return self.inner.sizes(dims)

    def kv_heads(self, dims: Dims) -> int:
        return self.inner.kv_heads(self.sizes(dims))

    def matrices(self, dims: Dims) -> dict[str, Matrix]:
        return self.inner.matrices(self.sizes(dims))

    def ask(self, weights: Weights, x: Array, dims: Dims) -> Array:
        return self.inner.ask(weights, x, self.sizes(dims))

    def remember(self, weights: Weights, x: Array, dims: Dims) -> Memory:
        return self.inner.remember(weights, x, self.sizes(dims))

    def recall(self, weights: Weights, memory: Memory, dims: Dims) -> tuple[Array, Array]:
        return self.inner.recall(weights, memory, self.sizes(dims))

    def project(self, weights: Weights, x: Array, dims: Dims) -> tuple[Array, Memory]:
        return self.inner.project(weights, x, self.sizes(dims))
