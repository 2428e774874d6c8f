"""Which route a call takes, of those in `core`: what the layer was made with, and whether it was prepared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from torch import Tensor

from qkvlab.attention import core
from qkvlab.attention.core import Attend
from qkvlab.attention.scoring import Scoring
from qkvlab.attention.visible import Visible

if TYPE_CHECKING:
    from qkvlab.attention.layer import Attention

Route = Literal["fused", "native", "plain"]


def attend(layer: Attention, q: Tensor, k: Tensor, v: Tensor, visible: Visible, scoring: Scoring) -> Tensor:
    """Let queries (b, h, t, c) look at keys (b, g, s, c) by the layer's route: (b, h, t, e)."""
    fast = core.attend_fused if layer.preparation is None else core.attend_prepared
    return {"fused": fast, "native": core.attend_native, "plain": core.attend}[layer.route](q, k, v, visible, scoring)


def settled(layer: Attention, q: Tensor, k: Tensor, v: Tensor, visible: Visible, scoring: Scoring) -> Attend | None:
    """Return what does as `attend` for other numbers of the same sizes by one kernel; None where it takes more."""
    return None if layer.route == "plain" else core.alone(q, k, v, visible, scoring, own=takes_its_own(layer))


def has_kernels(layer: Attention, q: Tensor, scoring: Scoring) -> bool:
    """Whether the layer's route has kernels for such queries, so that `attend_one` can do them."""
    return core.fusible(q, scoring) and layer.route != "plain"


def takes_its_own(layer: Attention) -> bool:
    """Whether the layer takes kernels of its own where there are any."""
    return layer.route == "native" or (layer.route == "fused" and layer.preparation is not None)


def attend_one(layer: Attention, q: Tensor, k: Tensor, v: Tensor, scoring: Scoring) -> Tensor:
    """Let one query of each head look at every key, without gradients: (b, h, 1, e)."""
    return (core.attend_once if takes_its_own(layer) else core.attend_everything)(q, k, v, scoring)
