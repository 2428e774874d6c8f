"""Who does what to whom, read off a sentence by rule: the oracle of `sentence`, and what marks an answer as right.

The parser knows the grammar and not how sentences are drawn; the bag reader knows only what verbs take.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

from qkvlab.tasks.lexicon import load

_LETTERS = {"noun": "N", "verb": "V", "joiner": "J", "把": "B", "被": "P", "，": "C"}
_CLAUSES = {"NVN": (0, 1, 2), "NBNV": (0, 3, 2), "NPNV": (2, 3, 0), "NCNV": (2, 3, 0)}
"""Nouns, verbs and markers of a clause, and where its subject, verb and object stand among them."""
_SHORT = {"VN": (None, 0, 1), "BNV": (None, 2, 1)}
"""Clauses without a subject of their own, which may follow those of `_LENDS`."""
_LENDS = ("NVN", "NBNV")


@dataclass(frozen=True)
class Clause:
    """One verb with the places of its nouns in the sentence."""

    verb: int
    subject: int
    object: int


def parse(tokens: Sequence[int]) -> list[Clause] | None:
    """Read a sentence; None when it is none of this grammar.

    Args:
        tokens: numbers of words, without padding.

    >>> lexicon = load()
    >>> parse([lexicon.number(zh) for zh in ("书", "被", "我", "丢", "了")])
    [Clause(verb=3, subject=2, object=0)]
    """
    places, letters = _skeleton(tokens)
    for first, roles in _CLAUSES.items():
        if letters == first:
            return [_clause(roles, places, 0)]
        seconds = _CLAUSES | _SHORT if first in _LENDS else _CLAUSES
        found = re.fullmatch(f"{first}[CJ]({'|'.join(seconds)})", letters)
        if found:
            one = _clause(roles, places, 0)
            return [one, _clause(seconds[found[1]], places, found.start(1), one.subject)]
    return None


def bag_readings(tokens: Sequence[int]) -> list[dict[int, tuple[int, int]]]:
    """List every way in which verbs can have got their nouns when order says nothing: verb -> (subject, object).

    All are numbers of words. A subject is a person; two verbs have one each or share one; every noun has a part.
    """
    words = load().words
    verbs = [t for t in tokens if words[t].kind == "verb"]
    nouns = [t for t in tokens if words[t].kind == "noun"]
    found = []
    for order in permutations(nouns):
        subjects, objects = order[: len(nouns) - len(verbs)], order[len(nouns) - len(verbs) :]
        if len(subjects) not in {1, len(verbs)}:
            continue
        pairs = list(zip(subjects * (len(verbs) // len(subjects)), objects, strict=True))
        fits = all(
            words[subject].sort == "person" and words[thing].sort in words[verb].takes
            for verb, (subject, thing) in zip(verbs, pairs, strict=True)
        )
        if fits:
            found.append(dict(zip(verbs, pairs, strict=True)))
    return found


def _skeleton(tokens: Sequence[int]) -> tuple[list[int], str]:
    words = load().words
    letters = [_LETTERS.get(words[t].kind) or _LETTERS.get(words[t].zh) for t in tokens]
    kept = [(place, letter) for place, letter in enumerate(letters) if letter]
    return [place for place, _ in kept], "".join(letter for _, letter in kept)


def _clause(
    roles: tuple[int | None, int, int], places: Sequence[int], start: int, subject: int | None = None
) -> Clause:
    own, verb, thing = roles
    doer = places[start + own] if own is not None else subject
    assert doer is not None, "a clause without a subject follows one that has one"
    return Clause(places[start + verb], doer, places[start + thing])
