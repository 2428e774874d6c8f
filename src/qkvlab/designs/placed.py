"""A part that adds to each token where it stands, before q, k and v are made of it."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from qkvlab.contracts import Array, Dims, Memory
from qkvlab.designs.around import Around
from qkvlab.designs.design import Weights


@dataclass(frozen=True)
class Placed(Around):
    """The inner design on x plus what `place` says; x itself, which goes past the layer, stays what it is."""

    @abstractmethod
    def place(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> Array:
        """Return what is added to tokens (..., t, d) at ``positions``: (t, d) or (b, t, d)."""

    def _there(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> Array:
        return x + self.place(weights, x, dims, positions)

    def ask(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> Array:
        return super().ask(weights, self._there(weights, x, dims, positions), dims, positions)

    def remember(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> Memory:
        return super().remember(weights, self._there(weights, x, dims, positions), dims, positions)

    def project(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> tuple[Array, Memory]:
        return super().project(weights, self._there(weights, x, dims, positions), dims, positions)
