"""What a worker takes before and beside its steps, found by a short measured trial that is kept per machine and task.

A process is started, trains one model for a few steps, and then makes and examines two more without training them. Its
peak memory less what one model accounts for is the baseline; the seconds of the two are what a model takes beside its
steps; a step of the one says, beside the rate of the layout's groups, what starting a step takes.
"""

from __future__ import annotations

import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from qkvlab import designs, tasks
from qkvlab.training import memory
from qkvlab.training.device import settle
from qkvlab.training.remembered import Remembered
from qkvlab.training.workers import Order

MODELS = 2
WARM_UP, STEPS = 3, 12
_SENSIBLE = Field(gt=0, lt=2**50)


@dataclass(frozen=True)
class Trial:
    """What was found.

    Attributes:
        base: bytes of a worker before its first model.
        beside: seconds that a model takes beside its steps: drawing its data and examining it.
        step: seconds of a step of one model alone.
        measured: False when the answer comes from the cache.
    """

    base: Annotated[int, _SENSIBLE]
    beside: Annotated[float, _SENSIBLE]
    step: Annotated[float, _SENSIBLE]
    measured: bool = True


_KEPT = Remembered("trial", Trial)


def find(order: Order, facts: dict[str, Any], tell: Callable[[str], None] = lambda text: None) -> Trial:
    """Return what workers take that train such groups, measured or remembered.

    Args:
        order: a group, whose first run is tried.
        facts: sizes of the task, part of the cache's key.
        tell: called with a line about what is being tried.
    """
    path = _cache_file(order, facts)
    known = _KEPT.read(path)
    if known is not None:
        return known
    tell("one model: memory, a step, its data and its exam")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        peak, beside, step = pool.submit(_try, replace(order, runs=((0, 0.001),), keep=())).result()
    task, design = tasks.find(order.task, order.text), designs.parse(order.design)
    network = task.network(order.setting, design)
    one = memory.of_worker(network, design, steps=task.steps(order.setting), group=1, base=0)
    # on an accelerator a worker holds no tensors; what its libraries take is all in the peak
    found = Trial(base=peak - (one.total if order.device == "cpu" else 0), beside=beside, step=step)
    _KEPT.write(path, found)
    return found


def _try(order: Order) -> tuple[int, float, float]:
    import torch

    from qkvlab.training.recipe import Run
    from qkvlab.training.together import Together, train_together

    torch.set_num_threads(1)
    task, design = tasks.find(order.task, order.text), designs.parse(order.design)
    group = Together(task, order.setting, design, [Run(0, 0.001)], device=order.device, products=order.products)
    seconds = [_timed(group.step, order.device) for _ in range(min(WARM_UP + STEPS, group.total))]
    group.finish()
    peak = memory.peak()
    begun = time.perf_counter()
    runs = [Run(seed, 0.001) for seed in range(MODELS)]
    train_together(task, order.setting, design, runs, steps=0, device=order.device)
    return peak, (time.perf_counter() - begun) / MODELS, statistics.median(seconds[WARM_UP:] or seconds)


def _timed(step: Callable[[], None], device: str) -> float:
    begun = time.perf_counter()
    step()
    settle(device)
    return time.perf_counter() - begun


def _cache_file(order: Order, facts: dict[str, Any]) -> Path:
    machine = [platform.node(), platform.machine(), platform.python_version(), version("torch"), version("qkvlab")]
    return _KEPT.file([machine, order.task, order.design, order.device, facts])
