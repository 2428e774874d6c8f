"""`frozen`: separate random W_Q and W_K that are never trained (the placebo).

Is it *learning* two matrices that helps, or only that they differ?
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from qkvlab.contracts import Array, Dims, Memory, Words
from qkvlab.designs.design import Design, Matrix, Weights
from qkvlab.designs.ways import Way

_WAY = Way("QKV")


@dataclass(frozen=True)
class Frozen(Design):
    """QKV whose W_Q and W_K stay what the seed drew; W_V is trained."""

    @property
    def name(self) -> str:
        return "frozen"

    @property
    def words(self) -> Words:
        return Words("W_Q、W_K 随机且不训练（安慰剂）", "random W_Q and W_K, never trained (placebo)")

    @property
    def own_keys(self) -> str | None:
        return _WAY.own_keys

    def kv_heads(self, dims: Dims) -> int:
        return _WAY.kv_heads(dims)

    def matrices(self, dims: Dims) -> dict[str, Matrix]:
        found = _WAY.matrices(dims)
        return {name: replace(m, trained=name == "v") for name, m in found.items()}

    def products(self, dims: Dims) -> tuple[str, ...]:
        return _WAY.products(dims)

    def ask(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> Array:
        return _WAY.ask(weights, x, dims, positions)

    def remember(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> Memory:
        return _WAY.remember(weights, x, dims, positions)

    def recall(self, weights: Weights, memory: Memory, dims: Dims) -> tuple[Array, Array]:
        return _WAY.recall(weights, memory, dims)


EXAMPLES = (Frozen(),)
