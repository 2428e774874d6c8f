"""``QJQ``: one matrix for q and k, a quarter turn between: scores change sign when two tokens change roles.

Any antisymmetric form of rank d_head is x W J W^T x^T for some W and J = [[0, 1], [-1, 0]] in each pair of channels, so
nothing needs to be learned between. It is all direction and nothing else: a token's score with itself is 0.
"""

from __future__ import annotations

from dataclasses import dataclass

from qkvlab.contracts import Array, Dims, Memory, Words
from qkvlab.designs.design import Design, Matrix, Weights, functions
from qkvlab.designs.ways import Way
from qkvlab.errors import Refusal

_WAY = Way("QQV")


@dataclass(frozen=True)
class Antisymmetric(Design):
    """q = x W J and k = x W; v = x W_V."""

    @property
    def name(self) -> str:
        return "QJQ"

    @property
    def words(self) -> Words:
        return Words("Q、K 同一矩阵，中间转四分之一圈", "one matrix for Q and K, a quarter turn between")

    @property
    def own_keys(self) -> str | None:
        return _WAY.own_keys

    def kv_heads(self, dims: Dims) -> int:
        return dims.heads

    def matrices(self, dims: Dims) -> dict[str, Matrix]:
        if dims.d_head % 2:
            raise Refusal(f"QJQ turns pairs of channels; got an odd d_head={dims.d_head}.")
        return _WAY.matrices(dims)

    def products(self, dims: Dims) -> tuple[str, ...]:
        return _WAY.products(dims)

    def _quarter(self, q: Array) -> Array:
        return functions(q).stack([-q[..., 1::2], q[..., ::2]], -1).reshape(q.shape)

    def ask(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> Array:
        return self._quarter(_WAY.ask(weights, x, dims, positions))

    def remember(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> Memory:
        return _WAY.remember(weights, x, dims, positions)

    def recall(self, weights: Weights, memory: Memory, dims: Dims) -> tuple[Array, Array]:
        return _WAY.recall(weights, memory, dims)

    def project(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> tuple[Array, Memory]:
        q, memory = _WAY.project(weights, x, dims, positions)
        return self._quarter(q), memory


EXAMPLES = (Antisymmetric(),)
