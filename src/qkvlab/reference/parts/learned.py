"""``/learned512``: row m of a trained table is added to the token at position m."""

from __future__ import annotations

from qkvlab.reference.definition import Array, Kind, Places


def learned(kind: Kind, rows: str) -> Kind:
    """Add the table's rows to x."""

    class Learned(kind):
        def tokens(self, x: Array, at: Places) -> Array:
            if at.size and not 0 <= at.min() <= at.max() < int(rows):
                raise ValueError(f"positions must lie in 0..{int(rows) - 1}; got {at.min()}..{at.max()}.")
            return super().tokens(x, at) + self.weights["places"][at]

    return Learned


PART = (r"learned([0-9]+)", learned)
