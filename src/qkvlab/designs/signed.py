"""`QDQ`: one matrix for q and k, with a fixed mixed signature between them.

Scores Q D Q^T are symmetric like those of QQV, but D is not positive, so a token need not match itself
best: is it symmetry or self-preference that hurts a tied design?
"""

from __future__ import annotations

from dataclasses import dataclass

from qkvlab.contracts import Array, Dims, Memory, Words
from qkvlab.designs.design import Design, Matrix, Weights, cast, upward
from qkvlab.designs.ways import Way
from qkvlab.errors import Refusal

_WAY = Way("QQV")


@dataclass(frozen=True)
class Signed(Design):
    """q = x W D and k = x W with D = diag(+1, -1, +1, -1, ...) in each head; v = x W_V."""

    @property
    def name(self) -> str:
        return "QDQ"

    @property
    def words(self) -> Words:
        return Words(
            "Q、K 同一矩阵，中间加正负号",
            "one matrix for Q and K, fixed signs between",
        )

    @property
    def own_keys(self) -> str | None:
        return _WAY.own_keys

    def kv_heads(self, dims: Dims) -> int:
        return dims.heads

    def matrices(self, dims: Dims) -> dict[str, Matrix]:
        if dims.d_head % 2:
            raise Refusal(f"QDQ needs as many + as - channels in a head; got an odd d_head={dims.d_head}.")
        return _WAY.matrices(dims)

    def _signs(self, q: Array) -> Array:
        return q * cast(1 - 2 * (upward(q.shape[-1], q) % 2), q.dtype)  # every second channel changes its sign

    def products(self, dims: Dims) -> tuple[str, ...]:
        return _WAY.products(dims)

    def ask(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> Array:
        return self._signs(_WAY.ask(weights, x, dims, positions))

    def remember(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> Memory:
        return _WAY.remember(weights, x, dims, positions)

    def recall(self, weights: Weights, memory: Memory, dims: Dims) -> tuple[Array, Array]:
        return _WAY.recall(weights, memory, dims)

    def project(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> tuple[Array, Memory]:
        q, memory = _WAY.project(weights, x, dims, positions)
        return self._signs(q), memory


EXAMPLES = (Signed(),)
