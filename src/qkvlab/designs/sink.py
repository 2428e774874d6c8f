"""``/sink``: every head has a learned logit that takes its share of each softmax and brings nothing.

As in gpt-oss (arXiv 2508.10925). A head that has nothing to find need not look anywhere; plain softmax makes it look,
and models then learn to spend the rest on their first token (Xiao et al., arXiv 2309.17453). A logit of 0 adds 1 to
the denominator.
"""

from __future__ import annotations

from dataclasses import dataclass

from qkvlab.contracts import Array, Dims, Words
from qkvlab.designs.around import Around
from qkvlab.designs.design import Matrix, Weights
from qkvlab.designs.ways import Way


@dataclass(frozen=True)
class Sink(Around):
    """The inner design, whose heads may give part of their attention to nobody."""

    @property
    def name(self) -> str:
        return f"{self.inner.name}/sink"

    @property
    def words(self) -> Words:
        inner = self.inner.words
        return Words(f"{inner.zh}，注意力可以落空", f"{inner.en}; a learned sink in every head")

    def matrices(self, dims: Dims) -> dict[str, Matrix]:
        heads = self.head_sizes(dims).queries
        return {**super().matrices(dims), "sink": Matrix(1, heads, start=0.0, multiplies=False)}

    def sinks(self, weights: Weights, dims: Dims) -> Array:
        return weights["sink"][0]


PART = (r"sink", Sink)
EXAMPLES = (Sink(Way("QKV", 2)),)
SHOWN = (Sink(Way("QKV")),)
