"""``/qknorm``, ``/unitnorm``, ``/unitkeys``: lengths of queries and keys, head by head."""

from __future__ import annotations

import numpy as np

from qkvlab.reference.definition import Array, Kind, Places


def normed(kind: Kind, which: str, epsilon: str | None, length: str | None) -> Kind:
    """Divide each query and key, or keys only, by its length."""
    which = which.lower()
    tiny = float(epsilon or 1e-6)

    class Normed(kind):
        def queries(self, x: Array, at: Places) -> Array:
            q = super().queries(x, at)
            if which == "unitkeys":
                return q
            if which == "unitnorm":
                return q / np.linalg.norm(q, axis=-1, keepdims=True) * self.weights["scale"][0, 0]
            return q / np.sqrt(np.mean(q**2, -1, keepdims=True) + tiny) * self.weights["q_gain"][0]

        def keys(self, y: Array, at: Places) -> Array:
            k = super().keys(y, at)
            if which == "qknorm":
                return k / np.sqrt(np.mean(k**2, -1, keepdims=True) + tiny) * self.weights["k_gain"][0]
            length = np.linalg.norm(k, axis=-1, keepdims=True)
            return k / np.where(length == 0, 1, length)

        def root(self) -> float:
            return super().root() if which == "qknorm" else 1.0

    return Normed


PART = (r"(qknorm|unitnorm|unitkeys)(?:-eps([0-9.e-]+))?([0-9]+)?", normed)
