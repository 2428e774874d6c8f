"""MLA from matrices that stand as heads are read, made once of its own: what a prepared layer multiplies with.

    q       [W_Q, W_QR] of each head, or where `Folded` [W_Q W_UK^T, W_QR]     (asked, h (still + turned))
    dkv     [W_DKV, W_KR], which stands in q where it is as wide as a head     (d, latent + turned)
    out     W_UV W_O of each head, where `Folded`                              (h latent, d)

Queries and what is kept then come out of products whole: nothing of them is put side by side token by token, and what
turns is turned where it lies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qkvlab.contracts import Array, Dims, HeadSizes, Memory, Words
from qkvlab.designs.design import Design, Matrix, Weights, cast, finely, functions, split_heads, times

if TYPE_CHECKING:
    from qkvlab.designs.mla import MLA


@dataclass(frozen=True)
class Joined(Design):
    """An equal form of ``MLA``: the same memory, scores and output from joined matrices. Not in the grammar.

    Products of x are written into, so its functions are for numbers alone; gradients have `learned`.

    Attributes:
        whole: the design that it equals.
    """

    whole: MLA

    @property
    def name(self) -> str:
        return f"{self.whole.name}-joined"

    @property
    def words(self) -> Words:
        whole = self.whole.words
        return Words(f"{whole.zh}，矩阵已并排", f"{whole.en}; matrices side by side")

    def kv_heads(self, dims: Dims) -> int:
        return self.whole.kv_heads(dims)

    def head_sizes(self, dims: Dims) -> HeadSizes:
        return self.whole.head_sizes(dims)

    def matrices(self, dims: Dims) -> dict[str, Matrix]:
        found, sizes, kept = self.whole.matrices(dims), self.head_sizes(dims), sum(self.whole.widths(dims))
        found["q"] = Matrix(found["q"].rows, sizes.queries * sizes.channels + kept * self._is_one(dims))
        found["dkv"] = Matrix(dims.d_model, kept)
        gone = ("qr", "kr", "dkv") if self._is_one(dims) else ("qr", "kr")
        return {name: matrix for name, matrix in found.items() if name not in gone}

    def _is_one(self, dims: Dims) -> bool:
        # whether what is kept is made of what queries are made of, and as wide as one: then it is one more of them
        return self.whole.query_latent is None and self.whole.widths(dims)[0] == self._still_channels(dims)

    def _still_channels(self, dims: Dims) -> int:
        return dims.d_head

    def products(self, dims: Dims) -> tuple[str, ...]:
        if self._is_one(dims):
            return ("q",)
        return ("q" if self.whole.query_latent is None else "dq", "dkv")

    def settle(self, weights: Weights, dims: Dims) -> dict[str, Array]:
        """Make the joined matrices of those of ``whole``; the others are as they are."""
        made, f = dict(weights), functions(weights["q"])
        still = self._still(weights, dims)  # (asked, h, c)
        turned = made.pop("qr", still[:, :0]).reshape(still.shape[0], dims.heads, -1)
        made["q"] = f.concat([still, turned], -1).reshape(still.shape[0], -1)
        made["dkv"] = f.concat([weights["dkv"], made.pop("kr", weights["dkv"][:, :0])], -1)
        if self._is_one(dims):
            made["q"] = f.concat([made["q"], made.pop("dkv")], -1)
        return made

    def settle_out(self, weights: Weights, out: Array, dims: Dims) -> Array:
        """Return what multiplies the heads, of the matrices of ``whole`` and W_O (h e, d)."""
        return out

    def _still(self, weights: Weights, dims: Dims) -> Array:
        return weights["q"].reshape(weights["q"].shape[0], dims.heads, -1)

    def ask(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> Array:
        return self.project(weights, x, dims, positions)[0]

    def remember(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> Memory:
        return self.project(weights, x, dims, positions)[1]

    def project(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> tuple[Array, Memory]:
        if self._is_one(dims):
            heads = split_heads(times(x, weights, "q"), dims.heads + 1)
            self.turn(heads, dims, positions)
            q, kept = heads[..., :-1, :, :], heads[..., -1, :, :]
        else:
            q = split_heads(times(self.whole.asking(weights, x), weights, "q"), dims.heads)
            kept = times(x, weights, "dkv")
            for heads in (q, split_heads(kept, 1)):
                self.turn(heads, dims, positions)
        c = kept[..., : self.whole.widths(dims)[0]]
        c[...] = self.whole.normed(c, weights["dkv_gain"])
        return q, Memory({"latent": kept}, positions)

    def turn(self, heads: Array, dims: Dims, positions: Array | None, *, back: bool = False) -> None:
        """Turn what turns of heads (..., h, t, c), or turn it back, where it lies."""
        if self.whole.rotation is not None:
            self.whole.rotation.level.turn_last(heads, self.whole.widths(dims)[1], positions, back=back)

    @property
    def learns(self) -> bool:
        """Whether `learned` can do it: where queries have a latent of their own, its gradient is not written out."""
        return self.whole.query_latent is None and self.whole.rotation is not None

    def learned(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> tuple[Array, Array, Array]:
        """Make q, k and v of x (..., t, d) and of the weights of ``whole``, for gradients derived no further."""
        from qkvlab.designs.latents import MATRICES, Latents

        return Latents.apply(self, dims, positions, x, *(weights[name] for name in MATRICES))

    def recall(self, weights: Weights, memory: Memory, dims: Dims) -> tuple[Array, Array]:
        kept, latent = memory.kept["latent"], self.whole.widths(dims)[0]
        k, v = (split_heads(kept[..., :latent] @ weights[name], dims.heads) for name in ("uk", "uv"))
        return beside(k, kept[..., latent:]), v

    def root(self, dims: Dims) -> float:
        return self.whole.root(dims)


@dataclass(frozen=True)
class Folded(Joined):
    """An equal form of ``Absorbed``, whose W_UK stands in the matrix of q, and whose W_UV stands in that of the output.

    As `joined` of `Absorbed` says, where both together are no larger than they were.
    """

    @property
    def name(self) -> str:
        return f"{self.whole.name}-folded"

    def kv_heads(self, dims: Dims) -> int:
        return 1

    def head_sizes(self, dims: Dims) -> HeadSizes:
        return self.whole.absorbed().head_sizes(dims)

    def matrices(self, dims: Dims) -> dict[str, Matrix]:
        return {name: matrix for name, matrix in super().matrices(dims).items() if name not in ("uk", "uv")}

    def _still_channels(self, dims: Dims) -> int:
        return self.whole.widths(dims)[0]

    def _still(self, weights: Weights, dims: Dims) -> Array:
        q, up = (_finely_by_heads(weights[name], dims) for name in ("q", "uk"))
        return cast(functions(q).einsum("ahc,lhc->ahl", q, up), weights["q"].dtype)

    def settle_out(self, weights: Weights, out: Array, dims: Dims) -> Array:
        up = _finely_by_heads(weights["uv"], dims)
        by_heads = finely(out).reshape(dims.heads, -1, out.shape[-1])
        folded = functions(up).einsum("lhe,hed->hld", up, by_heads)
        return cast(folded.reshape(-1, out.shape[-1]), out.dtype)

    def recall(self, weights: Weights, memory: Memory, dims: Dims) -> tuple[Array, Array]:
        return self.whole.absorbed().recall(weights, memory, dims)


def beside(k: Array, turned: Array) -> Array:
    """Put what all heads share beside the keys of each: (..., h, s, c) and (..., s, r) -> (..., h, s, c + r)."""
    shape = (*k.shape[:-1], k.shape[-1] + turned.shape[-1])
    both = np.empty(shape, k.dtype) if isinstance(k, np.ndarray) else k.new_empty(shape)  # faster than `concat`
    both[..., : k.shape[-1]], both[..., k.shape[-1] :] = k, turned[..., None, :, :]
    return both


def _finely_by_heads(matrix: Array, dims: Dims) -> Array:
    return finely(matrix).reshape(matrix.shape[0], dims.heads, -1)
