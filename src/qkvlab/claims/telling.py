"""What is told of a claim: verdict, evidence, obstacles and the plain answer, all by rule from the answers.

One rule for every claim. A place holds if all its checks say yes and fails if one says no. A claim is supported if it
holds in every place that the study looked at, refuted if it fails in all of them, and depends on its axis if it holds
in one and fails in another; otherwise it is undecided.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from qkvlab.claims.answer import Answer
from qkvlab.claims.check import Check
from qkvlab.claims.claim import Claim, Place, Source
from qkvlab.claims.wording import OPENINGS, legend, obstacle_words, values
from qkvlab.contracts import Words

State = Literal["holds", "fails", "open", "absent"]
Ruling = Literal["supported", "refuted", "depends", "undecided"]


@dataclass(frozen=True)
class Evidence:
    """A check with its answer."""

    check: Check
    answer: Answer

    @property
    def obstacle(self) -> Words:
        """What is in the way of an answer; empty for a yes or a no."""
        return obstacle_words(self.answer)


@dataclass(frozen=True)
class ToldPlace:
    """A place with what was found there.

    Attributes:
        id: as in `Place`.
        words: as in `Place`.
        state: ``absent`` if the study does not have its settings or designs.
        evidence: its checks with their answers; none where absent.
        text: the sentence of the place if it holds or fails, with its numbers; empty otherwise.
    """

    id: str
    words: Words
    state: State
    evidence: tuple[Evidence, ...]
    text: Words


@dataclass(frozen=True)
class Told:
    """A claim with everything there is to say about it.

    Attributes:
        number: as in `Claim`.
        id: as in `Claim`.
        sentence: as in `Claim`.
        verdict: the ruling.
        on: what it depends on; empty for other rulings.
        places: every place, in order.
        literature: as in `Claim`.
        answer: how to answer in an interview.
        obstacle: what keeps open places open; empty where none is.
    """

    number: int
    id: str
    sentence: Words
    verdict: Ruling
    on: Words
    places: tuple[ToldPlace, ...]
    literature: tuple[Source, ...]
    answer: Words
    obstacle: Words


def tell(claim: Claim, found: Mapping[tuple[str, str], Evidence]) -> Told:
    """Tell a claim from the evidence of its registered checks, by (place, check)."""
    places = tuple(_place(place, found) for place in claim.places)
    verdict = ruling([place.state for place in places])
    on = claim.axis if verdict == "depends" else Words("", "")
    return Told(
        number=claim.number,
        id=claim.id,
        sentence=claim.sentence,
        verdict=verdict,
        on=on,
        places=places,
        literature=claim.literature,
        answer=_answer(claim, verdict, places),
        obstacle=_obstacles(places),
    )


def ruling(states: Sequence[State]) -> Ruling:
    """Combine the places.

    >>> ruling(["holds", "fails", "open"]), ruling(["holds", "open"]), ruling(["holds", "absent"])
    ('depends', 'undecided', 'supported')
    """
    seen = set(states) - {"absent"}
    if seen >= {"holds", "fails"}:
        return "depends"
    if seen == {"holds"}:
        return "supported"
    if seen == {"fails"}:
        return "refuted"
    return "undecided"


def _place(place: Place, found: Mapping[tuple[str, str], Evidence]) -> ToldPlace:
    if not all((place.id, check.id) in found for check in place.checks):
        return ToldPlace(place.id, place.words, "absent", (), Words("", ""))
    evidence = tuple(found[place.id, check.id] for check in place.checks)
    says = {each.answer.says for each in evidence}
    state: State = "fails" if "no" in says else "open" if "open" in says else "holds"
    return ToldPlace(place.id, place.words, state, evidence, _text(place, state, evidence))


def _text(place: Place, state: State, evidence: Sequence[Evidence]) -> Words:
    follows = _follows(place, state)
    if follows is None:
        return Words("", "")
    what, numbers = legend([each.check for each in _decisive(state, evidence)]), _numbers(state, evidence)
    return Words(
        f"{place.words.zh}：{follows.zh}（{what.zh}：{numbers.zh}）。",
        f"{_sentence(place.words.en)}: {follows.en} ({what.en}: {numbers.en}).",
    )


def _decisive(state: State, evidence: Sequence[Evidence]) -> list[Evidence]:
    """Return the checks to cite: all where the claim holds, those that say no where it fails."""
    return [each for each in evidence if state == "holds" or each.answer.says == "no"]


def _numbers(state: State, evidence: Sequence[Evidence]) -> Words:
    cited = [values(each.check, each.answer) for each in _decisive(state, evidence)]
    return Words("，".join(n.zh for n in cited), ", ".join(n.en for n in cited))


def _follows(place: Place, state: State) -> Words | None:
    return place.holds if state == "holds" else place.fails if state == "fails" else None


def _answer(claim: Claim, verdict: Ruling, told: Sequence[ToldPlace]) -> Words:
    """Compose the interview answer: the ruling, the reason, and what was found, grouped by what follows from it."""
    groups: dict[tuple[Words, Words], list[ToldPlace]] = {}
    for place, found in zip(claim.places, told, strict=True):
        follows = _follows(place, found.state)
        if follows is not None:
            what = legend([each.check for each in _decisive(found.state, found.evidence)])
            groups.setdefault((follows, what), []).append(found)
    zh = [OPENINGS[verdict].zh.format(axis=claim.axis.zh), claim.why.zh]
    en = [OPENINGS[verdict].en.format(axis=claim.axis.en), claim.why.en]
    for (follows, what), places in groups.items():
        zh.append(f"{follows.zh}（{what.zh}）：{'；'.join(_cited(p).zh for p in places)}。")
        en.append(f"{_sentence(follows.en)} ({what.en}): {'; '.join(_cited(p).en for p in places)}.")
    for state, opening in (
        ("open", Words("还没有定论", "Still open")),
        ("absent", Words("这里没有试", "Not tried here")),
    ):
        named = [place.words for place in told if place.state == state]
        if named and len(named) < len(told):
            zh.append(f"{opening.zh}：{'；'.join(w.zh for w in named)}。")
            en.append(f"{opening.en}: {'; '.join(w.en for w in named)}.")
    return Words("".join(zh), " ".join(en))


def _cited(place: ToldPlace) -> Words:
    numbers = _numbers(place.state, place.evidence)
    return Words(f"{place.words.zh} {numbers.zh}", f"{place.words.en} {numbers.en}")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _obstacles(places: Sequence[ToldPlace]) -> Words:
    if all(place.state == "absent" for place in places):
        return Words("这项研究没有它需要的设置或设计", "this study has none of the settings and designs it needs")
    lines = [
        Words(f"{place.words.zh}：{each.obstacle.zh}", f"{place.words.en}: {each.obstacle.en}")
        for place in places
        if place.state == "open"
        for each in place.evidence
        if each.answer.says == "open"
    ]
    lines = list(dict.fromkeys(lines))
    return Words("；".join(w.zh for w in lines), "; ".join(w.en for w in lines))
