"""Whether the matrices of a layer are still those that something was made of: the same tensors, unwritten since."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
        weights = layer.projections.weights
        self._written = [(name, weight, weight._version, weight.data_ptr()) for name, weight in weights.items()]
        weight = layer.out.weight
        self._out = (weight, weight._version, weight.data_ptr()) if out else None

    def stands(self, layer: Attention) -> bool:
        """Whether nothing has been written to any of them since."""
        now = layer.projections._parameters
        if self._out is not None:
            weight, version, at = self._out
            out = getattr(layer.out, "weight", None)
            if out is not weight or weight._version != version or weight.data_ptr() != at:
                return False
        return all(
            now.get(name) is seen and seen._version == version and seen.data_ptr() == at
            for name, seen, version, at in self._written
        )
