"""Studies without training: results of a made-up world, delivered through the real planner, runner and store."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np

from qkvlab.study.cells import Cell, Result
from qkvlab.study.decisions import Findings
from qkvlab.study.registration import register
from qkvlab.study.schedule import Group, due
from qkvlab.study.spec import Spec, make
from qkvlab.study.verdicts import document
from qkvlab.training.halving import STOPPED, Contest
from qkvlab.training.layout import Layout
from qkvlab.training.workers import Delivery, Order

SETTING = ("library", "same-word/fixed")
FLOOR_ERROR = 0.875
STEPS, POINTS = 200, 10
"""Steps of a training, and losses that are kept of it."""
FOUND = Layout(1, 1, 8, 1000.0)
"""What a trial found, for plans that are not to try."""


def spec(**changes: Any) -> Spec:
    """Return a small study; by default one setting and a floor that is registered unasked."""
    return make(
        **{
            "recipe": "t",
            "designs": ("QKV", "QQV", "XXV"),
            "settings": ("same-word/fixed",),
            "rates": (0.001, 0.003, 0.01),
            "tune_seeds": (0, 1),
            "judge_seeds": 60,
            **changes,
        }
    )


@dataclasses.dataclass(frozen=True)
class World:
    """What every run would give: an error that is best at some rate, noise of the seed, and a share that diverges.

    Attributes:
        means: error of a design at its best rate; .875 for `uniform`, .1 for others unless named.
        noise: standard deviation over seeds of one design.
        diverges: share of a design's judged runs that diverge.
        best: the rate at which a design is best; .003 unless named.
        ties: whether all rates are equally good.
    """

    means: dict[str, float] = dataclasses.field(default_factory=dict)
    noise: float = 0.02
    diverges: dict[str, float] = dataclasses.field(default_factory=dict)
    best: dict[str, float] = dataclasses.field(default_factory=dict)
    ties: bool = False

    def run(self, design: str, setting: str, seed: int, lr: float) -> tuple[float, bool]:
        """Return (error, diverged) of one run, the same every time."""
        digest = hashlib.sha256(f"{design} {setting} {seed} {lr}".encode()).digest()
        rng = random.Random(digest)
        if rng.random() < self.diverges.get(design, 0.0):
            return math.nan, True
        mean = self.means.get(design, FLOOR_ERROR if design == "uniform" else 0.1)
        off = 0.0 if self.ties else 0.2 * abs(math.log10(lr / self.best.get(design, 0.003)))
        return min(1.0, max(0.0, mean + off + rng.gauss(0, self.noise))), False

    def trained(
        self, design: str, setting: str, runs: Sequence[tuple[int, float]], contest: Contest | None = None
    ) -> list[Trained]:
        """Return what trainings give; in a contest, hopeless rates stop by its rule."""
        ends = {run: self.run(design, setting, *run) for run in runs}
        curves = {run: _curve(*end) for run, end in ends.items()}
        metrics = {run: {"error": error, "coverage": error / 2} for run, (error, _) in ends.items()}
        for point, rung in contest.halving.at(POINTS) if contest else ():
            live = {run: curve[:point] for run, curve in curves.items() if len(curve) == POINTS}
            staying = contest.staying(live, point, rung, POINTS)
            losses = contest.halving.losses(live, point, POINTS)
            for run in [run for run in live if run[1] not in staying]:
                curves[run], metrics[run] = live[run], {STOPPED: losses[run]}
        return [Trained(curves[run], metrics[run], ends[run][1], STEPS * len(curves[run]) // POINTS) for run in runs]


@dataclasses.dataclass(frozen=True)
class Trained:
    """One made-up training."""

    losses: tuple[float, ...]
    metrics: dict[str, float]
    diverged: bool
    steps: int


def _curve(error: float, diverged: bool) -> tuple[float, ...]:
    # what ends well has been ahead all the time
    return tuple(math.nan if diverged else 3 * (1 - p / POINTS) + 10 * error * p / POINTS for p in range(1, POINTS + 1))


def result(cell: Cell, world: World, source: str = "s") -> Result:
    """Return the record of a training that nothing stops."""
    (one,) = world.trained(cell.design, cell.setting, [(cell.seed, cell.lr)])
    return recorded(cell, one, source)


def recorded(cell: Cell, one: Trained, source: str = "s") -> Result:
    return Result(
        cell=cell,
        **vars(one),
        seconds=0.125,
        group=1,
        device="cpu",
        versions={"qkvlab": "0", "torch": "0", "python": "0", "numpy": "0"},
        source=source,
    )


def judge(world: World, study: Spec | None = None, upto: int = 60) -> Findings:
    """Return findings with all tuning done and the first seeds of every design judged."""
    findings = Findings(register(study or spec()))
    for key in findings.settings:
        while missing := findings.tuning(key).missing:
            findings.add(result(cell, world) for cell in missing)
        for name in findings.registration["designs"]:
            lr = findings.tuning(key).chosen[name]
            seeds = findings.registration["seeds"]["judge"][:upto]
            findings.add(result(Cell(*key, name, "judge", seed, lr), world) for seed in seeds)
    return findings


def play(
    findings: Findings,
    world: World,
    *,
    size: int = 8,
    workers: int = 2,
    pick: Callable[[list[Group]], int] = lambda running: 0,
) -> Iterator[Group]:
    """Run a study to its end as the runner does, yielding each group as it finishes; `pick` says which finishes."""
    running: list[Group] = []
    while True:
        busy = {cell for group in running for cell in group.cells}
        for group in due(findings, busy, lambda task: size):
            if len(running) >= 2 * workers:
                break
            running.append(group)
        if not running:
            return
        done = running.pop(pick(running))
        runs = [(cell.seed, cell.lr) for cell in done.cells]
        found = world.trained(done.design, done.key[1], runs, findings.contest(done.cells))
        findings.add(recorded(cell, one) for cell, one in zip(done.cells, found, strict=True))
        yield done


class FakeWorkers:
    """Workers that deliver what the world says, a little later and from another thread."""

    processes = 2

    def __init__(self, world: World, seconds: float = 0.0) -> None:
        self.world, self.seconds = world, seconds
        self.closed = False
        self.orders: list[Order] = []

    def train(self, order: Order, limit: float) -> Future[Delivery]:
        self.orders.append(order)
        future: Future[Delivery] = Future()
        threading.Thread(target=self._deliver, args=(order, future), daemon=True).start()
        return future

    def _deliver(self, order: Order, future: Future[Delivery]) -> None:
        time.sleep(self.seconds)
        future.set_result(delivery(order, self.world))

    def close(self) -> None:
        self.closed = True


def delivery(order: Order, world: World) -> Delivery:
    found = world.trained(order.design, order.setting, order.runs, order.contest)
    return Delivery(
        losses=[one.losses for one in found],
        metrics=[one.metrics for one in found],
        diverged=[one.diverged for one in found],
        steps=[one.steps for one in found],
        seconds=0.01,
        models=min(order.at_once, len(order.runs)),
        weights={i: {"words": np.full((3, 2), order.runs[i][0], np.float32)} for i in order.keep},
        versions={"python": "3", "torch": "0", "numpy": "0"},
    )


def layout(group: int = 8) -> Layout:
    return Layout(processes=2, threads=1, group=group, rate=100.0)


def rows(findings: Findings) -> list[dict[str, Any]]:
    """Return the comparisons of `verdicts.json`, which do not depend on what else was run."""
    return document(findings)["comparisons"]


def rows_of(world: World, study: Spec | None = None) -> list[dict[str, Any]]:
    """Return the comparisons of a study that nothing interrupted, by the planner alone."""
    findings = Findings(register(study or spec()))
    for _ in play(findings, world):
        pass
    return rows(findings)
