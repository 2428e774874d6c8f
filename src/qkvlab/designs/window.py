"""``/window128``: a token sees 128 tokens back, itself included (Longformer, arXiv 2004.05150; Mistral, 2310.06825).

Without causality it sees as many ahead. Distances are those of positions, so they hold in a packed text or a cache too.
"""

from __future__ import annotations

from dataclasses import dataclass

from qkvlab.contracts import Words
from qkvlab.designs.around import Around
from qkvlab.designs.noself import NoSelf
from qkvlab.designs.ways import Way
from qkvlab.errors import BadInput


@dataclass(frozen=True)
class Window(Around):
    """The inner design, whose tokens see only what stands near them.

    Attributes:
        tokens: how many tokens back, its own included, a token sees.
    """

    tokens: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tokens < 1:
            raise BadInput(f"a window holds at least the token itself; got /window{self.tokens}.")

    @property
    def name(self) -> str:
        return f"{self.inner.name}/window{self.tokens}"

    @property
    def words(self) -> Words:
        inner = self.inner.words
        return Words(f"{inner.zh}，只看近处 {self.tokens} 个词", f"{inner.en}; sees a window of {self.tokens} tokens")

    @property
    def window(self) -> int:
        return self.tokens


PART = (r"window([0-9]{1,7})", lambda inner, tokens: Window(inner, int(tokens)))
EXAMPLES = (Window(Way("QKV", 2), 3), Window(NoSelf(Way("QQV")), 2))
SHOWN = (Window(Way("QKV"), 1024),)
