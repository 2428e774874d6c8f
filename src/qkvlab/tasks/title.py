"""A short name of a setting, in parts, so that several of them can be listed without naming each."""

from __future__ import annotations

from dataclasses import dataclass

from qkvlab.contracts import Words

_NONE = Words("", "")


@dataclass(frozen=True)
class Title:
    """A setting in a few words.

    Attributes:
        head: what is asked.
        variant: which variant of it; may be empty.
        vectors: where the vectors come from; may be empty.
    """

    head: Words
    variant: Words = _NONE
    vectors: Words = _NONE

    @property
    def asked(self) -> Words:
        """What is asked, with its variant."""
        if not self.variant.zh:
            return self.head
        return Words(f"{self.head.zh}（{self.variant.zh}）", f"{self.head.en} ({self.variant.en})")

    @property
    def words(self) -> Words:
        """The whole title."""
        if not self.vectors.zh:
            return self.asked
        return Words(f"{self.asked.zh}·{self.vectors.zh}", f"{self.asked.en} · {self.vectors.en}")
