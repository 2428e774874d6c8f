"""A claim: a sentence people say, what has been published for and against it, and the places where it is tried."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from qkvlab.claims.check import Check
from qkvlab.contracts import Words

Side = Literal["for", "against", "beside"]


@dataclass(frozen=True)
class Source:
    """What somebody published about a claim.

    Attributes:
        side: whether it speaks for the claim, against it, or bears on it without taking a side.
        where: arXiv number or venue.
        words: what was found.
    """

    side: Side
    where: str
    words: Words


@dataclass(frozen=True)
class Place:
    """One place where a claim is tried: it holds there if every check says yes and fails if one says no.

    Attributes:
        id: unique in its claim.
        words: where, in a few words.
        checks: what decides.
        holds: what follows if it holds; the numbers are added when it is told.
        fails: what follows if it fails.
    """

    id: str
    words: Words
    checks: tuple[Check, ...]
    holds: Words
    fails: Words


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A sentence people say.

    Attributes:
        number: its place in the list.
        id: short name.
        sentence: the sentence, in our words.
        axis: on what it depends if it holds in one place and fails in another.
        places: where it is tried.
        literature: both sides.
        why: what explains the finding, whatever the verdict.
    """

    number: int
    id: str
    sentence: Words
    axis: Words
    places: tuple[Place, ...]
    literature: tuple[Source, ...]
    why: Words

    def checks(self) -> Iterator[Check]:
        """Yield every check."""
        for place in self.places:
            yield from place.checks
