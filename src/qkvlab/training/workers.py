"""Worker processes that train groups: spawned once, one task in memory, gone when their parent is gone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Order:
    """One group to train: models of one design on one setting.

    Attributes:
        task: name.
        setting: of the task.
        design: name.
        runs: (seed, learning rate) of each model.
        keep: places in ``runs`` whose weights are wanted back.
        device: where to train.
        text: a file that the task reads instead of its own data.
        unit: models of one compiled program; 0 for steps that are not compiled, of all models at once.
    """

    task: str
    setting: str
    design: str
    runs: tuple[tuple[int, float], ...]
    keep: tuple[int, ...] = ()
    device: str = "cpu"
    text: Path | None = None
    unit: int = 0


@dataclass(frozen=True)
class Speed:
    """How fast a group is trained.

    Attributes:
        rate: model-steps per second, over all processes that were measured.
        ready: seconds until the first step was done, compiling included; of the slowest process.
        remark: why steps were not compiled although the order says so; empty otherwise.
    """

    rate: float
    ready: float = 0.0
    remark: str = ""


@dataclass(frozen=True)
class Delivery:
    """What a worker sends back: plain data, one entry per run.

    Attributes:
        losses: training losses.
        metrics: as `Task.measure` names them.
        diverged: whether a loss or weight stopped being finite.
        weights: for every place that was to be kept, its parameters by name.
        seconds: wall time of the group, without compiling.
        models: in one program.
        versions: of python, torch and numpy in the worker; ``compiled`` is yes for compiled steps.
        remark: why steps were not compiled although the order says so; empty otherwise.
    """

    losses: list[tuple[float, ...]]
    metrics: list[dict[str, float]]
    diverged: list[bool]
    seconds: float
    models: int
    weights: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    remark: str = ""


class Workers:
    """A pool of processes, each with its share of the cores.

    Args:
        processes: how many.
        threads: of each.
    """

    def __init__(self, processes: int, threads: int) -> None:
        context = multiprocessing.get_context("spawn")  # fork is unsafe once torch has threads
        self.processes, self.threads = processes, threads
        self._pool = ProcessPoolExecutor(
            processes, mp_context=context, initializer=_begin, initargs=(threads, context.Barrier(processes))
        )

    def train(self, order: Order) -> Future[Delivery]:
        """Train one group in whichever process is free."""
        return self._pool.submit(train, order)

    def rate(self, order: Order, threads: int, *, everywhere: bool, seconds: float) -> Speed:
        """Measure how fast a group is trained, in one process or in all of them at the same time."""
        count = self.processes if everywhere else 1
        futures = [self._pool.submit(_rate, order, threads, everywhere, seconds) for _ in range(count)]
        speeds = [future.result() for future in futures]
        return Speed(sum(s.rate for s in speeds), max(s.ready for s in speeds), speeds[0].remark)

    def close(self) -> None:
        """Drop what has not begun and stop the processes without waiting for what has."""
        processes = list((getattr(self._pool, "_processes", None) or {}).values())
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()


def train(order: Order) -> Delivery:
    """Train one group in this process."""
    import torch

    from qkvlab import designs, tasks
    from qkvlab.training.recipe import Run
    from qkvlab.training.together import Compiled, train_compiled, train_together

    begun = time.perf_counter()
    what = tasks.find(order.task, order.text), order.setting, designs.parse(order.design), [Run(*r) for r in order.runs]
    if order.unit:
        made = train_compiled(*what, unit=order.unit, device=order.device)
    else:
        made = Compiled(train_together(*what, device=order.device), 0.0, "")
    trained = made.trained
    return Delivery(
        losses=[t.losses for t in trained],
        metrics=[t.metrics for t in trained],
        diverged=[t.diverged for t in trained],
        seconds=time.perf_counter() - begun - made.compiling,
        models=order.unit or len(trained),
        weights={i: {n: w.numpy() for n, w in trained[i].state.items()} for i in order.keep},
        versions={
            "python": sys.version.split()[0],
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            **({"compiled": "yes"} if order.unit and not made.remark else {}),
        },
        remark=made.remark,
    )


_together: Any = None  # set in each worker: a barrier of all of them


def _begin(threads: int, barrier: Any) -> None:
    global _together
    _together = barrier
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_leave_with, args=(parent.sentinel,), daemon=True).start()
    # a worker compiles by itself: helpers of its own would outlive it when it is killed
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    import torch

    torch.set_num_threads(threads)


def _leave_with(sentinel: Any) -> None:
    # a parent that was killed cannot tell its workers to stop
    wait([sentinel])
    os._exit(1)


def _rate(order: Order, threads: int, everywhere: bool, seconds: float) -> Speed:
    import torch

    from qkvlab import designs, tasks
    from qkvlab.training.recipe import Run
    from qkvlab.training.together import Together

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        begun = time.perf_counter()
        runs = [Run(*run) for run in order.runs]
        task, design = tasks.find(order.task, order.text), designs.parse(order.design)
        group = Together(task, order.setting, design, runs, device=order.device, compile=bool(order.unit))
        group.step()
        ready = time.perf_counter() - begun
        for _ in range(2):
            group.step()
        if everywhere:
            _together.wait(timeout=600)  # compiling may take a while, and longer in one process than in another
        begun, steps = time.perf_counter(), 0
        while steps + 3 < group.total and time.perf_counter() - begun < seconds:
            group.step()
            steps += 1
        return Speed(steps * len(runs) / (time.perf_counter() - begun), ready, group.remark)
    finally:
        torch.set_num_threads(before)
