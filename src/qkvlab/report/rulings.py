"""Claims as reports tell them: the sign and colour of each ruling, and a claim in one line."""

from __future__ import annotations

from collections.abc import Iterable

from qkvlab.claims import RULINGS, Told
from qkvlab.claims.telling import Ruling
from qkvlab.contracts import Words

RULING_SIGNS: dict[Ruling, str] = {"supported": "✓", "refuted": "✗", "depends": "±", "undecided": "?"}
RULING_STYLES: dict[Ruling, str] = {
    "supported": "equivalent",
    "refuted": "worse",
    "depends": "better",
    "undecided": "undecided",
}
SAYS_STYLES = {"yes": "equivalent", "no": "worse", "open": "undecided"}
"""Colour classes; colour never stands without a sign or a word."""


def tried(told: Iterable[Told]) -> list[Told]:
    """Return the claims that a study tries in one place at least."""
    return [each for each in told if any(place.state != "absent" for place in each.places)]


def verdict_words(told: Told) -> Words:
    """Say the ruling, and what it depends on."""
    word = RULINGS[told.verdict]
    if not told.on.en:
        return word
    return Words(f"{word.zh}：{told.on.zh}", f"{word.en} on {told.on.en}")


def in_brief(told: Told) -> Words:
    """Say a claim in one line: a place where it holds and one where it fails, or what keeps it open."""
    firsts = [next((p.text for p in told.places if p.state == state), None) for state in ("holds", "fails")]
    known = [text for text in firsts if text is not None]
    if told.verdict == "undecided":
        known = [_still_open(told)]
    return Words("".join(each.zh for each in known), " ".join(each.en for each in known))


def _still_open(told: Told) -> Words:
    waiting = [(place, each) for place in told.places for each in place.evidence if each.answer.says == "open"]
    if not waiting:
        return Words("这项研究没有试它", "not tried by this study")
    place, each = waiting[0]
    more = len({id(place) for place, _ in waiting}) - 1
    zh, en = f"{place.words.zh}：{each.obstacle.zh}", f"{place.words.en}: {each.obstacle.en}"
    if not more:
        return Words(zh, en)
    return Words(f"{zh}；另有 {more} 处未定", f"{en}; {more} more place{'s' * (more > 1)} open")
