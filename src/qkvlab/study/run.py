"""Running a study: what is due goes to the workers, what comes back goes to the store, until decided or out of time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import Any

from qkvlab import __version__, tasks
from qkvlab.errors import BadInput
from qkvlab.study import weights
from qkvlab.study.cells import Cell, Result
from qkvlab.study.decisions import Findings, Key
from qkvlab.study.precision import settled
from qkvlab.study.programs import Programs
from qkvlab.study.progress import Progress
from qkvlab.study.recovery import Recovery
from qkvlab.study.registration import register
from qkvlab.study.schedule import Arm, Group, due, open_cells
from qkvlab.study.sessions import Clock, Session
from qkvlab.study.spec import Spec
from qkvlab.study.store import Store
from qkvlab.training import layout as layouts
from qkvlab.training import place as places
from qkvlab.training.layout import Layout
from qkvlab.training.place import Place
from qkvlab.training.pool import Pool
from qkvlab.training.workers import Delivery, Order


def run(
    spec: Spec,
    out: Path,
    *,
    minutes: float = 3.0,
    device: str = "cpu",
    workers: int | None = None,
    ray: str | None = None,
    first: Sequence[str] = (),
    tell: Callable[[Progress], None] = lambda progress: None,
    say: Callable[[str], None] = lambda text: None,
) -> Findings:
    """Run or continue a study in a folder.

    Args:
        spec: what is asked.
        out: folder of the store.
        minutes: no group begins that could not end in this time.
        device: cpu, mps, cuda, or cards as in ``cuda:0,1``.
        workers: how many groups are trained at the same time; what a trial finds fastest unless given.
        ray: address of a Ray cluster that trains instead of this machine, or ``local``.
        first: names of settings that go before the others.
        tell: called several times a second.
        say: called with a line about what is tried before anything is known.

    Returns:
        What is known when it stops. A ``KeyboardInterrupt`` passes through; what was stored stays.

    Raises:
        BadInput: minutes, device, workers or an address that cannot be meant.
        StoreError: see `Store.create_or_continue`; and a full disk.
        WorkerError: a cell lost its worker again and again, or one model does not fit into memory. In all cases what
            was stored stays.
    """
    limit = seconds(minutes)
    place = places.find(device, workers, ray)
    began = time.monotonic()
    spec = settled(spec, out, place, limit, say)
    limit = max(limit - (time.monotonic() - began), limit / 2)
    registration = register(spec)
    with Store.create_or_continue(out, registration) as store:
        findings = Findings(registration, store.results())
        order = [key for name in first for key in findings.settings if key[1] == name]
        return _Runner(spec, store, findings, out, limit, place, order, tell).run()


def seconds(minutes: float) -> float:
    """Return how long so many minutes are.

    Raises:
        BadInput: not a positive number.
    """
    if not 0 < minutes < float("inf"):
        raise BadInput(f"minutes must be a positive number; got {minutes}.")
    return minutes * 60


class _Runner:
    def __init__(
        self,
        spec: Spec,
        store: Store,
        findings: Findings,
        out: Path,
        limit: float,
        place: Place,
        first: Sequence[Key],
        tell: Callable[[Progress], None],
    ) -> None:
        self.spec, self.store, self.findings, self.out = spec, store, findings, out
        self.limit, self.place, self.first, self.tell = limit, place, first, tell
        self.begun = time.monotonic()
        self.layouts: dict[str, Layout] = {}
        self.workers: Pool | None = None
        self.futures: dict[Future[Delivery], Group] = {}
        self.finished = 0
        self.recovery = Recovery()
        self.left = open_cells(findings)
        self.programs = Programs(spec.text and spec.text.absolute())
        self.remark = ""

    def run(self) -> Findings:
        if not any(due(self.findings, (), self._size, self.first)):
            self._tell("")
            return self.findings
        self._tell("starting the workers")
        began = time.time() - self._elapsed()
        session = Session(len(self.store.sessions()) + 1, began, 0.0, self.place.cores, 0, len(self.findings.results))
        with Clock(self.store.note, session, self.begun) as clock:
            try:
                self._loop(clock)
            finally:
                if self.workers is not None:
                    self.workers.close()
                self.place.close()
        return self.findings

    def _loop(self, clock: Clock) -> None:
        while True:
            self._submit()
            if self.workers is not None:
                clock.working(self.workers.processes)
            if not self.futures:
                return
            done, _ = wait(self.futures, timeout=0.25, return_when=FIRST_COMPLETED)
            if done:
                self._take(done)
            self._tell("")

    def _submit(self) -> None:
        if self._elapsed() > self.limit:
            return
        running = {cell for group in self.futures.values() for cell in group.cells}
        for group in due(self.findings, running, self._size, self.first):
            if group.key[0] not in self.layouts:
                if self.futures:  # a trial needs idle workers
                    return
                self._try_out(group)
                return self._submit()
            # one group waits ready for each worker, so that none idles while results are stored
            if self.workers is None or len(self.futures) >= 2 * self.workers.processes or not self._fits(group):
                return
            deadline = self.recovery.deadline(group, self.layouts[group.key[0]])
            self.futures[self.workers.train(self._order(group), deadline)] = group

    def _fits(self, group: Group) -> bool:
        """Whether a group would end in time; the first ones of a call begin anyhow, or short calls would do nothing."""
        waits = self.workers is not None and len(self.futures) >= self.workers.processes
        takes = self.recovery.expected(group, self.layouts[group.key[0]])
        return not (self.finished or waits) or self._elapsed() + takes * (1 + waits) <= self.limit

    def _size(self, task: str) -> int:
        return self.layouts[task].group if task in self.layouts else 1

    def _try_out(self, group: Group) -> None:
        """Find how models of a new task are spread best over this machine."""
        facts, idle = self.findings.settings[group.key]["facts"], self.workers
        self.workers = None  # from here on they are the trial's to close
        self.layouts[group.key[0]], self.workers = layouts.find(
            self._order(group), facts, lambda text: self._tell(f"trial: {text}"), idle,
            place=self.place, model_steps=sum(self._model_steps(arm) for arm in self.left if arm[0][0] == group.key[0]),
            seconds=self.limit - self._elapsed(),
        )  # fmt: skip

    def _take(self, done: set[Future[Delivery]]) -> None:
        results: list[Result] = []
        failed: list[tuple[Group, BaseException]] = []
        for future in done:
            group = self.futures.pop(future)
            error = future.exception()
            if error is not None:
                failed.append((group, error))
                continue
            delivery = future.result()
            self.remark = delivery.remark or self.remark
            self.recovery.finished(group, delivery.seconds)
            fresh = [self._result(group, delivery, i) for i in range(len(group.cells))]
            for i, state in delivery.weights.items():
                weights.save(self.out, fresh[i], state)
            results += fresh
        self.store.add(results)
        self.findings.add(results)
        self.finished += len(results)
        self.left = open_cells(self.findings)
        # what others finished is stored first; cells that failed are under way no more, so they are due again
        for group, error in failed:
            task = group.key[0]
            self.layouts[task] = self.recovery.after(group, error, self.layouts[task])

    def _result(self, group: Group, delivery: Delivery, i: int) -> Result:
        cell = group.cells[i]
        return Result(
            cell=cell,
            metrics=delivery.metrics[i],
            diverged=delivery.diverged[i],
            losses=delivery.losses[i],
            steps=delivery.steps[i],
            seconds=delivery.seconds * delivery.steps[i] / sum(delivery.steps),
            group=delivery.models,
            device=self.place.kind,
            versions={"qkvlab": __version__, **delivery.versions},
            source=self.findings.registration["source"],
        )

    def _order(self, group: Group) -> Order:
        return Order(
            *group.key,
            group.design,
            tuple((cell.seed, cell.lr) for cell in group.cells),
            keep=tuple(i for i, cell in enumerate(group.cells) if self._shown(cell)),
            device=self.place.kind,
            text=self.spec.text and self.spec.text.absolute(),
            products=self.spec.products_of(group.key[0]),
            contest=self.findings.contest(group.cells),
            at_once=group.at_once,
            **self._compiled(group),
        )

    def _compiled(self, group: Group) -> dict[str, Any]:
        """Return by which program a group is trained, as an order says it; nothing for plain steps."""
        layout = self.layouts.get(group.key[0])
        if layout is None or layout.compiled is None:
            return {}
        found = self.programs.of((group.key, group.design), layout, self.left, self.limit - self._elapsed())
        return {} if found is None else {"unit": layout.compiled.unit, "program": found}

    def _model_steps(self, arm: Arm) -> float:
        (task, setting), _ = arm
        return self.left[arm] * tasks.find(task, self.spec.text).steps(setting)

    def _shown(self, cell: Cell) -> bool:
        first = self.findings.registration["seeds"]["judge"][0]
        return cell.role == "judge" and cell.seed == first and cell.setting in tasks.find(cell.task).shown

    def _elapsed(self) -> float:
        return time.monotonic() - self.begun

    def _tell(self, note: str) -> None:
        self.tell(
            Progress(
                findings=self.findings,
                running=tuple(self.futures.values()),
                note=note,
                layout=next(reversed(self.layouts.values()), None),
                finished=self.finished,
                left=sum(self.left.values()),
                elapsed=self._elapsed(),
                limit=self.limit,
                remark=self.remark,
                programs=self.programs.chosen,
                lost=self.recovery.workers,
            )
        )
