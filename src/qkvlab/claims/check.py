"""A check: one yes-or-no question to the judged runs of a study, stated in code before the study begins.

It asks on which side of a threshold the mean of a number lies that every seed gives once: a sum of measured
numbers with weights, such as the error of QQV minus that of QKV, or (with ``of``) such a sum as a share of another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self

from qkvlab.contracts import Words

Key = tuple[str, str]
"""(task, setting)"""
BASELINE = "QKV"
FLOOR = "uniform"
LOSSES = ("error", "nats")
"""Metrics of which less is better begin so; a run that diverged counts as the worst of these."""


@dataclass(frozen=True)
class Term:
    """One measured number with its weight.

    Attributes:
        weight: factor in the sum.
        task: name of a task.
        setting: one of its settings.
        design: whose runs.
        metric: which of their numbers.
    """

    weight: float
    task: str
    setting: str
    design: str
    metric: str

    @property
    def key(self) -> Key:
        """(task, setting)."""
        return self.task, self.setting

    @property
    def is_loss(self) -> bool:
        """Whether less of it is better."""
        return self.metric.startswith(LOSSES)


@dataclass(frozen=True, kw_only=True)
class Check:
    """One question.

    Attributes:
        id: unique in its claim; a Python name, so that texts can quote the answer's numbers.
        words: what is measured.
        terms: their sum is the number of a seed.
        of: where not empty, the number is the share of this second sum that the first one makes.
        asks: the side of the threshold that is a yes.
        threshold: in units of the metric, or in deltas of the first term's task as long as `in_deltas` holds.
        centre: middle of the range into which the numbers are clipped.
        clip: half of that range.
        in_deltas: whether threshold and clip are in deltas; a registration holds plain numbers.
        floor: where set, a yes counts only if QKV beats `uniform` there: two designs that learned nothing are no
            finding.
    """

    id: str
    words: Words
    terms: tuple[Term, ...] = ()
    of: tuple[Term, ...] = ()
    asks: Literal["above", "below"] = "above"
    threshold: float = 1.0
    centre: float = 0.0
    clip: float = 4.0
    in_deltas: bool = True
    floor: Key | None = None

    @property
    def is_loss(self) -> bool:
        """Whether less of the numbers is better, so that a diverged run counts as the worst."""
        return all(term.is_loss for term in self.terms)

    def arms(self) -> set[tuple[Key, str]]:
        """Return every (setting, design) whose runs are needed."""
        own = {(term.key, term.design) for term in (*self.terms, *self.of)}
        return own | {(self.floor, name) for name in (BASELINE, FLOOR) if self.floor}

    def at(self, delta: float) -> Self:
        """Return the check in units of the metric."""
        if not self.in_deltas:
            return self
        # a share of a sum has no unit, so its threshold stays
        threshold = self.threshold if self.of else self.threshold * delta
        return replace(self, threshold=threshold, clip=self.clip * delta, in_deltas=False)

    def row(self) -> dict[str, Any]:
        """Return plain JSON data."""
        row = asdict(self)
        return {**row, "terms": list(row["terms"]), "of": list(row["of"]), "floor": self.floor and list(self.floor)}

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> Self:
        """Return the check of a `row`."""
        return cls(
            **{
                **row,
                "words": Words(**row["words"]),
                "terms": tuple(Term(**term) for term in row["terms"]),
                "of": tuple(Term(**term) for term in row["of"]),
                "floor": tuple(row["floor"]) if row["floor"] else None,
            }
        )


def difference(key: Key, design: str, than: str, metric: str) -> tuple[Term, ...]:
    """Return the terms of one design minus another in one setting."""
    return Term(1.0, *key, design, metric), Term(-1.0, *key, than, metric)
