"""All rates of a design at once: trained side by side, held against each other at the rungs, and thinned out there.

Models that stop leave the stacks, so that their time is saved; those that go on are packed together anew, as many in a
program as before, with their weights, moments, data and place in the schedule as they were.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from qkvlab.contracts import Products
from qkvlab.designs import Design
from qkvlab.tasks import Task
from qkvlab.training import recipe
from qkvlab.training.adamw import StackedAdamW
from qkvlab.training.halving import STOPPED, Contest
from qkvlab.training.recipe import Run, Trained
from qkvlab.training.together import Compiled, Together

Seat = tuple[Together, int]
"""Where a model is: its group and its place there."""


def train_rates(
    task: Task,
    setting: str,
    design: Design,
    runs: Sequence[Run],
    *,
    contest: Contest,
    size: int,
    compile: bool = False,
    host: Design | None = None,
    device: str = "cpu",
    products: Products = "fp32",
) -> Compiled:
    """Train all rates and seeds of a design, each to its end or to the rung at which its rate is hopeless.

    Args:
        task: what is learned.
        setting: of the task.
        design: of every model.
        runs: all rates with all their seeds.
        contest: the rule, and what else it is told.
        size: how many models a program holds at most, or, compiled, exactly: the last is filled up with copies.
        compile: whether steps are compiled.
        host: whose program takes them, see `Together`.
        device: where to compute.
        products: precision of matrix products, see `Together`.

    Returns:
        One `Trained` per run, in order. What stopped has no number but `STOPPED`.
    """
    seats: dict[int, Seat] = {}
    compiling, remark = 0.0, ""
    for places in _packed(range(len(runs)), size, fill=compile):
        group = Together(
            task, setting, design, [runs[i] for i in places],
            device=device, compile=compile, host=host, products=products,
        )  # fmt: skip
        seats |= {i: (group, place) for place, i in reversed(list(enumerate(places)))}
        compiling, remark = compiling + group.compiling, group.remark
    found: dict[int, Trained] = {}
    steps = task.steps(setting)
    stretch = recipe.stretch(steps)
    whole = math.ceil(steps / stretch)
    for point, rung in contest.halving.at(whole):
        curves = _advanced(seats, point * stretch, stretch)
        by_run = {(runs[i].seed, runs[i].lr): curve for i, curve in curves.items()}
        staying = contest.staying(by_run, point, rung, whole)
        loss = contest.halving.losses(by_run, point, whole)
        leaving = [i for i in seats if runs[i].lr not in staying]
        for i in leaving:
            group, place = seats[i]
            found[i] = group.as_trained(place, curves[i], {STOPPED: loss[runs[i].seed, runs[i].lr]})
        if leaving:
            seats = _thinned({i: seat for i, seat in seats.items() if i not in found}, size, fill=compile)
    _advanced(seats, steps, stretch)
    for group in _groups(seats):
        trained = group.finish()
        found |= {i: trained[place] for i, (own, place) in seats.items() if own is group}
    return Compiled([found[i] for i in range(len(runs))], compiling, remark)


def _packed(models: Sequence[int], size: int, *, fill: bool) -> list[list[int]]:
    """Split models into groups: equal parts of at most ``size``, or of exactly so many with copies of the last."""
    count = math.ceil(len(models) / size)
    if fill:
        padded = [*models, *[models[-1]] * (count * size - len(models))]
        return [padded[k * size : (k + 1) * size] for k in range(count)]
    return [list(models[k * len(models) // count : (k + 1) * len(models) // count]) for k in range(count)]


def _groups(seats: dict[int, Seat]) -> list[Together]:
    return list({id(group): group for group, _ in seats.values()}.values())


def _advanced(seats: dict[int, Seat], step: int, stretch: int) -> dict[int, list[float]]:
    """Train every group up to a step and return the losses of each model by stretches."""
    curves = {}
    for group in _groups(seats):
        while len(group.losses) < step:
            group.step()
        curves[id(group)] = group.curves(stretch)
    return {i: curves[id(group)][place] for i, (group, place) in seats.items()}


def _thinned(seats: dict[int, Seat], size: int, *, fill: bool) -> dict[int, Seat]:
    """Pack the models that go on into as few groups as can hold them."""
    found: dict[int, Seat] = {}
    for places in _packed(list(seats), size, fill=fill) if seats else []:
        group = _joined([seats[i] for i in places])
        found |= {i: (group, place) for place, i in reversed(list(enumerate(places)))}
    return {i: found[i] for i in seats}


def _joined(seats: Sequence[Seat]) -> Together:
    """Return a group of models from anywhere, with everything that is theirs."""

    def rows(of: Callable[[Together], Tensor], axis: int = 0) -> Tensor:
        return torch.stack([of(group).select(axis, place) for group, place in seats], axis)

    first = seats[0][0]
    moments = {id(group): group.optimiser.moments() for group, _ in seats}
    new = copy.copy(first)
    new.runs = [group.runs[place] for group, place in seats]
    new.before = [group.before[place] for group, place in seats]
    new.weights = {name: rows(lambda group, name=name: group.weights[name]) for name in first.weights}
    new.fixed = {name: rows(lambda group, name=name: group.fixed[name]) for name in first.fixed}
    new.inputs = [rows(lambda group, k=k: group.inputs[k], 1) for k in range(len(first.inputs))]
    new.targets = rows(lambda group: group.targets, 1)
    new.losses = list(rows(lambda group: torch.stack(group.losses), 1))
    new.optimiser = StackedAdamW(new.weights, [run.lr for run in new.runs])
    kept = {
        kind: {name: rows(lambda group, kind=kind, name=name: moments[id(group)][kind][name]) for name in stacks}
        for kind, stacks in moments[id(first)].items()
    }
    new.optimiser.resume(kept, len(new.losses))
    new.stand()
    return new
