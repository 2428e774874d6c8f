"""What can be a result of a registered study: a planned cell, by its code, trained as far as was registered."""

from __future__ import annotations

import math
from typing import Any

from qkvlab.study.cells import Result

UNKNOWN_CELL = "unknown cell"
OLDER_CODE = "older code"
UNEQUAL_BUDGET = "unequal budget"


def objection(result: Result, registration: dict[str, Any]) -> str | None:
    """Say why a result cannot belong to a study, whatever else is stored; None where it can."""
    cell = result.cell
    setting = next(
        (
            each
            for each in registration["tasks"]
            if (cell.task, cell.setting) == (each["task"], each["setting"]) and cell.design in each["arms"]
        ),
        None,
    )
    if setting is None or cell.seed not in registration["seeds"].get(cell.role, ()) or not math.isfinite(cell.lr):
        return UNKNOWN_CELL
    if result.source != registration["source"]:
        return OLDER_CODE
    return None if _of_equal_budget(result, setting, registration) else UNEQUAL_BUDGET


def _of_equal_budget(result: Result, setting: dict[str, Any], registration: dict[str, Any]) -> bool:
    """Say whether all registered steps were taken, or fewer in tuning where the registered rule stops rates.

    Registrations of before there was such a rule name no steps.
    """
    steps = setting.get("steps", result.steps)
    if result.stopped:
        return result.cell.role == "tune" and "halving" in registration.get("tuning", {}) and result.steps < steps
    return result.steps == steps
