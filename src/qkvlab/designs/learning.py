"""What a training step of a design takes in matrix products: forward, and the gradients behind it.

A product is made again for the gradient of each factor that has one; what a design never trains, and x where nothing
before it learns, take none.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from qkvlab.contracts import Array, Dims
from qkvlab.designs.counting import Tally
from qkvlab.designs.design import Design


@dataclass(frozen=True)
class Flops:
    """FLOPs of matrix products; multiply-adds count two.

    >>> Flops(2, 4) * 3 + Flops(1, 0)
    Flops(forward=7, backward=12)
    """

    forward: int
    backward: int

    def __add__(self, other: Flops) -> Flops:
        return Flops(self.forward + other.forward, self.backward + other.backward)

    def __mul__(self, times: int) -> Flops:
        return Flops(self.forward * times, self.backward * times)

    @property
    def both(self) -> int:
        """Forward and backward together: one step without its optimiser."""
        return self.forward + self.backward


@dataclass(frozen=True)
class Learning:
    """A training step of one layer, W_O left out, taken apart.

    Attributes:
        project: of a token that both asks and is remembered; what is shared is made once.
        ask: of a token that only asks.
        remember: of a token that is only remembered.
        recall: of each token that is recalled.
        finish: of each token that asked, behind the weighted sum.
        pair: of each score and of its share in the sum.
        learns: whether anything up to here is trained, so that gradients pass back through W_O.
    """

    project: Flops
    ask: Flops
    remember: Flops
    recall: Flops
    finish: Flops
    pair: Flops
    learns: bool

    def itself(self, tokens: int) -> Flops:
        """So many tokens attend to themselves."""
        return (self.project + self.recall + self.finish) * tokens + self.pair * (tokens * tokens)

    def across(self, asking: int, kept: int) -> Flops:
        """Some tokens attend to what was kept of others."""
        return (self.ask + self.finish) * asking + (self.remember + self.recall) * kept + self.pair * (asking * kept)


@cache
def learning(design: Design, dims: Dims, x_learns: bool) -> Learning:
    """Count the products of a training step in the design's own functions.

    Args:
        design: whose layer is trained.
        dims: sizes, as `Design.sizes` gives them.
        x_learns: whether anything before the layer is trained.

    Raises:
        Refusal: the design cannot exist at these sizes.
    """
    matrices, sizes = design.matrices(dims), design.head_sizes(dims)
    tally = Tally()
    shapes = {name: (matrix.rows, matrix.columns) for name, matrix in matrices.items()}
    weights = tally.weights(shapes, [name for name, matrix in matrices.items() if matrix.trained])
    x = tally.zeros(1, dims.d_model, learns=x_learns)

    def counted() -> Flops:
        found = Flops(tally.flops, tally.backward)
        tally.flops = tally.backward = 0
        return found

    design.project(weights, x, dims, None)
    project = counted()
    q = design.ask(weights, x, dims, None)
    ask = counted()
    memory = design.remember(weights, x, dims, None)
    remember = counted()
    k, v = design.recall(weights, memory, dims)
    recall = counted()
    asks, keys, values = _learns(q), _learns(k), _learns(v)
    scores = tally.zeros(sizes.queries, 1, 1, learns=asks or keys)
    for bend in design.bends(weights, dims):
        scores = bend(scores, np.zeros((1, 1), np.int64))
    shares = _learns(scores) or _learns(design.sinks(weights, dims))
    heads = tally.zeros(sizes.queries, 1, sizes.value_channels, learns=shares or values)
    heads = design.finish(weights, heads, dims)
    finish = counted()
    compared, summed = 2 * sizes.queries * sizes.channels, 2 * sizes.queries * sizes.value_channels
    pair = Flops(compared + summed, compared * (asks + keys) + summed * (shares + values))
    return Learning(project, ask, remember, recall, finish, pair, _learns(heads))


def _learns(array: Array | None) -> bool:
    return getattr(array, "learns", False)
