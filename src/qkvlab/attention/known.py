"""Calls like one that was checked before: nothing is checked or chosen twice.

Where a device is done with small tensors sooner than Python with its questions, Python decides how long a call takes.

q (b, h, t, c)    k (b, g, t, c)    v (b, u, t, e)    heads (b, h, t, e)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from qkvlab.attention import core, routes
from qkvlab.attention.core import Attend
from qkvlab.attention.masks import Causal
from qkvlab.attention.scoring import Scoring
from qkvlab.attention.visible import Visible

if TYPE_CHECKING:
    from qkvlab.attention.layer import Attention

MOST = 64
"""Kinds of calls that are kept."""


class Known:
    """The kernels that did what was asked of a layer with an x alone; copies of a layer know nothing.

    A kind is told by shape, dtype and device of x, whether it is causal, whether gradients are recorded, and by the
    layer's route. All other questions have answers that these settle.
    """

    def __init__(self) -> None:
        self._attend: dict[tuple[Any, ...], Attend | None] = {}

    def of(self, layer: Attention, x: Tensor, causal: Causal) -> Attend | None:
        """Return what attends in a call of a known kind, None for one that has to be looked at."""
        # asked first, or a graph would stand and fall with what is kept
        if torch.compiler.is_compiling() or not self._attend:
            return None
        kind = _kind(layer, x, causal)
        return None if kind is None else self._attend.get(kind)

    def keep(
        self, layer: Attention, x: Tensor, causal: Causal, q: Tensor, k: Tensor, v: Tensor, visible: Visible,
        scoring: Scoring,
    ) -> None:  # fmt: skip
        """Keep how a call was done, whose queries, keys and values these are."""
        kind = _kind(layer, x, causal)
        if kind is None or kind in self._attend:
            return
        if len(self._attend) == MOST:
            self._attend.clear()
        # dropout is asked for again in each call; a scoring that does more is of tensors that change
        plain = scoring.fusible and not layer.dropout
        self._attend[kind] = routes.settled(layer, q, k, v, visible, scoring) if plain else None

    def __getstate__(self) -> dict[str, Any]:
        return {"_attend": {}}


def _kind(layer: Attention, x: Tensor, causal: Causal) -> tuple[Any, ...] | None:
    if torch.compiler.is_compiling():
        return None
    # 1 is equal to True, and is refused
    if not (causal is True or causal is False) or type(x) is not Tensor or x.is_nested or x.layout != torch.strided:
        return None
    if core.inside_func() or torch.is_autocast_enabled(x.device.type):
        return None
    weight = getattr(layer.out, "weight", None)
    if weight is None or weight.dtype != x.dtype or weight.device != x.device:
        return None
    return x.shape, x.dtype, x.device, causal, torch.is_grad_enabled(), layer.route, layer.preparation is None
