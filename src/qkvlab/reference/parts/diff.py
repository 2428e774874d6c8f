"""``/diff3``: in every head the attention of one half of q and k less lambda times that of the other half."""

from __future__ import annotations

import numpy as np

from qkvlab.reference.definition import Array, Kind, Mask, Places


def differential(kind: Kind, depth: str) -> Kind:
    """Let the heads ask twice; ``depth`` is the layer, from 1, or empty for an endlessly deep one."""
    start = 0.8 - (0.6 * np.exp(0.3 - 0.3 * int(depth)) if depth else 0.0)

    class Differential(kind):
        def pairs(self) -> list[tuple[int, int]]:
            """Head and half of each head of q: a key head's queries ask its first half, then its second."""
            of = [head * self.kv_heads // self.heads for head in range(self.heads)]
            order = [(key, half, head) for head, key in enumerate(of) for half in (0, 1)]
            return [(head, half) for _, half, head in sorted(order)]

        def queries(self, x: Array, at: Places) -> Array:
            q = super().queries(x, at)
            c = q.shape[-1] // 2
            return np.stack([q[..., head, :, half * c : half * c + c] for head, half in self.pairs()], axis=-3)

        def keys(self, y: Array, at: Places) -> Array:
            k = super().keys(y, at)
            c = k.shape[-1] // 2
            every = [(head, half) for head in range(k.shape[-3]) for half in (0, 1)]
            return np.stack([k[..., head, :, half * c : half * c + c] for head, half in every], axis=-3)

        def root(self) -> float:
            return super().root() / 2**0.5

        def masks(self, allowed: Mask) -> Mask:
            if allowed.ndim < 3 or allowed.shape[-3] == 1:
                return allowed
            return np.stack([allowed[..., head, :, :] for head, _ in self.pairs()], axis=-3)

        def finish(self, mixed: Array) -> Array:
            w = {name: self.weights[name].ravel() for name in ("lq1", "lk1", "lq2", "lk2", "gain")}
            factor = np.exp(w["lq1"] @ w["lk1"]) - np.exp(w["lq2"] @ w["lk2"]) + mixed.dtype.type(start)
            found = {pair: mixed[..., i, :, :] for i, pair in enumerate(self.pairs())}
            heads = np.stack([found[head, 0] - factor * found[head, 1] for head in range(self.heads)], axis=-3)
            length = np.sqrt(np.square(heads).mean(-1, keepdims=True) + mixed.dtype.type(1e-5))
            return super().finish(heads / length * w["gain"] * mixed.dtype.type(1 - start))

    return Differential


PART = (r"diff([0-9]*)", differential)
