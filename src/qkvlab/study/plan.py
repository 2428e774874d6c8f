"""What a study will take before it is run: trainings, FLOPs, time and memory, here and on a card that is not here.

Cells follow from the registration and from what is stored. FLOPs follow from the designs and the tasks' sizes. Time is
the layout's measured rate, carried over to other designs and settings by their work, and what compiled steps gain where
the study would compile; what a recorded study took stands beside it. Memory is that of the largest group.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from qkvlab import designs
from qkvlab.designs import Design
from qkvlab.study.decisions import Findings, Key
from qkvlab.study.forecast import NONE, Cells, Known, Share, judging, staying, tuning
from qkvlab.study.precision import settled
from qkvlab.study.programs import Programs
from qkvlab.study.registration import register
from qkvlab.study.schedule import open_cells
from qkvlab.study.spec import Spec
from qkvlab.study.store import Store
from qkvlab.tasks.network import Network
from qkvlab.training import effort, memory, trial
from qkvlab.training import layout as layouts
from qkvlab.training import place as places
from qkvlab.training.effort import Gpu, Pace
from qkvlab.training.layout import Compiled, Layout
from qkvlab.training.memory import Memory
from qkvlab.training.place import Place
from qkvlab.training.trial import Trial
from qkvlab.training.workers import Order

WIDER, LONGER = (2, 4), (2, 4, 16)
"""How many times the width and the tokens of the larger studies whose price is shown."""


@dataclass(frozen=True)
class Arm:
    """One design in one setting.

    Attributes:
        key: (task, setting).
        design: of its models.
        network: sizes of its models.
        steps: optimiser steps of a training.
        tune: trainings that choose its rate.
        judge: trainings that are judged.
        share: of its steps that a training takes which chooses a rate.
        left: trainings of both kinds by whose number a study tells whether compiling pays.
        recorded: seconds of a worker for one training in the record; None where there is none.
    """

    key: Key
    design: Design
    network: Network
    steps: int
    tune: Cells
    judge: Cells
    share: Share
    left: int
    recorded: float | None

    @property
    def cells(self) -> Cells:
        """Both together."""
        return self.tune + self.judge

    def whole(self, bound: str) -> float:
        """Return how many whole trainings the steps of all are worth: ``least``, ``expected`` or ``most``."""
        return getattr(self.tune, bound) * getattr(self.share, bound) + getattr(self.judge, bound)

    @property
    def flops(self) -> int:
        """Of one training: forward and backward of all steps, matrix products only."""
        return self.steps * self.network.step(self.design).both


@dataclass(frozen=True)
class Measured:
    """What trials of this machine found for a task.

    Attributes:
        layout: processes, threads, models at once, and their rate.
        trial: what a worker takes before and beside its steps.
        pace: of one worker, from both.
    """

    layout: Layout
    trial: Trial
    pace: Pace


@dataclass(frozen=True)
class Plan:
    """A study as it is foreseen.

    Attributes:
        findings: what is registered and known.
        arms: every design of every setting, in the order in which they run.
        measured: what trials found, by task.
        parent: bytes of the process that leads the workers.
        limit: seconds that a call of the study may take.
        text: a file that tasks read instead of their own data.
    """

    findings: Findings
    arms: tuple[Arm, ...]
    measured: Mapping[str, Measured]
    parent: int
    limit: float
    text: Path | None = None

    def of(self, key: Key) -> list[Arm]:
        """Return the arms of a setting."""
        return [arm for arm in self.arms if arm.key == key]

    def seconds(self, arm: Arm, network: Network | None = None) -> float:
        """Predict how long one training keeps this machine busy, all workers at work; at other sizes if given.

        What compiled steps gain is taken to be the same for all designs and sizes.
        """
        found, network, compiled = self.measured[arm.key[0]], network or arm.network, self.compiled(arm)
        models = found.layout.group
        beside = found.trial.beside * network.numbers / arm.network.numbers
        step = found.pace.step(network, arm.design, models) / models / (compiled.gain if compiled else 1)
        return (arm.steps * step + beside) / found.layout.processes

    @cached_property
    def _programs(self) -> Programs:
        """What the study would compile, asked as it asks: arm after arm."""
        programs = Programs(self.text)
        left = {(arm.key, arm.design.name): arm.left for arm in self.arms}
        for arm in self.arms:
            programs.of((arm.key, arm.design.name), self.measured[arm.key[0]].layout, left, self.limit)
        return programs

    @cached_property
    def _first(self) -> set[tuple[Key, str]]:
        """The first arm of each program."""
        ways = {each: self._programs.way(each) for each in self._programs.chosen}
        return set({way.program: each for each, way in reversed(ways.items()) if way is not None}.values())

    def compiled(self, arm: Arm) -> Compiled | None:
        """Return what compiled steps give where the study would compile those of an arm, by whose program it be."""
        layout, way = self.measured[arm.key[0]].layout, self._programs.way((arm.key, arm.design.name))
        if layout.compiled is None or way is None:
            return None
        return replace(layout.compiled, gain=layout.compiled.gain / way.slower)

    def compiling(self, arm: Arm, cells: int) -> float:
        """Predict how long compiling for so many trainings keeps this machine busy: one worker compiles.

        The others mostly want the same program and wait for it. What it takes is counted with the first arm that it
        serves.
        """
        compiled, layout = self.compiled(arm), self.measured[arm.key[0]].layout
        if compiled is None or (arm.key, arm.design.name) not in self._first:
            return 0.0
        return compiled.seconds * min(1.0, math.ceil(cells / layout.group) / layout.processes)

    def recorded(self, arm: Arm) -> float | None:
        """Return how long one training would take as in the record, with as many workers as here."""
        return None if arm.recorded is None else arm.recorded / self.measured[arm.key[0]].layout.processes

    def on(self, card: Gpu, arm: Arm) -> float:
        """Extrapolate how long one training would take on a card, data drawn and exams told beside it as here."""
        found, models = self.measured[arm.key[0]], max(layouts.CARD_GROUPS)
        beside = found.trial.beside / found.layout.processes
        return arm.steps * effort.seconds_on(card, arm.network, arm.design, models) + beside

    def worker(self, arm: Arm, network: Network | None = None) -> Memory:
        """Predict the peak memory of a worker that trains a full group of an arm, at other sizes if given."""
        found, tuning = self.measured[arm.key[0]], self.findings.tuning(arm.key)
        held = sum(cell.design == arm.design.name for cell in tuning.missing) if tuning.contested else 0
        sizes = {"group": found.layout.group, "base": found.trial.base, "held": held}
        return memory.of_worker(network or arm.network, arm.design, steps=arm.steps, **sizes)

    def largest(self, sizes: Callable[[Network], Network] = lambda network: network) -> Arm:
        """Return the arm that takes most memory."""
        return max(self.arms, key=lambda arm: self.worker(arm, sizes(arm.network)).total)

    def whole(self, arm: Arm, network: Network | None = None) -> int:
        """Predict the peak memory of all workers and of the process that leads them."""
        return self.parent + self.measured[arm.key[0]].layout.processes * self.worker(arm, network).total


def total(arms: list[Arm] | tuple[Arm, ...]) -> Cells:
    """Add the cells of arms."""
    return sum((arm.cells for arm in arms), NONE)


def foresee(
    spec: Spec,
    out: Path,
    *,
    device: str = "cpu",
    workers: int | None = None,
    ray: str | None = None,
    limit: float = math.inf,
    known: Known | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Plan:
    """Foresee a study, with what a store in ``out`` already holds taken off; trains nothing but short trials.

    Args:
        spec: what is asked.
        out: folder of the store, which need not be there.
        device: where it would be trained; this and the next two as in `qkvlab.study.run.run`.
        workers: how many groups at the same time.
        ray: address of a Ray cluster, on which the trial of the layout then runs.
        limit: seconds that a call of the study may take; by them, too, it tells whether compiling pays.
        known: what recorded studies took.
        tell: called with a line about what is being tried.

    Raises:
        BadInput: a device, number of workers or cluster that cannot be meant or is not there.
        StoreError: another study is registered in the folder, or its file cannot be read.
    """
    place = places.find(device, workers, ray)
    try:
        spec, known = settled(spec, out, place, limit, tell), known or {}
        findings = _known(register(spec), out)
        left = open_cells(findings)
        arms = tuple(arm for key in findings.settings for arm in _arms(spec, findings, key, known, left))
        measured = {
            task: _measure(spec, findings, [arm for arm in arms if arm.key[0] == task], place, limit, tell)
            for task in dict.fromkeys(arm.key[0] for arm in arms)
        }
    finally:
        place.close()
    return Plan(findings, arms, measured, memory.peak(), limit, spec.text)


def _known(registration: dict[str, Any], out: Path) -> Findings:
    if not Store.begun(out):
        return Findings(registration)
    with Store.read(out, registration) as store:
        return Findings(registration, store.results())


def _arms(spec: Spec, findings: Findings, key: Key, known: Known, left: Mapping[tuple[Key, str], int]) -> list[Arm]:
    task, tune, judge = spec.task(key[0]), tuning(findings, key, known), judging(findings, key, known)
    steps, share = task.steps(key[1]), staying(findings, key)
    found = []
    for name in findings.designs(key):
        design = designs.parse(name)
        row = known.get((*key, name), {})
        network = task.network(key[1], design)
        cells = tune[name], judge[name], share, left[key, name]
        found.append(Arm(key, design, network, steps, *cells, row.get("seconds")))
    return found


def _measure(
    spec: Spec, findings: Findings, arms: list[Arm], place: Place, limit: float, tell: Callable[[str], None]
) -> Measured:
    # the group with which the study itself would begin, so that it finds the trial's answer
    key, task = arms[0].key, arms[0].key[0]
    name = findings.designs(key)[0]
    design = designs.parse(name)
    rates, seeds = spec.tuning(task)
    runs, products = ((seeds[0], rates[0]),), spec.products_of(task)
    order = Order(*key, name, runs, device=place.kind, text=spec.text, products=products)
    facts = findings.settings[key]["facts"]
    layout, workers = layouts.find(
        order, facts, lambda text: tell(f"{task}: {text}"), place=place,
        model_steps=sum(arm.left * arm.steps for arm in arms), seconds=limit,
    )  # fmt: skip
    workers.close()
    found = trial.find(order, facts, lambda text: tell(f"{task}: {text}"))
    network = spec.task(task).network(key[1], design)
    many = layout.processes * layout.group / layout.rate
    return Measured(layout, found, Pace.of(network, design, one=found.step, many=many, models=layout.group))
