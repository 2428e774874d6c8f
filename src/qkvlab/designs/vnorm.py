"""``/vnorm``: each value divided by its root mean square, without gains (Gemma 4, whose keys are their own values).

In its full layers one matrix makes k and v; the key is normed with gains and rotated, the value is normed without.
"""

from __future__ import annotations

from dataclasses import dataclass

from qkvlab.contracts import Array, Dims, Memory, Words
from qkvlab.designs.around import Around
from qkvlab.designs.design import Design, Weights, rms_normed
from qkvlab.designs.ways import Way

EPSILON = 1e-6


@dataclass(frozen=True)
class VNorm(Around):
    """The inner design with normed values, head by head; what is kept of a token stays what it was."""

    @property
    def name(self) -> str:
        return f"{self.inner.name}/vnorm"

    @property
    def words(self) -> Words:
        inner = self.inner.words
        return Words(f"{inner.zh}，V 归一化", f"{inner.en}; values normed")

    @property
    def keys_are_values(self) -> str | None:
        return None

    def absorbed(self) -> Design | None:
        return None  # a norm stands between W_V and W_O

    def recall(self, weights: Weights, memory: Memory, dims: Dims) -> tuple[Array, Array]:
        k, v = super().recall(weights, memory, dims)
        return k, rms_normed(v, EPSILON)


PART = (r"vnorm", VNorm)
NAMES = {"gemma4": "QKK/qknorm/vnorm/rope-base1000000-proportional-keep0.25"}
EXAMPLES = (VNorm(Way("QKK", 2)),)
SHOWN = (VNorm(Way("QKV")),)
