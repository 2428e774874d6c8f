"""``/vnorm``: values of root mean square 1."""

from __future__ import annotations

import numpy as np

from qkvlab.reference.definition import Array, Kind, Places


def normed(kind: Kind) -> Kind:
    """Divide each value, head by head."""

    class Normed(kind):
        def values(self, y: Array, at: Places) -> Array:
            v = super().values(y, at)
            return v / np.sqrt(np.mean(v**2, axis=-1, keepdims=True) + 1e-6)

    return Normed


PART = (r"vnorm", normed)
