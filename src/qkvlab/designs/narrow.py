"""``/h16``: every head works in 16 channels, whatever d_model / heads would give."""

from __future__ import annotations

from dataclasses import dataclass, replace

from qkvlab.contracts import Dims, Words
from qkvlab.designs.around import Around
from qkvlab.designs.ways import Way
from qkvlab.errors import BadInput


@dataclass(frozen=True)
class Narrow(Around):
    """The inner design with heads of another width.

    Attributes:
        channels: of each query, key and value.
    """

    channels: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.channels < 1:
            raise BadInput(f"a head needs at least 1 channel; got /h{self.channels}.")

    @property
    def name(self) -> str:
        return f"{self.inner.name}/h{self.channels}"

    @property
    def words(self) -> Words:
        inner = self.inner.words
        return Words(f"{inner.zh}，每头 {self.channels} 维", f"{inner.en}; heads {self.channels} wide")

    def sizes(self, dims: Dims) -> Dims:
        return replace(self.inner.sizes(dims), d_head=self.channels, d_value=self.channels)


PART = (r"h([0-9]{1,5})", lambda inner, channels: Narrow(inner, int(channels)))
EXAMPLES = (Narrow(Way("QKV"), 16),)
SHOWN = (Narrow(Way("QKV"), 32),)
