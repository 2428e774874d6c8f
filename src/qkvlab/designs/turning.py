"""Turning heads as one step of autograd: its gradient is turned back by the same angles, and nothing else is kept.

Formulas written out would keep eight tensors as large as the heads, and pass as often over them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Turn = Callable[[Tensor, Tensor, Tensor], Tensor]


class Turning(torch.autograd.Function):
    """``turn(heads, cos, sin)``, linear in heads; with -sin it turns back. Angles have no gradient."""

    @staticmethod
    def forward(heads: Tensor, cos: Tensor, sin: Tensor, turn: Turn) -> Tensor:
        return turn(heads, cos, sin)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, cos, sin, ctx.turn = inputs
        ctx.save_for_backward(cos, sin)
        ctx.save_for_forward(cos, sin)

    @staticmethod
    def backward(ctx: Any, *slopes: Any) -> Any:
        cos, sin = ctx.saved_tensors
        return Turning.apply(slopes[0], cos, -sin, ctx.turn), None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        cos, sin = ctx.saved_tensors
        return Turning.apply(tangents[0], cos, sin, ctx.turn)
