"""From what a study knows to the answers of its checks, and from those to every claim."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from qkvlab.claims.answer import Answer, answer
from qkvlab.claims.catalogue import catalogue
from qkvlab.claims.check import Check, Key
from qkvlab.claims.recorded import is_recorded, recorded
from qkvlab.claims.registered import Registered
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


class Answered(Protocol):
    """A study whose registered checks are answered."""

    def answers(self) -> Iterable[tuple[Registered, Answer]]:
        """Return every registered check with its answer so far."""
        ...


def answered(known: Known, check: Check) -> Answer:
    """Answer a registered check from what is known."""
    registration = known.registration
    deltas = {(s["task"], s["setting"]): s["delta"] for s in registration["tasks"]}
    # delta and gate serve the floor alone; a check without one never reads them
    delta = deltas[check.floor] if check.floor else 1.0
    rule = Rule(delta=delta, alpha=registration["claims"]["alpha_each"], bets=tuple(registration["bets"]))
    arms = {arm for arm in check.arms() if not is_recorded(arm[0])}

    def runs(key: Key, design: str, metric: str) -> Sequence[Outcome] | None:
        return recorded(key[1], metric) if is_recorded(key) else known.values(key, design, metric)

    found = answer(check, runs, rule, barred=any(known.barred(key) for key, _ in arms))
    if found.more is None or not arms:
        return found
    seconds = math.fsum(known.seconds(*arm) for arm in arms)
    return found if math.isnan(seconds) else replace(found, minutes=found.more * seconds / 60)


def told(study: Answered) -> list[Told]:
    """Tell every claim of this version of the package from a study's registered checks."""
    found: dict[str, dict[tuple[str, str], Evidence]] = {name: {} for name in catalogue()}
    for asked, said in study.answers():
        found[asked.claim][asked.place, asked.check.id] = Evidence(asked.check, said)
    return [tell(claim, found[claim.id]) for claim in catalogue().values()]
