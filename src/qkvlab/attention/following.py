"""Whether the matrices of a layer are still those that something was made of: the same tensors, unwritten since."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from qkvlab.attention.layer import Attention


def can_be_followed(layer: Attention) -> bool:
    """Whether writing to the layer's matrices is seen: not where they are computed, nor made in inference mode."""
    held = layer.projections._parameters
    return all(name in held for name in layer.projections.weights) and not any(
        weight is not None and weight.is_inference() for weight in held.values()
    )


class Followed:
    """The matrices of a layer as they were at one moment; writing through ``.data`` is not seen later.

    Args:
        layer: whose matrices, all of which `can_be_followed`.
        out: whether W_O is among them.
    """

    def __init__(self, layer: Attention, *, out: bool = False) -> None:
        self._written = {name: _written(weight) for name, weight in layer.projections.weights.items()}
        self._out = _written(layer.out.weight) if out else None

    def stands(self, layer: Attention) -> bool:
        """Whether nothing has been written to any of them since."""
        now = layer.projections._parameters
        if self._out is not None and not _is_as(self._out, getattr(layer.out, "weight", None)):
            return False
        return all(_is_as(written, now.get(name)) for name, written in self._written.items())


def _written(weight: Tensor) -> tuple[Tensor, int, int]:
    return weight, weight._version, weight.data_ptr()


def _is_as(written: tuple[Tensor, int, int], now: object) -> bool:
    seen, version, at = written
    return now is seen and seen._version == version and seen.data_ptr() == at
