"""The encoder of the sentence task in NumPy: all words look at all, and every verb names its nouns.

    T words    L layers    h heads    d d_model    R roles    N nouns

A word is its vector plus the vector of its place. A layer adds to every word what its attention brings, then what two
matrices with a GELU between them make of it; each reads the words scaled to root mean square 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qkvlab.reference.attention import Array, Steps, trace

_ERF = np.vectorize(math.erf, otypes=[np.float64])


@dataclass(frozen=True)
class Understood:
    """What one sentence of T words became.

    Attributes:
        layers: every step of every attention layer.
        logits: (T, R, N), what each word would name in each role; only those of verbs mean something.
    """

    layers: tuple[Steps, ...]
    logits: Array


class Encoder:
    """A trained encoder, run word by word through its layers.

    Args:
        design: name of the design.
        state: parameters by the names of the trained module.
        heads: query heads.
        roles: questions that each verb answers.
    """

    def __init__(self, design: str, state: Mapping[str, Array], *, heads: int, roles: int) -> None:
        self.design, self.heads, self.roles = design, heads, roles
        # what ships is half precision, and its sums must not be
        state = {name: w.astype(np.promote_types(w.dtype, np.float32)) for name, w in state.items()}
        self.words, self.names = state["words"], state["names.weight"].T
        self.positions = state.get("positions")
        count = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
        self.blocks = [_within(state, f"blocks.{i}.") for i in range(count)]

    def understand(
        self, tokens: Sequence[int] | NDArray[np.integer], real: NDArray[np.bool_] | None = None
    ) -> Understood:
        """Read one sentence.

        Args:
            tokens: numbers of its words, (T,).
            real: (T,), False in padding, which nobody looks at; all are real unless given.
        """
        x = self.words[np.asarray(tokens)]
        if self.positions is not None:
            x = x + self.positions[: len(x)]
        x, layers = _norm(x), []
        allowed = None if real is None else np.broadcast_to(real, (len(x), len(x)))
        for block in self.blocks:
            matrices = _within(block, "attention.projections.") | {"out": block["attention.out.weight"].T}
            d_head = x.shape[-1] // self.heads
            steps = trace(self.design, matrices, _norm(x), heads=self.heads, d_head=d_head, allowed=allowed)
            layers.append(steps)
            x = x + steps.output
            if "widen.weight" in block:
                x = x + _gelu(_norm(x) @ block["widen.weight"].T) @ block["narrow.weight"].T
        logits = _norm(x) @ self.names
        return Understood(tuple(layers), logits.reshape(len(x), self.roles, -1))


def _within(state: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {name.removeprefix(prefix): w for name, w in state.items() if name.startswith(prefix)}


def _norm(x: Array) -> Array:
    tiny = np.finfo(x.dtype).eps
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + tiny)


def _gelu(x: Array) -> Array:
    return x * 0.5 * (1 + _ERF(x / math.sqrt(2)).astype(x.dtype))
