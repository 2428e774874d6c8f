"""Every claim of a study, told from its runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from qkvlab.claims.answer import Answer, answer
from qkvlab.claims.catalogue import catalogue
from qkvlab.claims.check import Check, Key
from qkvlab.claims.registered import Registered, registered
from qkvlab.claims.telling import Evidence, Told, tell
from qkvlab.evidence import Outcome, Rule


class Known(Protocol):
    """What a study knows of its runs."""

    @property
    def registration(self) -> Mapping[str, Any]:
        """The registration of the study."""
        ...

    def values(self, key: Key, name: str, metric: str) -> list[Outcome] | None:
        """Return a design's outcomes on the finished prefix of the judged seeds; None where runs lack the metric."""
        ...

    def barred(self, key: Key) -> bool:
        """Whether QKV missed the bar, so that nothing is judged."""
        ...

    def seconds(self, key: Key, name: str) -> float:
        """Return the mean seconds of a run; NaN without any."""
        ...


def answered(known: Known) -> list[tuple[Registered, Answer]]:
    """Answer every registered check."""
    return [(asked, _answer(known, asked.check)) for asked in registered(known.registration)]


def told(known: Known) -> list[Told]:
    """Tell every claim of this version of the package from a study's registered checks."""
    found: dict[str, dict[tuple[str, str], Evidence]] = {name: {} for name in catalogue()}
    for asked, said in answered(known):
        found.setdefault(asked.claim, {})[asked.place, asked.check.id] = Evidence(asked.check, said)
    return [tell(claim, found[claim.id]) for claim in catalogue().values()]


def _answer(known: Known, check: Check) -> Answer:
    registration = known.registration
    first = check.terms[0].key
    delta = next(s["delta"] for s in registration["tasks"] if (s["task"], s["setting"]) == first)
    rule = Rule(delta=delta, alpha=registration["claims"]["alpha_each"], bets=tuple(registration["bets"]))
    found = answer(check, known.values, rule, barred=any(known.barred(key) for key, _ in check.arms()))
    if found.more is None:
        return found
    seconds = math.fsum(known.seconds(key, design) for key, design in check.arms())
    return found if math.isnan(seconds) else replace(found, minutes=found.more * seconds / 60)
