"""``/learned512``: a trained vector for each of 512 positions, added to x before q, k and v (arXiv 1705.03122)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qkvlab.contracts import Array, Dims, Words
from qkvlab.designs.design import Matrix, Weights, cast, functions
from qkvlab.designs.placed import Placed
from qkvlab.designs.ways import Way
from qkvlab.errors import BadInput


@dataclass(frozen=True)
class Learned(Placed):
    """The inner design on x + P, where row m of P belongs to position m.

    Attributes:
        limit: rows of P; nothing stands further on.
    """

    limit: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.limit < 1:
            raise BadInput(f"learned positions need at least 1 row; got /learned{self.limit}.")

    @property
    def name(self) -> str:
        return f"{self.inner.name}/learned{self.limit}"

    @property
    def words(self) -> Words:
        inner = self.inner.words
        return Words(f"{inner.zh}，{self.limit} 个学习的位置", f"{inner.en}; {self.limit} learned positions")

    def matrices(self, dims: Dims) -> dict[str, Matrix]:
        return {**super().matrices(dims), "places": Matrix(self.limit, dims.d_model, multiplies=False)}

    def place(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> Array:
        tokens = x.shape[-2]
        if positions is None:
            if tokens > self.limit:
                raise BadInput(
                    f"/learned{self.limit} knows positions 0 to {self.limit - 1}; got {tokens} tokens. "
                    f"Use /learned{tokens} or more, or positions without a limit: /sin, /rope, /alibi."
                )
            return weights["places"][:tokens]
        self._within(positions)
        return weights["places"][cast(positions, functions(x).int64)]  # bytes would be taken for a mask

    def _within(self, positions: Array) -> None:
        # a compiled or exported graph cannot look at values, and on ``meta`` there are none
        if not isinstance(positions, np.ndarray) and (
            functions(positions).compiler.is_compiling() or positions.is_meta
        ):
            return
        if bool(((positions < 0) | (positions >= self.limit)).any()):
            low, high = int(positions.min()), int(positions.max())
            raise BadInput(
                f"/learned{self.limit} knows positions 0 to {self.limit - 1}; got positions from {low} to {high}."
            )


PART = (r"learned([0-9]{1,7})", lambda inner, limit: Learned(inner, int(limit)))
EXAMPLES = (Learned(Way("QKV"), 16), Learned(Way("XXV"), 16))
SHOWN = (Learned(Way("QKV"), 4096),)
