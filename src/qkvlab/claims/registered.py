"""Which checks a study registers: those of the places whose settings and designs it has, at one shared alpha."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from qkvlab.claims.catalogue import catalogue
from qkvlab.claims.check import Check, Key
from qkvlab.claims.claim import Claim, Place
from qkvlab.claims.recorded import is_recorded


@dataclass(frozen=True)
class Registered:
    """One check of a registration, in units of its metric."""

    claim: str
    place: str
    check: Check


def register(
    settings: Iterable[Mapping[str, Any]], alpha: float, claims: Iterable[Claim] | None = None
) -> dict[str, Any]:
    """Write the checks of a study down as plain JSON data.

    A place is registered whole or not at all, and so is a claim of which the study has less than half of the places:
    too little to say anything of the sentence would only spend error rate.

    Args:
        settings: the registered settings: task, setting, delta and arms of each.
        alpha: chance of any wrong answer among all checks.
        claims: all unless given.
    """
    deltas = {(row["task"], row["setting"]): row["delta"] for row in settings}
    arms = {((row["task"], row["setting"]), name) for row in settings for name in row["arms"]}
    rows = [
        # words are no part of a promise: they may be mended while a study runs
        {"claim": claim.id, "place": place.id, **_without("words", check.at(deltas.get(check.terms[0].key, 1)).row())}
        for claim in (catalogue().values() if claims is None else claims)
        for place in _within(claim, arms)
        for check in place.checks
    ]
    return {"alpha": alpha, "alpha_each": alpha / max(1, len(rows)), "checks": rows}


def registered(registration: Mapping[str, Any]) -> list[Registered]:
    """Return the checks of a study's registration that this version of the package can tell of."""
    rows = registration.get("claims", {}).get("checks", ())
    words = {
        (claim.id, place.id, check.id): check.words
        for claim in catalogue().values()
        for place in claim.places
        for check in place.checks
    }
    found = []
    for row in rows:
        name = (row["claim"], row["place"], row["id"])
        if name in words:
            asked = _without("place", _without("claim", row))
            found.append(Registered(*name[:2], Check.read({**asked, "words": vars(words[name])})))
    return found


def _within(claim: Claim, arms: set[tuple[Key, str]]) -> list[Place]:
    """Return the places that a study with these arms can decide; none if they are fewer than half of the claim's."""
    needed = {place.id: {arm for check in place.checks for arm in check.arms()} for place in claim.places}
    found = [place for place in claim.places if all(arm in arms or is_recorded(arm[0]) for arm in needed[place.id])]
    return found if 2 * len(found) >= len(claim.places) else []


def _without(name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != name}
