"""What is run and what comes back: a cell is one training run, a result is its record."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from qkvlab.training.halving import STOPPED

Role = Literal["tune", "judge"]


@dataclass(frozen=True, order=True)
class Cell:
    """One training run: design x task and setting x learning rate x seed, and what it is for.

    Tuning cells choose the learning rate and are never judged; judging cells use other seeds.
    """

    task: str
    setting: str
    design: str
    role: Role
    seed: int
    lr: float


@dataclass(frozen=True)
class Result:
    """The record of one finished cell.

    Attributes:
        cell: what was run.
        metrics: every number measured on held-out data; the judged one is among them. May hold NaN. Of a training
            that was stopped there is only its loss.
        diverged: the loss or a weight stopped being finite.
        losses: training loss at evenly spaced steps (their count is the task's, not the run's length).
        steps: optimiser steps taken.
        seconds: wall time of the batch divided by its models.
        group: how many models were trained in the same batch.
        device: such as ``cpu``.
        versions: of qkvlab, python, torch, numpy.
        source: hash of the source that defines the numbers (designs, attention, models, tasks, training).
    """

    cell: Cell
    metrics: dict[str, float]
    diverged: bool
    losses: tuple[float, ...]
    steps: int
    seconds: float
    group: int
    device: str
    versions: dict[str, str] = field(default_factory=dict)
    source: str = ""

    def judged(self, metric: str) -> float:
        """Return the judged metric, NaN when the run diverged before it could be measured."""
        return self.metrics.get(metric, math.nan)

    @property
    def stopped(self) -> bool:
        """Whether it was stopped in tuning, since its rate could not be chosen any more."""
        return STOPPED in self.metrics
