"""``/sin``: sines and cosines of the position, added to x before q, k and v (Vaswani et al., arXiv 1706.03762, 3.5)."""

from __future__ import annotations

from dataclasses import dataclass

from qkvlab.contracts import Array, Dims, Words
from qkvlab.designs.design import Weights, cast, finely, functions, upward
from qkvlab.designs.placed import Placed
from qkvlab.designs.ways import Way


@dataclass(frozen=True)
class Sinusoidal(Placed):
    """The inner design on x + P: channel 2 i is sin(m / 10000^(2 i / d)) at position m, channel 2 i + 1 its cosine."""

    @property
    def name(self) -> str:
        return f"{self.inner.name}/sin"

    @property
    def words(self) -> Words:
        inner = self.inner.words
        return Words(f"{inner.zh}，正弦位置", f"{inner.en}; sinusoidal positions")

    def place(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> Array:
        at = finely(upward(x.shape[-2], x) if positions is None else positions)
        channel = finely(upward(dims.d_model, x))
        even = channel - channel % 2
        angles = at[..., None] * 10000.0 ** (-even / dims.d_model)
        f = functions(x)
        return cast(f.where(channel % 2 == 0, f.sin(angles), f.cos(angles)), x.dtype)


PART = (r"sin", Sinusoidal)
NAMES = {"transformer": "QKV/sin"}
EXAMPLES = (Sinusoidal(Way("QKV")), Sinusoidal(Way("QQV")))
SHOWN = (Sinusoidal(Way("QKV")),)
