"""``/noself``: no token looks at itself while it sees another."""

from __future__ import annotations

import numpy as np

from qkvlab.reference.definition import Kind, Mask, Places


def without_self(kind: Kind) -> Kind:
    """Take the diagonal away, row by row, wherever the row has anything else."""

    class NoSelf(kind):
        def visible(self, allowed: Mask, back: Places, own: bool) -> Mask:
            seen = np.array(super().visible(allowed, back, own))
            for t in range(seen.shape[-2] if own else 0):
                elsewhere = np.delete(seen[..., t, :], t, axis=-1).any(-1)
                seen[..., t, t] &= ~elsewhere
            return seen

    return NoSelf


PART = (r"noself", without_self)
