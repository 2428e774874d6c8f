"""`uniform`: every token attends equally to all; what any attention to content must beat."""

from __future__ import annotations

from dataclasses import dataclass

from qkvlab.contracts import Array, Dims, Memory, Words
from qkvlab.designs.design import Design, Matrix, Weights, split_heads, times, zeros


@dataclass(frozen=True)
class Uniform(Design):
    """q = k = 0, so all scores are 0 and softmax is the mean; only v is made: v = x W_V."""

    @property
    def name(self) -> str:
        return "uniform"

    @property
    def words(self) -> Words:
        return Words("平均注意力（底线）", "equal attention to all (the floor)")

    def kv_heads(self, dims: Dims) -> int:
        return dims.heads

    def matrices(self, dims: Dims) -> dict[str, Matrix]:
        return {"v": Matrix(dims.d_model, dims.heads * dims.d_value)}

    def products(self, dims: Dims) -> tuple[str, ...]:
        return ("v",)

    def ask(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> Array:
        return zeros((*x.shape[:-2], dims.heads, x.shape[-2], dims.d_head), x)

    def remember(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> Memory:
        return Memory({"v": times(x, weights, "v")}, positions)

    def recall(self, weights: Weights, memory: Memory, dims: Dims) -> tuple[Array, Array]:
        v = split_heads(memory.kept["v"], dims.heads)
        return zeros((*v.shape[:-1], dims.d_head), v), v


EXAMPLES = (Uniform(),)
