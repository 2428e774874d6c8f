"""``QMQ``: one matrix for q and k with a trained form M between, in each head (Courtois et al., ACL Findings 2024).

Scores x W M W^T x^T can be any form that QKV makes within the channels of W, symmetric or not, for d_head^2 numbers a
head where a second matrix has d_model d_head.
"""

from __future__ import annotations

from dataclasses import dataclass

from qkvlab.contracts import Array, Dims, Memory, Words
from qkvlab.designs.design import Design, Matrix, Weights, functions
from qkvlab.designs.ways import Way

_WAY = Way("QQV")


@dataclass(frozen=True)
class Pairwise(Design):
    """q = x W M_h and k = x W in each head h; v = x W_V."""

    @property
    def name(self) -> str:
        return "QMQ"

    @property
    def words(self) -> Words:
        return Words(
            "Q、K 同一矩阵，中间每头一个可学矩阵", "one matrix for Q and K, a learned one between in each head"
        )

    @property
    def own_keys(self) -> str | None:
        return _WAY.own_keys

    def kv_heads(self, dims: Dims) -> int:
        return dims.heads

    def matrices(self, dims: Dims) -> dict[str, Matrix]:
        return {**_WAY.matrices(dims), "m": Matrix(dims.heads * dims.d_head, dims.d_head)}

    def products(self, dims: Dims) -> tuple[str, ...]:
        return _WAY.products(dims)

    def _through(self, q: Array, weights: Weights, dims: Dims) -> Array:
        between = weights["m"].reshape(dims.heads, dims.d_head, dims.d_head)
        return functions(q).einsum("...htc,hce->...hte", q, between)

    def ask(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> Array:
        return self._through(_WAY.ask(weights, x, dims, positions), weights, dims)

    def remember(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> Memory:
        return _WAY.remember(weights, x, dims, positions)

    def recall(self, weights: Weights, memory: Memory, dims: Dims) -> tuple[Array, Array]:
        return _WAY.recall(weights, memory, dims)

    def project(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> tuple[Array, Memory]:
        q, memory = _WAY.project(weights, x, dims, positions)
        return self._through(q, weights, dims), memory


EXAMPLES = (Pairwise(),)
NAMES = {"pairwise": "QMQ"}
