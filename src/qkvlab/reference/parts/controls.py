"""``uniform``, ``frozen``, ``QDQ``: the controls."""

from __future__ import annotations

import numpy as np

from qkvlab.reference.definition import Array, Definition, Kind, Places


class Uniform(Definition):
    """Every score is 0."""

    def queries(self, x: Array, at: Places) -> Array:
        return np.zeros((*x.shape[:-2], self.heads, x.shape[-2], self.d_head), x.dtype)

    def keys(self, y: Array, at: Places) -> Array:
        return np.zeros((*y.shape[:-2], self.kv_heads, y.shape[-2], self.d_head), y.dtype)


class Signed(Definition):
    """Every second channel of a query changes its sign."""

    def queries(self, x: Array, at: Places) -> Array:
        q = super().queries(x, at)
        return q * np.where(np.arange(self.d_head) % 2 == 0, 1, -1).astype(q.dtype)


def control(name: str) -> tuple[Kind, str]:
    """Return the kind and the letters of a control."""
    return {"uniform": (Uniform, "XXV"), "frozen": (Definition, "QKV"), "qdq": (Signed, "QQV")}[name.lower()]


BASE = (r"(uniform|frozen|QDQ)", control)
