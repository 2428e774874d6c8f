"""``/alibi``: the further a key stands from its query, the lower its score (Press et al., arXiv 2108.12409).

The paper is causal. Without causality what stands ahead loses as much as what stands as far behind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from qkvlab.contracts import Array, Dims, Words
from qkvlab.designs.around import Around
from qkvlab.designs.design import Bend, Weights, at_least_single, cast, finely, functions, upward
from qkvlab.designs.uniform import Uniform
from qkvlab.designs.ways import Way


def slopes(heads: int, like: Array) -> Array:
    """What each head loses per token of distance, in float64 beside ``like``: (heads,).

    For a power of two n they are 2^(-8/n), 2^(-16/n), ... 2^-8. Other head counts take those of the power of two below,
    then every second one, from the first on, of the power above.
    """
    below = 2 ** int(math.log2(heads))
    head = finely(upward(heads, like))
    power = functions(like).where(head < below, 2 * (head + 1), 2 * (head - below) + 1)
    return 2.0 ** (-4 * power / below)


@dataclass(frozen=True)
class Alibi(Around):
    """The inner design, whose scores lose slope x distance in each head; nothing is learned."""

    @property
    def name(self) -> str:
        return f"{self.inner.name}/alibi"

    @property
    def words(self) -> Words:
        inner = self.inner.words
        return Words(f"{inner.zh}，越远分数越低（ALiBi）", f"{inner.en}; scores fall with distance (ALiBi)")

    def bends(self, weights: Weights, dims: Dims) -> tuple[Bend, ...]:
        served, heads = self.served(dims), self.sizes(dims).heads

        def fall(scores: Array, back: Array) -> Array:
            # distances beyond 256 are no whole numbers of bfloat16
            each = at_least_single(slopes(heads, scores), scores)
            each = each[list(served)] if served else each
            return cast(scores - each[:, None, None] * abs(back), scores.dtype)

        return (*super().bends(weights, dims), fall)


PART = (r"alibi", Alibi)
EXAMPLES = (Alibi(Way("QKV")), Alibi(Way("QKK", 2)), Alibi(Uniform()))
SHOWN = (Alibi(Way("QKV")),)
