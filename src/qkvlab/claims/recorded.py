"""Numbers that no study makes: recorded pairs of a benchmark, read as if each pair were a seed.

They were measured before the study and say the same in each one; a check of them shares the alpha all the same.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources

from qkvlab.claims.check import Key
from qkvlab.evidence import Outcome

BENCHMARK = "benchmark"
"""The task of a term whose setting names a file in ``measured`` and whose metric a list in it."""


def is_recorded(key: Key) -> bool:
    """Whether numbers of this (task, setting) are recorded ones."""
    return key[0] == BENCHMARK


@cache
def recorded(setting: str, metric: str) -> tuple[Outcome, ...]:
    """Return the recorded numbers, in the order in which they were measured."""
    text = resources.files("qkvlab.claims").joinpath("measured", f"{setting}.json").read_text("utf-8")
    return tuple(Outcome(value) for value in json.loads(text)[metric])
