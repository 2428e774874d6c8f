"""``/h16``: heads of 16 channels."""

from __future__ import annotations

from collections.abc import Mapping

from qkvlab.reference.definition import Array, Kind


def narrow(kind: Kind, channels: str) -> Kind:
    """Give every head its own width, whatever the layer says."""

    class Narrow(kind):
        def __init__(self, pattern: str, weights: Mapping[str, Array], **sizes: int) -> None:
            super().__init__(pattern, weights, **(sizes | {"d_head": int(channels)}))

    return Narrow


PART = (r"h([0-9]+)", narrow)
