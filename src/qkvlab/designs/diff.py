"""``/diff``: the difference of two softmaxes in every head (Ye et al., arXiv 2410.05258), so that noise cancels.

``/diff3`` starts lambda as the paper does in layer 3, counted from 1: 0.8 - 0.6 exp(-0.3 (3 - 1)). ``/diff`` starts it
at 0.8, which that tends to and which the paper finds to do as well in every layer. In grouped heads both softmaxes of
a head look at the halves of its own key head, as the paper's formula says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from qkvlab.contracts import Array, Dims, HeadSizes, Memory, Words
from qkvlab.designs.around import Around
from qkvlab.designs.design import Bend, Design, Matrix, Weights, at_least_single, cast, functions
from qkvlab.designs.ways import Way
from qkvlab.errors import BadInput, Refusal

TINY = 1e-5
"""Added to the mean square of a head before its root is taken, as the authors do."""


@dataclass(frozen=True)
class Diff(Around):
    """(softmax(q1 k1^T) - lambda softmax(q2 k2^T)) v, normed per head, where q1 and q2 are halves of q, k1 and k2 of k.

    lambda = exp(lq1 . lk1) - exp(lq2 . lk2) + lambda_init. Inside, q has two heads for each of the layer's: of a key
    head's queries first all that ask its first half, then all that ask its second.

    Attributes:
        depth: the layer, from 1, whose lambda_init it starts with; None is the deepest.
    """

    depth: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.depth is not None and self.depth < 1:
            raise BadInput(f"layers are counted from 1; got /diff{self.depth}.")

    @property
    def name(self) -> str:
        return f"{self.inner.name}/diff{'' if self.depth is None else self.depth}"

    @property
    def words(self) -> Words:
        inner = self.inner.words
        return Words(f"{inner.zh}，每头两个注意力相减", f"{inner.en}; the difference of two softmaxes in each head")

    @property
    def lambda_init(self) -> float:
        """What lambda tends to where its vectors are 0, and by how much the heads are shrunk."""
        return 0.8 if self.depth is None else 0.8 - 0.6 * math.exp(-0.3 * (self.depth - 1))

    def head_sizes(self, dims: Dims) -> HeadSizes:
        of = super().head_sizes(dims)
        return HeadSizes(
            queries=2 * of.queries,
            keys=2 * of.keys,
            values=of.values,
            channels=of.channels // 2,
            value_channels=of.value_channels,
        )

    def served(self, dims: Dims) -> tuple[int, ...]:
        inside = super().served(dims) or tuple(range(super().head_sizes(dims).queries))
        return tuple(inside[head] for head in self._copied(dims))

    def _copied(self, dims: Dims) -> list[int]:
        # the inner design's head of each head of q: those of a key head stand together, twice
        of = super().head_sizes(dims)
        each = of.queries // of.keys
        return [key * each + head for key in range(of.keys) for _ in range(2) for head in range(each)]

    def matrices(self, dims: Dims) -> dict[str, Matrix]:
        of = super().head_sizes(dims)
        if of.channels % 2:
            raise Refusal(
                f"/diff cuts each query and key in two halves; got heads of an odd number of channels, {of.channels}, "
                f"at d_head={dims.d_head}."
            )
        if of.keys != of.values:
            raise Refusal(
                f"/diff needs a value head for each key head; {self.inner.name} has {of.keys} of keys and "
                f"{of.values} of values."
            )
        # columns of this length start small enough for lambda to start near lambda_init at any width
        vector = Matrix(of.channels // 2, 1, multiplies=False)
        return {
            **super().matrices(dims),
            **dict.fromkeys(("lq1", "lk1", "lq2", "lk2"), vector),
            "gain": Matrix(1, of.value_channels, start=1.0, multiplies=False),
        }

    def ask(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> Array:
        return _halved(super().ask(weights, x, dims, positions), super().head_sizes(dims).keys)

    def recall(self, weights: Weights, memory: Memory, dims: Dims) -> tuple[Array, Array]:
        k, v = super().recall(weights, memory, dims)
        return _halved(k, k.shape[-3]), v

    def project(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> tuple[Array, Memory]:
        q, memory = super().project(weights, x, dims, positions)
        return _halved(q, super().head_sizes(dims).keys), memory

    def root(self, dims: Dims) -> float:
        return super().root(dims) / math.sqrt(2)  # of half as many channels

    def bends(self, weights: Weights, dims: Dims) -> tuple[Bend, ...]:
        """What the inner design does to the scores of its heads happens to both."""
        groups = super().head_sizes(dims).keys

        def for_both(bend: Bend) -> Bend:
            return lambda scores, back: _together([bend(part, back) for part in _apart(scores, groups)], groups)

        return tuple(for_both(bend) for bend in super().bends(weights, dims))

    def sinks(self, weights: Weights, dims: Dims) -> Array | None:
        sinks = super().sinks(weights, dims)
        return None if sinks is None else sinks[self._copied(dims)]

    def finish(self, weights: Weights, heads: Array, dims: Dims, like: Array | None = None) -> Array:
        groups, factor = super().head_sizes(dims).keys, self._factor(weights, heads)
        gain = (1 - self.lambda_init) * weights["gain"][0]

        def less(x: Array) -> Array:
            first, second = _apart(x, groups)
            return first - factor * second

        found, whole = less(heads), None if like is None else less(like)
        square = at_least_single(found if whole is None else whole, heads)
        norm = functions(heads).sqrt((square * square).mean(-1)[..., None] + TINY)
        done, whole = (None if x is None else cast(x / norm, heads.dtype) * gain for x in (found, whole))
        return super().finish(weights, done, dims, whole)

    def _factor(self, weights: Weights, like: Array) -> Array:
        f = functions(like)
        lq1, lk1, lq2, lk2 = (at_least_single(weights[name], like) for name in ("lq1", "lk1", "lq2", "lk2"))
        return cast(f.exp((lq1 * lk1).sum()) - f.exp((lq2 * lk2).sum()) + self.lambda_init, like.dtype)

    def absorbed(self) -> None:
        return None  # its keys would no longer be those that are cut in two


def _halved(x: Array, groups: int) -> Array:
    # (..., g r, t, 2 c) -> (..., g 2 r, t, c): head i of r uses key head i // r, and so do its halves
    *batch, heads, t, c = x.shape
    x = x.reshape(*batch, groups, heads // groups, t, 2, c // 2)
    return x.swapaxes(-2, -3).swapaxes(-3, -4).reshape(*batch, 2 * heads, t, c // 2)


def _apart(x: Array, groups: int) -> list[Array]:
    # (..., g 2 r, t, n) -> two of (..., g r, t, n)
    *batch, heads, t, n = x.shape
    pairs = x.reshape(*batch, groups, 2, heads // groups // 2, t, n)
    return [pairs[..., half, :, :, :].reshape(*batch, heads // 2, t, n) for half in (0, 1)]


def _together(halves: list[Array], groups: int) -> Array:
    # undoes _apart
    *batch, heads, t, n = halves[0].shape
    parts = [half.reshape(*batch, groups, 1, heads // groups, t, n) for half in halves]
    return functions(parts[0]).concatenate(parts, -4).reshape(*batch, 2 * heads, t, n)


def _make(inner: Design, depth: str) -> Diff:
    return Diff(inner, int(depth) if depth else None)


PART = (r"diff([0-9]{0,4})", _make)
NAMES = {"differential": "QKV/diff"}
EXAMPLES = (Diff(Way("QKV")), Diff(Way("QKK", 2), 1))
SHOWN = (Diff(Way("QKV")),)
