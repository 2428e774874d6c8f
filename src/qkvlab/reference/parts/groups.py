"""``/kv2``: two key heads, each of which serves equally many query heads."""

from __future__ import annotations

from collections.abc import Mapping

from qkvlab.reference.definition import Array, Kind


def grouped(kind: Kind, groups: str) -> Kind:
    """Give the definition its number of key heads."""

    class Grouped(kind):
        def __init__(self, pattern: str, weights: Mapping[str, Array], **sizes: int) -> None:
            super().__init__(pattern, weights, **(sizes | {"kv_heads": int(groups)}))

    return Grouped


PART = (r"kv([0-9]+)", grouped)
