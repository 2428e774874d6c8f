"""A design's matrices as a module: ask, remember, recall and project on tensors."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from qkvlab.contracts import Dims, Memory
from qkvlab.designs.design import Design


class Projections(nn.Module):
    """Holds one parameter per matrix of a design, named by its letter, and runs the recipe on them.

    Args:
        design: the recipe.
        dims: sizes of the layer.

    Raises:
        Refusal: the design cannot exist at these sizes.
    """

    def __init__(self, design: Design, dims: Dims) -> None:
        super().__init__()
        self.design = design
        self.dims = dims
        self._names = tuple(design.matrices(dims))
        for name, matrix in design.matrices(dims).items():
            weight = nn.Parameter(torch.empty(matrix.rows, matrix.columns), requires_grad=matrix.trained)
            self.register_parameter(name, weight)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every matrix anew, or set it to the number at which it starts."""
        for name, matrix in self.design.matrices(self.dims).items():
            if matrix.start is None:  # the variance of nn.Linear's default
                nn.init.normal_(getattr(self, name), std=1 / math.sqrt(3 * matrix.rows))
            else:
                nn.init.constant_(getattr(self, name), matrix.start)

    @property
    def starts(self) -> dict[str, float]:
        """The numbers at which those matrices start that do not start as noise."""
        found = self.design.matrices(self.dims)
        return {name: matrix.start for name, matrix in found.items() if matrix.start is not None}

    @property
    def weights(self) -> dict[str, Tensor]:
        """The matrices by letter; read at every call, so that functional calls may replace them."""
        held: dict[str, Any] = (
            self._parameters
        )  # asked first: a module looks there last, and a parametrized matrix is not there
        return {name: held[name] if name in held else getattr(self, name) for name in self._names}

    def ask(self, x: Tensor, positions: Tensor | None = None) -> Tensor:
        """(..., t, d) -> q (..., h, t, c): what each token looks for."""
        return self.design.ask(self.weights, x, self.dims, positions)

    def remember(self, x: Tensor, positions: Tensor | None = None) -> Memory:
        """(..., s, d) -> what must be kept of each token."""
        return self.design.remember(self.weights, x, self.dims, positions)

    def recall(self, memory: Memory) -> tuple[Tensor, Tensor]:
        """Memory -> k (..., g, s, c), v (..., g, s, e)."""
        return self.design.recall(self.weights, memory, self.dims)

    def project(self, x: Tensor, positions: Tensor | None = None) -> tuple[Tensor, Memory]:
        """Both `ask` and `remember` of the same x; a shared matrix is used once."""
        return self.design.project(self.weights, x, self.dims, positions)

    def extra_repr(self) -> str:
        """Words, code and sizes."""
        return f"{self.design.name}: {self.design.words.en}; {self.dims}"
