"""What a study will take before it is run: trainings, FLOPs, time and memory, here and on a card that is not here.

Cells follow from the registration and from what is stored. FLOPs follow from the designs and the tasks' sizes. Time is
the layout's measured rate, carried over to other designs and settings by their work; what a recorded study took stands
beside it. Memory is that of the largest group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from qkvlab import designs
from qkvlab.designs import Design
from qkvlab.study.decisions import Findings, Key
from qkvlab.study.forecast import NONE, Cells, Known, Share, judging, staying, tuning
from qkvlab.study.registration import register
from qkvlab.study.spec import Spec
from qkvlab.study.store import Store
from qkvlab.tasks.network import Network
from qkvlab.training import effort, memory, trial
from qkvlab.training import layout as layouts
from qkvlab.training import place as places
from qkvlab.training.effort import Gpu, Pace
from qkvlab.training.layout import Layout
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
        recorded: seconds of a worker for one training in the record; None where there is none.
    """

    key: Key
    design: Design
    network: Network
    steps: int
    tune: Cells
    judge: Cells
    share: Share
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
    """

    findings: Findings
    arms: tuple[Arm, ...]
    measured: Mapping[str, Measured]
    parent: int

    def of(self, key: Key) -> list[Arm]:
        """Return the arms of a setting."""
        return [arm for arm in self.arms if arm.key == key]

    def seconds(self, arm: Arm, network: Network | None = None) -> float:
        """Predict how long one training keeps this machine busy, all workers at work; at other sizes if given."""
        found, network = self.measured[arm.key[0]], network or arm.network
        models = found.layout.group
        beside = found.trial.beside * network.numbers / arm.network.numbers
        return (arm.steps * found.pace.step(network, arm.design, models) / models + beside) / found.layout.processes

    def recorded(self, arm: Arm) -> float | None:
        """Return how long one training would take as in the record, with as many workers as here."""
        return None if arm.recorded is None else arm.recorded / self.measured[arm.key[0]].layout.processes

    def on(self, card: Gpu, arm: Arm) -> float:
        """Extrapolate how long one training would take on a card, data drawn and exams told beside it as here."""
        found, models = self.measured[arm.key[0]], max(layouts.GROUPS)
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
        known: what recorded studies took.
        tell: called with a line about what is being tried.

    Raises:
        BadInput: a device, number of workers or cluster that cannot be meant or is not there.
        StoreError: another study is registered in the folder, or its file cannot be read.
    """
    place = places.find(device, workers, ray)
    registration, known = register(spec), known or {}
    findings = Findings(registration)
    if Store.begun(out):
        with Store.read(out, registration) as store:
            findings = Findings(registration, store.results())
    arms = tuple(arm for key in findings.settings for arm in _arms(spec, findings, key, known))
    try:
        measured = {task: _measure(spec, findings, task, place, tell) for task in dict.fromkeys(a.key[0] for a in arms)}
    finally:
        place.close()
    return Plan(findings, arms, measured, memory.peak())


def _arms(spec: Spec, findings: Findings, key: Key, known: Known) -> list[Arm]:
    task, tune, judge = spec.task(key[0]), tuning(findings, key, known), judging(findings, key, known)
    steps, share = task.steps(key[1]), staying(findings, key)
    found = []
    for name in findings.designs(key):
        design = designs.parse(name)
        row = known.get((*key, name), {})
        network = task.network(key[1], design)
        found.append(Arm(key, design, network, steps, tune[name], judge[name], share, row.get("seconds")))
    return found


def _measure(spec: Spec, findings: Findings, task: str, place: Place, tell: Callable[[str], None]) -> Measured:
    # the group with which the study itself would begin, so that it finds the trial's answer
    key = next(key for key in findings.settings if key[0] == task)
    name = findings.designs(key)[0]
    design = designs.parse(name)
    rates, seeds = spec.tuning(task)
    products = "bf16" if spec.halves(task) else "fp32"
    order = Order(*key, name, ((seeds[0], rates[0]),), device=place.kind, text=spec.text, products=products)
    facts = findings.settings[key]["facts"]
    layout, workers = layouts.find(order, facts, lambda text: tell(f"{task}: {text}"), place=place)
    workers.close()
    found = trial.find(order, facts, lambda text: tell(f"{task}: {text}"))
    network = spec.task(task).network(key[1], design)
    many = layout.processes * layout.group / layout.rate
    return Measured(layout, found, Pace.of(network, design, one=found.step, many=many, models=layout.group))
