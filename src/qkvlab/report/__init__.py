"""Reports: what a study found, told to people (a page in two languages) and to programs (CSV, JSON, SVG)."""

from __future__ import annotations

from qkvlab.report.budget import Budget, brief, budgets
from qkvlab.report.gather import look
from qkvlab.report.gist import short_answer
from qkvlab.report.titles import title
from qkvlab.report.view import Study
from qkvlab.report.wording import SYMBOLS, VERDICTS, explain, label, metric_words
from qkvlab.report.write import Written, write

__all__ = [
    "SYMBOLS",
    "VERDICTS",
    "Budget",
    "Study",
    "Written",
    "brief",
    "budgets",
    "explain",
    "label",
    "look",
    "metric_words",
    "short_answer",
    "title",
    "write",
]
