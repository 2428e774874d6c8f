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
    """

    task: str
    setting: str
    design: str
    runs: tuple[tuple[int, float], ...]
    keep: tuple[int, ...] = ()
    device: str = "cpu"
    text: Path | None = None


@dataclass(frozen=True)
class Delivery:
    """What a worker sends back: plain data, one entry per run.

    Attributes:
        losses: training losses.
        metrics: as `Task.measure` names them.
        diverged: whether a loss or weight stopped being finite.
        weights: for every place that was to be kept, its parameters by name.
        seconds: wall time of the group.
        versions: of python, torch and numpy in the worker.
    """

    losses: list[tuple[float, ...]]
    metrics: list[dict[str, float]]
    diverged: list[bool]
    seconds: float
    weights: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


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

    def rate(self, order: Order, threads: int, *, everywhere: bool, seconds: float) -> float:
        """Measure model-steps per second of a group, in one process or in all of them at the same time."""
        count = self.processes if everywhere else 1
        futures = [self._pool.submit(_rate, order, threads, everywhere, seconds) for _ in range(count)]
        return sum(future.result() for future in futures)

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
    from qkvlab.training.together import train_together

    begun = time.perf_counter()
    runs = [Run(*run) for run in order.runs]
    trained = train_together(
        tasks.find(order.task, order.text), order.setting, designs.parse(order.design), runs, device=order.device
    )
    return Delivery(
        losses=[t.losses for t in trained],
        metrics=[t.metrics for t in trained],
        diverged=[t.diverged for t in trained],
        seconds=time.perf_counter() - begun,
        weights={i: {n: w.numpy() for n, w in trained[i].state.items()} for i in order.keep},
        versions={
            "python": sys.version.split()[0],
            "torch": str(torch.__version__),
            "numpy": np.__version__,
        },
    )


_together: Any = None  # set in each worker: a barrier of all of them


def _begin(threads: int, barrier: Any) -> None:
    global _together
    _together = barrier
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_leave_with, args=(parent.sentinel,), daemon=True).start()
    import torch

    torch.set_num_threads(threads)


def _leave_with(sentinel: Any) -> None:
    # a parent that was killed cannot tell its workers to stop
    wait([sentinel])
    os._exit(1)


def _rate(order: Order, threads: int, everywhere: bool, seconds: float) -> float:
    import torch

    from qkvlab import designs, tasks
    from qkvlab.training.recipe import Run
    from qkvlab.training.together import Together

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        runs = [Run(*run) for run in order.runs]
        task = tasks.find(order.task, order.text)
        group = Together(task, order.setting, designs.parse(order.design), runs, device=order.device)
        for _ in range(3):
            group.step()
        if everywhere:
            _together.wait(timeout=120)
        begun, steps = time.perf_counter(), 0
        while steps + 3 < group.total and time.perf_counter() - begun < seconds:
            group.step()
            steps += 1
        return steps * len(runs) / (time.perf_counter() - begun)
    finally:
        torch.set_num_threads(before)
