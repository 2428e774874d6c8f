"""Unit lengths: ``/unitnorm`` of queries and keys (QK-Norm), ``/unitkeys`` of keys alone (Reformer).

``/unitnorm``: scores are g cos(q, k) with one trained g, which starts at log2(L^2 - L) for the length L of training
texts (Henry et al., arXiv 2010.04245): ``/unitnorm512``, and L = 128 where no number stands.

``/unitkeys``: scores are q k / |k| (Kitaev et al., arXiv 2001.04451). As in Reformer's code they are not divided by
sqrt(c) once more. A token's own key may then not win by its length, which a shared q and k would give it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from qkvlab.contracts import Array, Dims, Words
from qkvlab.designs.design import Design, Matrix, Weights, rms_normed
from qkvlab.designs.turned import Role, Turned
from qkvlab.designs.ways import Way
from qkvlab.errors import BadInput

EPSILON = 1e-20
"""Added to the mean square, so that a key of zeros stays one; no other key is touched."""
LENGTH = 128


def _unit(heads: Array) -> Array:
    return rms_normed(heads, EPSILON) / math.sqrt(heads.shape[-1])


@dataclass(frozen=True)
class UnitNorm(Turned):
    """The inner design with queries and keys of unit length and one trained scale for all heads.

    Attributes:
        length: L, tokens of a training text.
    """

    length: int = LENGTH

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.length < 2:
            raise BadInput(f"/unitnorm starts its scale at log2(L^2 - L), so L must be at least 2; got {self.length}.")

    @property
    def name(self) -> str:
        return f"{self.inner.name}/unitnorm{'' if self.length == LENGTH else self.length}"

    @property
    def words(self) -> Words:
        inner = self.inner.words
        return Words(f"{inner.zh}，Q、K 取单位长", f"{inner.en}; queries and keys of unit length, one learned scale")

    def matrices(self, dims: Dims) -> dict[str, Matrix]:
        start = math.log2(self.length**2 - self.length)
        return {**super().matrices(dims), "scale": Matrix(1, 1, start=start, multiplies=False)}

    def root(self, dims: Dims) -> float:
        return 1.0

    def turn(self, weights: Weights, heads: Array, dims: Dims, positions: Array | None, role: Role) -> Array:
        return _unit(heads) * weights["scale"] if role == "q" else _unit(heads)


@dataclass(frozen=True)
class UnitKeys(Turned):
    """The inner design with keys of unit length."""

    @property
    def name(self) -> str:
        return f"{self.inner.name}/unitkeys"

    @property
    def words(self) -> Words:
        inner = self.inner.words
        return Words(f"{inner.zh}，K 取单位长", f"{inner.en}; keys of unit length")

    def root(self, dims: Dims) -> float:
        return 1.0

    def turn(self, weights: Weights, heads: Array, dims: Dims, positions: Array | None, role: Role) -> Array:
        return heads if role == "q" else _unit(heads)


def _make(inner: Design, which: str, length: str | None) -> Design:
    if which.lower() == "keys":
        if length:
            raise BadInput(f"/unitkeys takes no number; got /unitkeys{length}.")
        return UnitKeys(inner)
    return UnitNorm(inner, int(length) if length else LENGTH)


PART = (r"unit(norm|keys)([0-9]{1,9})?", _make)
NAMES = {"reformer": "QQV/unitkeys/noself"}
EXAMPLES = (UnitNorm(Way("QKV"), 16), UnitKeys(Way("QQV")), UnitKeys(Way("QKK", 2)))
SHOWN = (UnitNorm(Way("QKV")), UnitKeys(Way("QKV")))
