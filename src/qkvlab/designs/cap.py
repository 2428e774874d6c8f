"""``/cap50``: scores are bent softly into -50 ... 50 by 50 tanh(s / 50) before the mask (Gemma 2, arXiv 2408.00118)."""

from __future__ import annotations

from dataclasses import dataclass

from qkvlab.contracts import Array, Dims, Words
from qkvlab.designs.around import Around
from qkvlab.designs.design import Bend, Weights, functions
from qkvlab.designs.ways import Way
from qkvlab.errors import BadInput


@dataclass(frozen=True)
class Cap(Around):
    """The inner design with scores that no size of q and k drives past a limit.

    Attributes:
        limit: no score is larger.
    """

    limit: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.limit < 1:
            raise BadInput(f"scores need room, so they are capped at 1 or more; got /cap{self.limit}.")

    @property
    def name(self) -> str:
        return f"{self.inner.name}/cap{self.limit}"

    @property
    def words(self) -> Words:
        inner = self.inner.words
        return Words(f"{inner.zh}，分数软限于 ±{self.limit}", f"{inner.en}; scores softly capped at {self.limit}")

    def bends(self, weights: Weights, dims: Dims) -> tuple[Bend, ...]:
        return (*super().bends(weights, dims), self._capped)

    def _capped(self, scores: Array, back: Array) -> Array:
        return self.limit * functions(scores).tanh(scores / self.limit)


PART = (r"cap([0-9]{1,6})", lambda inner, limit: Cap(inner, int(limit)))
EXAMPLES = (Cap(Way("QKV", 2), 2),)
SHOWN = (Cap(Way("QKV"), 50),)
