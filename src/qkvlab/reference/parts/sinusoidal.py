"""``/sin``: PE(m, 2i) = sin(m / 10000^(2i/d)), PE(m, 2i+1) = cos(m / 10000^(2i/d)) is added to x (1706.03762, 3.5)."""

from __future__ import annotations

import numpy as np

from qkvlab.reference.definition import Array, Kind, Places


def sinusoidal(kind: Kind) -> Kind:
    """Add sines and cosines to x."""

    class Sinusoidal(kind):
        def tokens(self, x: Array, at: Places) -> Array:
            d = x.shape[-1]
            table = np.zeros((*at.shape, d))
            for i in range((d + 1) // 2):
                angle = at / 10000 ** (2 * i / d)
                table[..., 2 * i] = np.sin(angle)
                table[..., 2 * i + 1 : 2 * i + 2] = np.cos(angle)[..., None]
            return super().tokens(x, at) + table.astype(x.dtype)

    return Sinusoidal


PART = (r"sin", sinusoidal)
