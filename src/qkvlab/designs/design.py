"""What a design is: a frozen recipe for q, k and v, written as pure functions of (weights, x).

A recipe imports no PyTorch, so that names, refusals and costs are known before a framework is loaded.
`remember` uses only what tensors and arrays share (``@``, ``reshape``, ``swapaxes``, ``*``): its memory is
measured on one NumPy token. `build` turns the recipe into a module that holds its matrices.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qkvlab.contracts import Array, Cost, Dims, Memory, Words

if TYPE_CHECKING:
    from qkvlab.designs.projections import Projections

Weights = Mapping[str, Array]


@dataclass(frozen=True)
class Matrix:
    """One matrix of a design: rows x columns, x on its left (``x @ W``)."""

    rows: int
    columns: int
    trained: bool = True


def split_heads(x: Array, heads: int) -> Array:
    """(..., t, heads * c) -> (..., heads, t, c)."""
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads).swapaxes(-3, -2)


class Design(ABC):
    """A recipe for q, k and v. Subclasses are frozen dataclasses and final."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The short name, which `qkvlab.designs.parse` reads back."""

    @property
    @abstractmethod
    def words(self) -> Words:
        """What people read before the name."""

    @property
    def sees_itself(self) -> bool:
        """Whether a token that attends to its own sequence may look at itself when it can look elsewhere."""
        return True

    def sizes(self, dims: Dims) -> Dims:
        """Return the sizes at which the design works; a design may set the width of its heads."""
        return dims

    @abstractmethod
    def kv_heads(self, dims: Dims) -> int:
        """Key and value heads at these sizes."""

    @abstractmethod
    def matrices(self, dims: Dims) -> dict[str, Matrix]:
        """Name every matrix once.

        Raises:
            Refusal: the design cannot exist at these sizes; the text names the numbers.
        """

    @abstractmethod
    def ask(self, weights: Weights, x: Array, dims: Dims) -> Array:
        """Make q, what each token looks for: (..., t, d) -> (..., h, t, c)."""

    @abstractmethod
    def remember(self, weights: Weights, x: Array, dims: Dims) -> Memory:
        """Keep what later queries will need of each token: (..., s, d) -> Memory."""

    @abstractmethod
    def recall(self, weights: Weights, memory: Memory, dims: Dims) -> tuple[Array, Array]:
        """Make k (..., g, s, c) and v (..., g, s, e) from what was kept."""

    def project(self, weights: Weights, x: Array, dims: Dims) -> tuple[Array, Memory]:
        """Do `ask` and `remember` on the same x; designs that share a matrix between them use it once."""
        return self.ask(weights, x, dims), self.remember(weights, x, dims)

    def build(self, dims: Dims) -> Projections:
        """Make the module that holds this recipe's matrices (imports PyTorch).

        Raises:
            Refusal: the design cannot exist at these sizes.
        """
        from qkvlab.designs.projections import Projections

        return Projections(self, self.sizes(dims))

    def cost(self, dims: Dims) -> Cost:
        """Derive the cost from the matrices and from what one token leaves in memory.

        >>> from qkvlab.designs import parse
        >>> parse("QKK").cost(Dims.of(512, 8))
        Cost(parameters=524288, flops_per_token=1048576, cache_per_token=512)
        """
        matrices = self.matrices(dims)
        entries = sum(m.rows * m.columns for m in matrices.values())
        zeros = {name: np.zeros((m.rows, m.columns), np.float32) for name, m in matrices.items()}
        memory = self.remember(zeros, np.zeros((1, dims.d_model), np.float32), dims)
        kept = sum(array.size for array in memory.kept.values())
        return Cost(parameters=entries, flops_per_token=2 * entries, cache_per_token=kept)

    def __str__(self) -> str:
        return self.name
