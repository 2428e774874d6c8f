"""``/rank8``: x passes through 8 numbers on its way to each of q, k and v."""

from __future__ import annotations

from qkvlab.reference.definition import Array, Kind


def low_rank(kind: Kind, rank: str) -> Kind:
    """Multiply the two factors first: one matrix of low rank."""

    class LowRank(kind):
        def times(self, x: Array, name: str) -> Array:
            product = self.weights[f"{name}_down"] @ self.weights[name]
            whole = {**self.weights, name: product}
            kept, self.weights = self.weights, whole
            try:
                return super().times(x, name)
            finally:
                self.weights = kept

    return LowRank


PART = (r"rank([0-9]+)", low_rank)
