"""``/noself``: a token does not attend to itself unless it sees nothing else (Kitaev et al., arXiv 2001.04451).

A tied score of a token with itself is a squared length, so most rows look at themselves; is that what hurts?
"""

from __future__ import annotations

from dataclasses import dataclass

from qkvlab.contracts import Words
from qkvlab.designs.around import Around
from qkvlab.designs.ways import Way


@dataclass(frozen=True)
class NoSelf(Around):
    """The inner design, whose tokens exclude themselves; a lone token still attends to itself."""

    @property
    def name(self) -> str:
        return f"{self.inner.name}/noself"

    @property
    def words(self) -> Words:
        inner = self.inner.words
        return Words(f"{inner.zh}，不看自己", f"{inner.en}; no token attends to itself")

    @property
    def sees_itself(self) -> bool:
        return False


PART = (r"noself", NoSelf)
EXAMPLES = (NoSelf(Way("QQV")),)
SHOWN = (NoSelf(Way("QKV")),)
