"""``/rope``, ``/ropekv`` and their options: two channels are one complex number, turned by exp(i m theta).

Written from RoFormer (2104.09864), position interpolation (2306.15595), YaRN (2309.00071), Llama 3 (2407.21783) and
p-RoPE (2410.06205); numbers of an option stand behind its word.
"""

from __future__ import annotations

import numpy as np

from qkvlab.reference.definition import Array, Kind, Places

USUAL = {"base": 10000.0, "low": 1.0, "high": 4.0, "fast": 32.0, "slow": 1.0, "exact": 0.0}


def understood(options: str) -> dict[str, float]:
    """Read options; a word without a number counts as 1."""
    found = dict(USUAL)
    for option in options.lower().split("-")[1:]:
        word = "llama3" if option == "llama3" else option.rstrip("0123456789.")
        found[word] = float(option[len(word) :] or 1)
    return found


def theta(i: int, channels: int, how: dict[str, float]) -> float:
    """Angle per token of pair i."""
    base, by, of = how["base"], how.get("by", 1.0), how.get("of", 1.0)
    if "ntk" in how and channels > 2:
        base *= by ** (channels / (channels - 2))
    speed = base ** (-2 * i / channels)
    wave = 2 * np.pi / speed
    if "linear" in how:
        return speed / by
    if "proportional" in how:
        return speed if i < int(how["keep"] * channels // 2) else 0.0
    if "llama3" in how:
        if wave < of / how["high"]:
            return speed
        if wave > of / how["low"]:
            return speed / by
        smooth = (of / wave - how["low"]) / (how["high"] - how["low"])
        return (1 - smooth) * speed / by + smooth * speed
    if "yarn" in how:
        ends = [channels / 2 * np.log(of / (2 * np.pi * how[end])) / np.log(base) for end in ("fast", "slow")]
        if not how["exact"]:
            ends = [np.floor(ends[0]), np.ceil(ends[1])]
        low, high = max(ends[0], 0.0), min(ends[1], channels - 1.0)
        ramp = min(max((i - low) / (high - low if high != low else 1e-3), 0.0), 1.0)
        return (1 - ramp) * speed + ramp * speed / by
    return speed


def turned(x: Array, at: Places, how: dict[str, float]) -> Array:
    """(..., h, t, c) with its tokens at places (t,) or (b, t)."""
    channels = int(how["first"]) if "first" in how else x.shape[-1]
    gain = 1.0
    if "yarn" in how:
        gain = how["gain"] if "gain" in how else 0.1 * np.log(how["by"]) + 1
    at = at if at.ndim == 1 else at[:, None]
    out = np.array(x)
    for i in range(channels // 2):
        one, two = (2 * i, 2 * i + 1) if "interleaved" in how else (i, i + channels // 2)
        number = (x[..., one] + 1j * x[..., two]) * gain * np.exp(1j * at * theta(i, channels, how))
        out[..., one], out[..., two] = number.real, number.imag
    return out


def rotary(kind: Kind, values: str | None, options: str) -> Kind:
    """Turn queries and keys, and values too where the name says so."""
    how = understood(options)

    class Rotary(kind):
        def queries(self, x: Array, at: Places) -> Array:
            return turned(super().queries(x, at), at, how)

        def keys(self, y: Array, at: Places) -> Array:
            return turned(super().keys(y, at), at, how)

        def values(self, y: Array, at: Places) -> Array:
            return turned(super().values(y, at), at, how) if values else super().values(y, at)

    return Rotary


PART = (r"rope(kv)?((?:-[a-z0-9.]+)*)", rotary)
