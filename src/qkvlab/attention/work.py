"""Which of two equal forms of a design takes less work for a step of decoding, counted and not guessed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from qkvlab.contracts import Dims
from qkvlab.designs import Design


@dataclass(frozen=True)
class Work:
    """FLOPs of one step for one sequence.

    Attributes:
        token: of each new token: projections, and what is done to the heads at the end.
        key: of each token that is recalled.
        pair: of each score and of its share in the sum.
    """

    token: int
    key: int
    pair: int

    def of(self, tokens: int, keys: int) -> int:
        """Count a step of so many new tokens over so many keys."""
        return tokens * self.token + keys * self.key + tokens * keys * self.pair


def cheaper(design: Design, absorbed: Design | None, dims: Dims, tokens: int, keys: int) -> Design:
    """Return the design, or its absorbed form where there is one that takes fewer FLOPs for such a step."""
    if absorbed is None:
        return design
    return absorbed if work(absorbed, dims).of(tokens, keys) < work(design, dims).of(tokens, keys) else design


@cache
def work(design: Design, dims: Dims) -> Work:
    """Count by PyTorch's own counter, on tensors without numbers."""
    with torch.device("meta"):
        weights = {name: torch.empty(m.rows, m.columns) for name, m in design.matrices(dims).items()}
        x, sizes = torch.empty(1, 1, dims.d_model), design.head_sizes(dims)
        with FlopCounterMode(display=False) as of_token:
            _, memory = design.project(weights, x, dims, None)
            design.finish(weights, torch.empty(1, sizes.queries, 1, sizes.value_channels), dims)
        with FlopCounterMode(display=False) as of_key:
            design.recall(weights, memory, dims)
    return Work(
        token=of_token.get_total_flops(),
        key=of_key.get_total_flops(),
        pair=2 * sizes.queries * (sizes.channels + sizes.value_channels),
    )
