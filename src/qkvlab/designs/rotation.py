"""A rotation by positions: which channels turn, in which pairs, how fast; as numbers and as the text of a name.

    options = {"-" option}, in any order, printed in this one
    option  = "interleaved"                pairs are neighbours (0 1)(2 3)... instead of halves (0 n)(1 n+1)...
            | "first" even number          only the first channels of a head turn
            | "base" number                instead of 10000
            | scaling {"-" field number}   see `speeds`: linear-by4, llama3-by8-of8192

Heads (..., h, t, c); positions (t,) or (b, t).
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Literal

import numpy as np

from qkvlab.contracts import Array, Words
from qkvlab.designs.design import at_least_single, cast, finely, functions, places, upward
from qkvlab.designs.speeds import SCALINGS, Scaling, digits, plain_speeds
from qkvlab.errors import BadInput, Refusal, unknown

Pairing = Literal["halves", "interleaved"]

USUAL_BASE = 10000.0
REMEMBERED = 8192
"""Tokens of a text whose angles are kept, 4 MB at 128 channels; those of longer ones are little beside the rest."""


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """Turns pairs of channels by position times speed (Su et al., arXiv 2104.09864).

    Attributes:
        pairing: ``halves`` pairs channel i with i + n, as Llama and GPT-NeoX do; ``interleaved`` pairs 2 i with
            2 i + 1, as RoFormer, GPT-J and DeepSeek do. Permuting the columns of W_Q and W_K makes one of the other.
        first: how many channels turn, the others stay; all when None.
        base: whose powers are the speeds.
        scaling: what makes other speeds of them.
    """

    pairing: Pairing = "halves"
    first: int | None = None
    base: float = USUAL_BASE
    scaling: Scaling | None = None

    def __post_init__(self) -> None:
        if self.first is not None and (self.first < 2 or self.first % 2):
            raise BadInput(f"RoPE turns pairs, so first must be an even number from 2 on; got first{self.first}.")
        if not self.base > 1:
            raise BadInput(f"the base of RoPE must be greater than 1; got base{digits(self.base)}.")

    @property
    def options(self) -> str:
        """The text of a name that `read` reads back: nothing, or options with a dash before each."""
        said = (
            "" if self.pairing == "halves" else self.pairing,
            "" if self.first is None else f"first{self.first}",
            "" if self.base == USUAL_BASE else f"base{digits(self.base)}",
            "" if self.scaling is None else self.scaling.name,
        )
        return "".join(f"-{option}" for option in said if option)

    @property
    def words(self) -> Words:
        """What people read: the options in words, empty when there are none."""
        zh, en = [], []
        if self.pairing != "halves":
            zh.append("相邻成对")
            en.append("neighbours paired")
        if self.first is not None:
            zh.append(f"只转前 {self.first} 维")
            en.append(f"first {self.first} channels only")
        if self.base != USUAL_BASE:
            zh.append(f"底 {digits(self.base)}")
            en.append(f"base {digits(self.base)}")
        if self.scaling is not None:
            zh.append(self.scaling.words.zh)
            en.append(self.scaling.words.en)
        return Words(f"（{'、'.join(zh)}）" if zh else "", f" ({', '.join(en)})" if en else "")

    @property
    def amplitude(self) -> float:
        """What turned channels are multiplied by."""
        return 1.0 if self.scaling is None else self.scaling.amplitude

    @property
    def level(self) -> Rotation:
        """The same angles, at amplitude 1."""
        return self if self.scaling is None else dataclasses.replace(self, scaling=self.scaling.level)

    def fit(self, channels: int) -> None:
        """Refuse heads that cannot be turned so.

        Raises:
            Refusal: an odd number of channels, or fewer than shall turn.
        """
        if self.first is None and channels % 2:
            raise Refusal(
                f"RoPE turns channels in pairs; got heads of {channels} channels. "
                f"Choose an even d_head, or turn some of them with -first{max(channels - 1, 2)}."
            )
        if self.first is not None and self.first > channels:
            raise Refusal(f"RoPE cannot turn the first {self.first} channels of heads that have {channels}.")

    def turn(self, heads: Array, positions: Array | None) -> Array:
        """Turn each head by where its token stands: (..., h, t, c) -> the same shape and precision.

        Angles are made in float64 and the turning is done in float32 at least, whatever the heads are.
        """
        cos, sin = self._angles(heads, positions)
        if _records(heads):
            from qkvlab.designs.turning import Turning

            return Turning.apply(heads, cos, sin, self._turned)
        return self._turned(heads, cos, sin)

    def turn_last(self, heads: Array, channels: int, positions: Array | None, *, back: bool = False) -> None:
        """Turn the last channels of heads (..., h, t, c), or turn them back, where they lie; nobody else reads them."""
        last = heads[..., heads.shape[-1] - channels :]
        known = _known_places(last, positions)
        if known is not None and self.pairing == "interleaved" and self.first is None and _can_be_complex(last):
            turns = _complex_of(self, channels, known, last.dtype)
            _as_complex(last).mul_(turns.conj() if back else turns)
        else:
            cos, sin = self._angles(last, positions)
            last[...] = self._turned(last, cos, -sin if back else sin)

    def _angles(self, heads: Array, positions: Array | None) -> tuple[Array, Array]:
        channels, known = self.first or heads.shape[-1], _known_places(heads, positions)
        if known is not None:
            return _tables_of(self, channels, known, heads.dtype)
        return self._tables(channels, heads, places(heads, positions))

    def _turned(self, heads: Array, cos: Array, sin: Array) -> Array:
        channels, f = 2 * cos.shape[-1], functions(heads)
        turning, still = heads[..., :channels], heads[..., channels:]
        turned = cast((_halves if self.pairing == "halves" else _neighbours)(turning, cos, sin), heads.dtype)
        return f.concat([turned, still], -1) if still.shape[-1] else turned

    def _tables(self, channels: int, like: Array, places: Array) -> tuple[Array, Array]:
        # cos and sin of the angles at places (..., t, 1): (..., t, channels / 2)
        angles, f = finely(places) * self._speeds(channels, like), functions(like)
        cos, sin = (at_least_single(self.amplitude * table, like) for table in (f.cos(angles), f.sin(angles)))
        return cos, sin

    def _speeds(self, channels: int, like: Array) -> Array:
        pair = finely(upward(channels // 2, like))
        if self.scaling is None:
            return plain_speeds(pair, self.base, channels)
        return self.scaling.speeds(pair, self.base, channels)


def _known_places(heads: Array, positions: Array | None) -> range | None:
    # of a whole text, or of a step of decoding: q and k of every layer turn by the same angles
    one = positions is not None and positions.shape == (1,)
    whole = positions is None and heads.shape[-2] <= REMEMBERED
    given = [x for x in (heads, positions) if x is not None]
    if not (one or whole) or not all(_is_plain(x) and x.device.type == "cpu" for x in given):
        return None
    first = 0 if positions is None else int(positions)
    return range(first, first + heads.shape[-2])


@lru_cache(maxsize=16)
def _tables_of(rotation: Rotation, channels: int, places: range, dtype: Any) -> tuple[Array, Array]:
    import torch

    with torch.inference_mode(False):  # they may be kept for a gradient later
        like = torch.empty(0, dtype=dtype)
        return rotation._tables(channels, like, torch.arange(places.start, places.stop)[:, None])


@lru_cache(maxsize=16)
def _complex_of(rotation: Rotation, channels: int, places: range, dtype: Any) -> Array:
    cos, sin = _tables_of(rotation, channels, places, dtype)
    return functions(cos).complex(cos, sin)


def _records(x: Array) -> bool:
    # whether autograd may ask for the gradient, and nobody else looks: compilers and `torch.func` read formulas best
    return _is_plain(x) and functions(x).is_grad_enabled()


def _is_plain(x: Array) -> bool:
    # whether it is a tensor of numbers that no graph is traced of and no transformation sees
    if isinstance(x, np.ndarray):
        return False
    torch = functions(x)
    seen = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()  # which has no public name
    return type(x) is torch.Tensor and not seen


def _halves(x: Array, cos: Array, sin: Array) -> Array:
    # a cos - b sin and b cos + a sin, where [a, b] = x
    f, half = functions(x), x.shape[-1] // 2
    if not _only_numbers(x):
        a, b = x[..., :half], x[..., half:]
        return f.concat([a * cos - b * sin, b * cos + a * sin], -1)
    x = at_least_single(x, x)
    turned = x * f.concat([cos, cos], -1)  # and the rest into it: no more than two tensors are made
    turned[..., :half].addcmul_(x[..., half:], sin, value=-1)
    turned[..., half:].addcmul_(x[..., :half], sin)
    return turned


def _neighbours(x: Array, cos: Array, sin: Array) -> Array:
    # the same, where x = [a0, b0, a1, b1, ...]
    f = functions(x)
    if not _only_numbers(x) or not _lie_at_even_places(x):
        a, b = x[..., ::2], x[..., 1::2]
        return f.stack([a * cos - b * sin, b * cos + a * sin], -1).reshape(x.shape)
    # as complex numbers: one pass instead of seven
    return f.view_as_real(_as_complex(at_least_single(x, x)) * f.complex(cos, sin)).reshape(x.shape)


def _as_complex(x: Array) -> Array:
    # a view of neighbours (a, b) as a + b i
    return functions(x).view_as_complex(x.reshape(*x.shape[:-1], x.shape[-1] // 2, 2))


def _can_be_complex(x: Array) -> bool:
    return _only_numbers(x) and _lie_at_even_places(x) and x.dtype in (functions(x).float32, functions(x).float64)


def _only_numbers(x: Array) -> bool:
    # whether a tensor is all that is asked for: a compiler joins passes by itself and knows no complex numbers, and a
    # gradient may come back at places where they cannot stand
    if isinstance(x, np.ndarray) or x.device.type == "mps":
        return False
    return not (functions(x).is_grad_enabled() or functions(x).compiler.is_compiling())


def _lie_at_even_places(x: Array) -> bool:
    return x.stride(-1) == 1 and all(n % 2 == 0 for n in (*x.stride()[:-1], x.storage_offset()))


USUAL = Rotation()
"""All channels, in halves, at base 10000."""


def read(options: str) -> Rotation:
    """Read what `Rotation.options` prints, options in any order and case.

    Raises:
        BadInput: an option that does not exist, stands twice, or lacks its scaling.

    >>> read("-base500000-llama3-by8-of8192").scaling
    Llama3(by=8.0, of=8192.0, low=1, high=4)
    """
    scalings = {scaling.label: scaling for scaling in SCALINGS}
    found: dict[str, Any] = {}
    for option in options.lower().split("-")[1:]:
        value: Any = True
        word = option
        if option not in (*scalings, "interleaved"):
            match = re.fullmatch(r"([a-z]+)([0-9]{1,12}(?:\.[0-9]{1,12})?)", option, re.ASCII)
            word, value = (match[1], float(match[2])) if match else (option, None)
        if value is None and word in _options():
            raise BadInput(f"the option {word} of RoPE needs a number, such as {word}4; got {options!r}.")
        if value is None or word not in _options():
            raise unknown("option of RoPE", option, _options())
        if word in found:
            raise BadInput(f"an option of RoPE stands once; got {word} twice in {options!r}.")
        found[word] = value
    pairing: Pairing = "interleaved" if found.pop("interleaved", False) else "halves"
    first, base = found.pop("first", None), found.pop("base", USUAL_BASE)
    if first is not None and first != int(first):
        raise BadInput(f"RoPE turns whole channels; got first{digits(first)}.")
    return Rotation(
        pairing=pairing, first=None if first is None else int(first), base=base, scaling=_scaling(found, options)
    )


@cache
def _options() -> tuple[str, ...]:
    fields = (field.name for scaling in SCALINGS for field in dataclasses.fields(scaling))
    return tuple(dict.fromkeys(("interleaved", "first", "base", *(s.label for s in SCALINGS), *fields)))


def _scaling(found: dict[str, Any], options: str) -> Scaling | None:
    kinds = [scaling for scaling in SCALINGS if found.pop(scaling.label, False)]
    if len(kinds) > 1 or (found and not kinds):
        labels = ", ".join(scaling.label for scaling in SCALINGS)
        raise BadInput(f"RoPE takes one scaling of {labels}, and its numbers with it; got {options!r}.")
    if not kinds:
        return None
    fields = dataclasses.fields(kinds[0])
    needed = [field.name for field in fields if field.default is dataclasses.MISSING]
    if not set(needed) <= set(found) <= {field.name for field in fields}:
        raise BadInput(
            f"RoPE scaling {kinds[0].label} needs {' and '.join(needed)}, and may take "
            f"{', '.join(f.name for f in fields if f.name not in needed) or 'nothing else'}; got {options!r}."
        )
    return kinds[0](**found)
