"""``/window4``: nobody sees a token that stands 4 or more places away."""

from __future__ import annotations

import numpy as np

from qkvlab.reference.definition import Kind, Mask, Places


def windowed(kind: Kind, tokens: str) -> Kind:
    """Let each token see what is near; whatever else hides tokens does so among those."""

    class Windowed(kind):
        def visible(self, allowed: Mask, back: Places, own: bool) -> Mask:
            return super().visible(allowed & (np.abs(back) <= int(tokens) - 1), back, own)

    return Windowed


PART = (r"window([0-9]+)", windowed)
