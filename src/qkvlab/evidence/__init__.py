"""Evidence: from the paired losses of two designs to a verdict that holds however often one looks.

Reading order: ``differences`` pairs the runs, ``betting`` puts an interval around their mean, ``floor`` asks
whether the task tells anything apart, ``verdict`` says what follows, ``budget`` tells the price beforehand.
Numbers in, numbers out: nothing here knows of files, models or PyTorch.
"""

from __future__ import annotations

from qkvlab.evidence.betting import DEFAULT_BETS, Intervals, intervals, wealth_down, wealth_up
from qkvlab.evidence.budget import MOST, looks_needed, seeds_needed
from qkvlab.evidence.differences import Differences, Outcome, leading, paired, prefix
from qkvlab.evidence.floor import Floor, beats_floor
from qkvlab.evidence.proportion import Rate, rate
from qkvlab.evidence.rule import Rule
from qkvlab.evidence.verdict import Reason, Verdict, Word, decide, not_counted

__all__ = [
    "DEFAULT_BETS",
    "MOST",
    "Differences",
    "Floor",
    "Intervals",
    "Outcome",
    "Rate",
    "Reason",
    "Rule",
    "Verdict",
    "Word",
    "beats_floor",
    "decide",
    "intervals",
    "leading",
    "looks_needed",
    "not_counted",
    "paired",
    "prefix",
    "rate",
    "seeds_needed",
    "wealth_down",
    "wealth_up",
]
