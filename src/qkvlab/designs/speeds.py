"""How fast each pair of channels turns under RoPE, and how longer texts slow it down.

Pair i of n = channels / 2 turns by theta_i = base^(-i / n) for each token (Su et al., arXiv 2104.09864). A scaling
makes of this other speeds, so that ``by`` times as many tokens fit into the angles that were trained. Words of a name
are those of the fields: ``yarn-by4-of4096`` is ``Yarn(by=4, of=4096)``; a field at its default is not written.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from qkvlab.contracts import Array, Words
from qkvlab.errors import BadInput


def digits(number: float) -> str:
    """Write a number as a name can hold it: digits and a dot, no exponent.

    >>> digits(4.0), digits(1e6), digits(0.25)
    ('4', '1000000', '0.25')
    """
    text = format(Decimal(repr(float(number))), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def plain_speeds(pair: Array, base: float, channels: int) -> Array:
    """theta_i = base^(-2 i / channels) for each pair number i."""
    return base ** (-2 * pair / channels)


@dataclass(frozen=True, kw_only=True)
class Scaling(ABC):
    """What is done to the speeds; subclasses are final and have only numbers as fields."""

    label: ClassVar[str]

    @abstractmethod
    def speeds(self, pair: Array, base: float, channels: int) -> Array:
        """Return angles per token of pairs 0, 1, ... channels / 2 - 1; ``pair`` counts them, in float64."""

    @property
    @abstractmethod
    def words(self) -> Words:
        """What people read."""

    @property
    def amplitude(self) -> float:
        """What cos and sin are multiplied by."""
        return 1.0

    @property
    def level(self) -> Scaling:
        """The same speeds, at amplitude 1."""
        return self

    @property
    def name(self) -> str:
        """The label and the fields that are not at their defaults, such as ``ntk-by4``."""
        fields = ((f.name, getattr(self, f.name), f.default) for f in dataclasses.fields(self))
        return "-".join((self.label, *(f"{name}{digits(value)}" for name, value, usual in fields if value != usual)))

    def _require(self, holds: bool, what: str) -> None:
        if not holds:
            raise BadInput(f"RoPE scaling {self.label} needs {what}; got {self.name}.")


@dataclass(frozen=True, kw_only=True)
class Linear(Scaling):
    """Position interpolation: every pair ``by`` times slower (Chen et al., arXiv 2306.15595)."""

    label = "linear"
    by: float

    def __post_init__(self) -> None:
        self._require(self.by >= 1, "by >= 1")

    @property
    def words(self) -> Words:
        return Words(f"位置除以 {digits(self.by)}", f"positions divided by {digits(self.by)}")

    def speeds(self, pair: Array, base: float, channels: int) -> Array:
        return plain_speeds(pair, base, channels) / self.by


@dataclass(frozen=True, kw_only=True)
class Ntk(Scaling):
    """A larger base: the slowest pair ``by`` times slower, the fastest as it was (bloc97 2023; arXiv 2309.00071, 3.1).

    "Dynamic" NTK chooses ``by`` by the length of the text at hand. Keys that are kept are already turned, so a design
    has one ``by``: at L tokens, dynamic NTK of factor F trained on M is ``by = F L / M - F + 1``.
    """

    label = "ntk"
    by: float

    def __post_init__(self) -> None:
        self._require(self.by >= 1, "by >= 1")

    @property
    def words(self) -> Words:
        return Words(f"NTK 放大 {digits(self.by)} 倍", f"NTK-scaled by {digits(self.by)}")

    def speeds(self, pair: Array, base: float, channels: int) -> Array:
        if channels > 2:  # a single pair is the fastest and stays as it is
            base = base * self.by ** (channels / (channels - 2))
        return plain_speeds(pair, base, channels)


@dataclass(frozen=True, kw_only=True)
class Llama3(Scaling):
    """Pairs that turn often in ``of`` tokens stay, seldom ones slow down (Llama 3.1; arXiv 2407.21783).

    Attributes:
        by: how many times slower the slow pairs become.
        of: tokens of a text before.
        low: full turns in ``of`` tokens up to which a pair becomes ``by`` times slower.
        high: full turns from which on it stays as it is; between them the speed is mixed linearly.
    """

    label = "llama3"
    by: float
    of: float
    low: float = 1
    high: float = 4

    def __post_init__(self) -> None:
        self._require(self.by >= 1 and self.of >= 1 and self.low < self.high, "by >= 1, of >= 1 and low < high")

    @property
    def words(self) -> Words:
        by, of = digits(self.by), digits(self.of)
        return Words(f"按 Llama 3 从 {of} 放大 {by} 倍", f"scaled from {of} by {by} as in Llama 3")

    def speeds(self, pair: Array, base: float, channels: int) -> Array:
        plain = plain_speeds(pair, base, channels)
        turns = self.of * plain / (2 * math.pi)
        stays = ((turns - self.low) / (self.high - self.low)).clip(0, 1)
        return stays * plain + (1 - stays) * plain / self.by


@dataclass(frozen=True, kw_only=True)
class Yarn(Scaling):
    """YaRN: a ramp over pair numbers instead, and longer q and k (Peng et al., arXiv 2309.00071).

    Attributes:
        by: how many times slower the slow pairs become.
        of: tokens of a text before.
        fast: full turns in ``of`` tokens from which on a pair stays as it is.
        slow: full turns up to which it becomes ``by`` times slower.
        gain: what q and k grow by; 0.1 ln(by) + 1 unless given.
        exact: 1 leaves the ends of the ramp as they are; 0 widens them to whole numbers, as the authors' code does.
    """

    label = "yarn"
    by: float
    of: float
    fast: float = 32
    slow: float = 1
    gain: float | None = None
    exact: float = 0

    def __post_init__(self) -> None:
        holds = self.by >= 1 and self.of >= 1 and 0 < self.slow < self.fast
        self._require(holds, "by >= 1, of >= 1 and 0 < slow < fast")
        self._require(self.exact in (0, 1) and (self.gain is None or self.gain > 0), "exact 0 or 1 and gain > 0")

    @property
    def words(self) -> Words:
        by, of = digits(self.by), digits(self.of)
        return Words(f"YaRN 从 {of} 放大 {by} 倍", f"YaRN from {of} by {by}")

    @property
    def amplitude(self) -> float:
        return 0.1 * math.log(self.by) + 1 if self.gain is None else self.gain

    @property
    def level(self) -> Yarn:
        return dataclasses.replace(self, gain=1.0)

    def speeds(self, pair: Array, base: float, channels: int) -> Array:
        def number(turns: float) -> float:  # of the pair that makes so many turns in `of` tokens
            return channels * math.log(self.of / (2 * math.pi * turns)) / (2 * math.log(base))

        first, last = number(self.fast), number(self.slow)
        if not self.exact:
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, channels - 1)
        slows = ((pair - first) / (last - first if last != first else 1e-3)).clip(0, 1)
        plain = plain_speeds(pair, base, channels)
        return slows * plain / self.by + (1 - slows) * plain


@dataclass(frozen=True, kw_only=True)
class Proportional(Scaling):
    """p-RoPE: only the fastest pairs turn at all (Barbero et al., arXiv 2410.06205; Gemma 4).

    Attributes:
        keep: share of the pairs that turn, rounded down to whole pairs.
    """

    label = "proportional"
    keep: float

    def __post_init__(self) -> None:
        self._require(0 < self.keep <= 1, "0 < keep <= 1")

    @property
    def words(self) -> Words:
        return Words(f"只转最快的 {digits(100 * self.keep)}%", f"only the fastest {digits(100 * self.keep)} % turn")

    def speeds(self, pair: Array, base: float, channels: int) -> Array:
        return plain_speeds(pair, base, channels) * (pair < int(self.keep * channels // 2))


SCALINGS: tuple[type[Scaling], ...] = (Linear, Ntk, Llama3, Yarn, Proportional)
