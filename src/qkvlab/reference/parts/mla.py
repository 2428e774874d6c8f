"""``MLA``: one latent for the keys and values of all heads, written from DeepSeek-V2 (2405.04434, equations 9 to 19).

The paper's matrices by its own letters: d down, u up, r turned.
"""

from __future__ import annotations

import math

import numpy as np

from qkvlab.reference.definition import Array, Definition, Kind, Places, cut
from qkvlab.reference.parts.rope import turned, understood


def rms_normed(x: Array, gain: Array) -> Array:
    """x over the root of its mean square, times a gain for each channel."""
    return gain * x / (np.square(x).mean(axis=-1, keepdims=True) + x.dtype.type(1e-6)) ** 0.5


def latent_attention(
    latent: str | None, asked: str | None, rope: str | None, channels: str | None, options: str | None
) -> tuple[Kind, str]:
    """Return a definition; what the name leaves out are 4 d_head, no latent of queries, and d_head / 2."""
    how = understood(f"-interleaved{options or ''}")
    growth = 1.0
    if "yarn" in how:  # scores grow as a whole, the turned channels do not
        growth = (how["gain"] if "gain" in how else 0.1 * math.log(how["by"]) + 1) ** 2
        how["gain"] = 1.0

    class Latent(Definition):
        def width(self) -> int:
            return int(channels or self.d_head // 2) if rope else 0

        def root(self) -> float:
            return (self.d_head + self.width()) ** 0.5 / growth

        def queries(self, x: Array, at: Places) -> Array:
            if asked:
                source = rms_normed(self.times(x, "dq"), self.weights["dq_gain"])
                made = [source @ self.weights[name] for name in (("q", "qr") if rope else ("q",))]
            else:
                made = [self.times(x, name) for name in (("q", "qr") if rope else ("q",))]
            parts = [cut(part, self.heads) for part in made]
            return np.concatenate([parts[0], *(self.turn(part, at) for part in parts[1:])], axis=-1)

        def keys(self, y: Array, at: Places) -> Array:
            content = cut(self.latent(y) @ self.weights["uk"], self.heads)
            if not rope:
                return content
            shared = self.turn(cut(self.times(y, "kr"), 1), at)
            return np.concatenate([content, np.repeat(shared, self.heads, axis=-3)], axis=-1)

        def values(self, y: Array, at: Places) -> Array:
            return cut(self.latent(y) @ self.weights["uv"], self.heads)

        def latent(self, y: Array) -> Array:
            return rms_normed(self.times(y, "dkv"), self.weights["dkv_gain"])

        def turn(self, x: Array, at: Places) -> Array:
            return turned(x, at, how)

    return Latent, "MLA"


BASE = (r"MLA([0-9]+)?(?:q([0-9]+))?(?:(/rope)([0-9]+)?((?:-[a-z0-9.]+)*))?", latent_attention)
