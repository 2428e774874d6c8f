"""``QMQ`` and ``QJQ``: what stands between one shared matrix for q and k."""

from __future__ import annotations

import numpy as np

from qkvlab.reference.definition import Array, Definition, Kind, Places


class Pairwise(Definition):
    """A trained square per head."""

    def queries(self, x: Array, at: Places) -> Array:
        squares = np.split(self.weights["m"], self.heads, axis=0)
        q = super().queries(x, at)
        return np.stack([q[..., h, :, :] @ square for h, square in enumerate(squares)], axis=-3)


class Antisymmetric(Definition):
    """A quarter turn of each pair of channels."""

    def queries(self, x: Array, at: Places) -> Array:
        turn = np.kron(np.eye(self.d_head // 2), [[0, 1], [-1, 0]])
        return super().queries(x, at) @ turn.astype(x.dtype)


def between(name: str) -> tuple[Kind, str]:
    """Return the kind and the letters."""
    return (Pairwise if name.lower() == "qmq" else Antisymmetric), "QQV"


BASE = (r"(QMQ|QJQ)", between)
