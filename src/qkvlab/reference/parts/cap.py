"""``/cap50``: scores grow like themselves near 0 and never beyond 50."""

from __future__ import annotations

import numpy as np

from qkvlab.reference.definition import Array, Kind, Places


def capped(kind: Kind, limit: str) -> Kind:
    """Bend the scores."""

    class Capped(kind):
        def scores(self, q: Array, k: Array, back: Places) -> Array:
            free = super().scores(q, k, back)
            top = free.dtype.type(limit)
            return np.tanh(free / top) * top

    return Capped


PART = (r"cap([0-9]+)", capped)
