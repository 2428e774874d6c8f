"""The work of a design, counted in its own functions and not declared; which of two equal forms decodes with less."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from qkvlab.contracts import Dims
from qkvlab.designs.counting import Tally
from qkvlab.designs.design import Design
from qkvlab.errors import BadInput


@dataclass(frozen=True)
class Work:
    """FLOPs of q, k, v and attention for one sequence; W_O is not among them.

    Attributes:
        token: of each new token: projections, and what is done to the heads at the end.
        key: of each token that is recalled.
        pair: of each score and of its share in the sum.
        read: entries of each matrix that one token needs: of a table of positions its own row.
    """

    token: int
    key: int
    pair: int
    read: Mapping[str, int]

    def of(self, tokens: int, keys: int) -> int:
        """Count so many new tokens over so many keys."""
        return tokens * self.token + keys * self.key + tokens * keys * self.pair


@cache
def work(design: Design, dims: Dims) -> Work:
    """Count the work of a design.

    Raises:
        BadInput: its functions run on tensors only.
        Refusal: the design cannot exist at these sizes.
    """
    matrices, sizes = design.matrices(dims), design.head_sizes(dims)
    tally = Tally()
    shapes = {name: (matrix.rows, matrix.columns) for name, matrix in matrices.items()}
    weights = tally.weights(shapes)
    try:
        _, memory = design.project(weights, tally.zeros(1, dims.d_model), dims, None)
        design.finish(weights, tally.zeros(sizes.queries, 1, sizes.value_channels), dims)
        token = tally.flops
        design.recall(weights, memory, dims)
    except (AttributeError, TypeError) as problem:
        raise BadInput(
            f"{design} runs on tensors only ({problem}), so its work cannot be counted; write it with "
            "qkvlab.designs.design.functions, which has one name for NumPy and PyTorch."
        ) from problem
    return Work(
        token=token,
        key=tally.flops - token,
        pair=2 * sizes.queries * (sizes.channels + sizes.value_channels),
        read={name: tally.taken.get(name, rows * columns) for name, (rows, columns) in shapes.items()},
    )


def cheaper(design: Design, absorbed: Design | None, dims: Dims, tokens: int, keys: int) -> Design:
    """Return the design, or its absorbed form where there is one that takes fewer FLOPs for such a step."""
    if absorbed is None:
        return design
    return absorbed if work(absorbed, dims).of(tokens, keys) < work(design, dims).of(tokens, keys) else design


def reach(design: Design, first: int, count: int) -> range:
    """Return the tokens that new ones can see at all in a step: a window reads no more than its last tokens.

    Args:
        design: may have a window, and may keep a token from itself.
        first: place of the first new token.
        count: new tokens.
    """
    start = 0 if design.window is None else max(0, first - design.window + 1)
    stop = first + count
    alone = count == 1 and stop - start > 1 and not design.sees_itself
    return range(start, stop - 1 if alone else stop)
