"""The recorded study that ships with the package: its verdicts, and the trained models that `qkvlab ask` runs.

The files beside this one are copied from a finished study by ``benchmarks/publish.py``.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

_FAMILY = {
    "better": {"better"},
    "better, by less than delta": {"better", "equivalent"},
    "equivalent": {"equivalent"},
    "worse, by less than delta": {"worse", "equivalent"},
    "worse": {"worse"},
    "nothing to compare": {"nothing to compare"},
}


def folder() -> Path:
    """Return where the recorded files lie."""
    return Path(str(resources.files(__name__)))


@cache
def recorded(recipe: str) -> dict[str, Any] | None:
    """Return the recorded ``verdicts.json`` of a recipe, None when none ships."""
    path = folder() / f"{recipe}.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def trained() -> dict[tuple[str, str, str], dict[str, Any]]:
    """Return what trainings of recorded studies took, by (task, setting, design).

    Each row says how many rates were tried, how many seeds were judged at which alpha, and the mean seconds.
    """
    found = {}
    for path in sorted(folder().glob("*.json")):
        document = recorded(path.stem) or {}
        origin = document.get("origin", {})
        for row in origin.get("trained", ()):
            each = {"alpha": origin["alpha"] / origin["comparisons"], **row}
            found[row["task"], row["setting"], row["design"]] = each
    return found


def agreement(document: dict[str, Any]) -> tuple[int, list[str]] | None:
    """Hold a study's verdicts against the record's.

    Two verdicts agree when one world allows both: "worse, by less than delta" agrees with "worse" and with
    "equivalent". Only comparisons that both have decided are counted, and of those only the same question: the same
    baseline, metric, delta and facts of the setting. A text of one's own is another question; the precision of products
    is not, since it is left open only where verdicts are known to stay as they are.

    Returns:
        How many were compared and a line for each that disagrees; None when there is nothing to compare.
    """
    record = recorded(document["origin"]["recipe"])
    if record is None:
        return None
    known = {_key(row): row for row in record["comparisons"]}
    pairs = [(row, known[_key(row)]) for row in document["comparisons"] if _key(row) in known]
    pairs = [(mine, theirs) for mine, theirs in pairs if mine["verdict"] in _FAMILY and theirs["verdict"] in _FAMILY]
    if not pairs:
        return None
    against = [
        f"{mine['task']} {mine['setting']} {mine['design']}: {mine['verdict']} here, {theirs['verdict']} in the record"
        for mine, theirs in pairs
        if not _FAMILY[mine["verdict"]] & _FAMILY[theirs["verdict"]]
    ]
    return len(pairs), against


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[k] for k in ("task", "setting", "design", "baseline", "metric", "delta", "facts"))
