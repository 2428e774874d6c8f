"""MLA as attention of all query heads to one key head, the latent itself: what DeepSeek-V2 (2405.04434, 2.1.2) absorbs.

    q k^T = [q, q_r] [c W_UK, r]^T = [q W_UK^T, q_r] [c, r]^T          (weights v) = (weights c) W_UV

Kept numbers are used as they are: no key and no value of a head is made again of each token that is looked at. That is
less work for few queries over many kept tokens, and more where there are as many of both: dots of a whole latent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qkvlab.contracts import Array, Dims, HeadSizes, Memory, Words
from qkvlab.designs.design import Design, Matrix, Weights, functions
from qkvlab.designs.joined import Folded, Joined

if TYPE_CHECKING:
    from qkvlab.designs.mla import MLA


@dataclass(frozen=True)
class Absorbed(Design):
    """An equal form of ``MLA``: the same matrices, memory, scores and output by other products. Not in the grammar.

    Attributes:
        whole: the design that it equals.
    """

    whole: MLA

    @property
    def name(self) -> str:
        return f"{self.whole.name}-absorbed"

    @property
    def words(self) -> Words:
        whole = self.whole.words
        return Words(f"{whole.zh}，直接用隐向量作 K、V", f"{whole.en}; the latent itself used as K and V")

    def kv_heads(self, dims: Dims) -> int:
        return 1

    def head_sizes(self, dims: Dims) -> HeadSizes:
        latent, turned = self.whole.widths(dims)
        return HeadSizes(queries=dims.heads, keys=1, values=1, channels=latent + turned, value_channels=latent)

    def matrices(self, dims: Dims) -> dict[str, Matrix]:
        return self.whole.matrices(dims)

    def products(self, dims: Dims) -> tuple[str, ...]:
        return self.whole.products(dims)

    def ask(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> Array:
        still, turned = self.whole.asked(weights, x, dims, positions)
        q = _by_heads("...htc,lhc->...htl", still, weights["uk"])
        return q if turned is None else functions(x).concat([q, turned], -1)

    def remember(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> Memory:
        return self.whole.remember(weights, x, dims, positions)

    def recall(self, weights: Weights, memory: Memory, dims: Dims) -> tuple[Array, Array]:
        k = memory.kept["latent"][..., None, :, :]
        return k, k[..., : self.whole.widths(dims)[0]]

    def joined(self, dims: Dims) -> Joined | None:
        latent, asked = self.whole.widths(dims)[0], self.matrices(dims)["q"].rows
        apart = dims.d_head * asked + latent * (dims.d_head + dims.d_value) + dims.d_value * dims.d_model
        return Folded(self.whole) if latent * (asked + dims.d_model) <= apart else None  # numbers of each head

    def root(self, dims: Dims) -> float:
        return self.whole.root(dims)

    def finish(self, weights: Weights, heads: Array, dims: Dims, like: Array | None = None) -> Array:
        return _by_heads("...htl,lhe->...hte", heads, weights["uv"])


def _by_heads(axes: str, heads: Array, up: Array) -> Array:
    # W_UK or W_UV (l, h n) is read once for the whole batch; a broadcast product would copy it for each sequence
    return functions(up).einsum(axes, heads, up.reshape(up.shape[0], heads.shape[-3], -1))
