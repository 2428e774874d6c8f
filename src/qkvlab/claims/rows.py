"""Told claims as plain JSON data, and back: what `verdicts.json` holds is all that a reader needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qkvlab.claims.answer import Answer
from qkvlab.claims.check import Check
from qkvlab.claims.claim import Source
from qkvlab.claims.telling import Evidence, Told, ToldPlace
from qkvlab.contracts import Words


def to_row(told: Told) -> dict[str, Any]:
    """Return plain JSON data."""
    return {
        "number": told.number,
        "id": told.id,
        "sentence": vars(told.sentence),
        "verdict": told.verdict,
        "depends_on": vars(told.on),
        "answer": vars(told.answer),
        "obstacle": vars(told.obstacle),
        "places": [
            {
                "id": place.id,
                "words": vars(place.words),
                "state": place.state,
                "text": vars(place.text),
                "checks": [{**each.check.row(), "answer": each.answer.row()} for each in place.evidence],
            }
            for place in told.places
        ],
        "literature": [{"side": s.side, "where": s.where, "words": vars(s.words)} for s in told.literature],
    }


def from_row(row: Mapping[str, Any]) -> Told:
    """Return what was told."""
    return Told(
        number=row["number"],
        id=row["id"],
        sentence=Words(**row["sentence"]),
        verdict=row["verdict"],
        on=Words(**row["depends_on"]),
        places=tuple(
            ToldPlace(
                place["id"],
                Words(**place["words"]),
                place["state"],
                tuple(_evidence(check) for check in place["checks"]),
                Words(**place["text"]),
            )
            for place in row["places"]
        ),
        literature=tuple(Source(s["side"], s["where"], Words(**s["words"])) for s in row["literature"]),
        answer=Words(**row["answer"]),
        obstacle=Words(**row["obstacle"]),
    )


def _evidence(row: Mapping[str, Any]) -> Evidence:
    return Evidence(Check.read({k: v for k, v in row.items() if k != "answer"}), Answer.read(row["answer"]))
