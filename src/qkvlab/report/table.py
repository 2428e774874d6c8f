"""`results.csv`: every number of every finished cell, one row each."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

from qkvlab.study.decisions import Findings

COLUMNS = (
    "task", "setting", "design", "role", "seed", "lr", "metric", "value", "diverged", "params", "steps", "seconds",
)  # fmt: skip


def results_csv(findings: Findings) -> str:
    """Return the table, ordered by cell; a run that was never measured has one row with ``nan``."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for cell, run in sorted(findings.results.items()):
        facts = findings.settings[cell.task, cell.setting]
        for metric, value in sorted((run.metrics or {facts["metric"]: math.nan}).items()):
            row: tuple[Any, ...] = (
                cell.task, cell.setting, cell.design, cell.role, cell.seed, cell.lr, metric, value,
                str(run.diverged).lower(), facts["arms"][cell.design]["params"], run.steps, run.seconds,
            )  # fmt: skip
            writer.writerow([_harmless(field) if isinstance(field, str) else field for field in row])
    return file.getvalue()


def _harmless(field: str) -> str:
    # a spreadsheet runs what begins like a formula; after an apostrophe it is text
    return f"'{field}" if field.startswith(("=", "+", "-", "@", "\t", "\r")) else field
