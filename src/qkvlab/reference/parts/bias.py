"""``/bias`` and ``/biasqkv``: b added to x W, of q, k and v, and of W_O too unless the name says otherwise."""

from __future__ import annotations

from qkvlab.reference.definition import Array, Kind


def biased(kind: Kind, only: str | None) -> Kind:
    """Add the row of numbers that bears the matrix's name."""

    class Biased(kind):
        def times(self, x: Array, name: str) -> Array:
            return super().times(x, name) + self.weights[f"{name}_bias"][0]

        def out(self, flat: Array) -> Array:
            brought = super().out(flat)
            return brought if only else brought + self.weights["out_bias"]

    return Biased


PART = (r"bias(qkv)?", biased)
