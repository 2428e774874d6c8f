"""How to spread models over a machine: processes, threads and models per group, found by a short measured trial.

Which is fastest depends on caches and cores and cannot be known beforehand: 32 models at once may be slower than 8.
What compiled steps would gain is tried only where so much is to be trained that compiling can pay.
The answer is kept per machine and task in the user's cache folder.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import PositiveFloat, PositiveInt

from qkvlab.training.faults import Lost, OutOfMemory
from qkvlab.training.place import Here, Place, cores
from qkvlab.training.pool import Pool
from qkvlab.training.remembered import Remembered
from qkvlab.training.workers import Order, Speed

GROUPS = (4, 8, 12, 16, 24)
"""Models at once that are tried on a CPU."""
CARD_GROUPS = (8, 32, 64, 128, 256)
"""The same on a GPU."""
SECONDS = 0.5
HOPELESS = 0.8
"""Larger groups are not tried once one is this much slower than the best so far: it has left the caches."""
UNIT, CARD_UNIT = 4, 32
"""Models of a compiled program on a CPU, which hardly gains from more, and on a GPU; the last program of a group is
filled up."""
WORTH = 240.0
"""Seconds of plain training from which on it is tried what compiling would gain."""


@dataclass(frozen=True)
class Compiled:
    """What compiled steps would give.

    Attributes:
        unit: models of a program.
        gain: how many times as fast as plain steps, side by side.
        seconds: of work until a program is compiled.
    """

    unit: PositiveInt
    gain: PositiveFloat
    seconds: PositiveFloat


@dataclass(frozen=True)
class Layout:
    """Where models are trained.

    Attributes:
        processes: workers.
        threads: of each worker.
        group: models per program.
        rate: model-steps per second that the trial measured, over all workers.
        compiled: what compiled steps would give; None where that was not tried.
        measured: False when the answer comes from the cache.
    """

    processes: PositiveInt
    threads: PositiveInt
    group: PositiveInt
    rate: PositiveFloat
    compiled: Compiled | None = None
    measured: bool = True


_KEPT = Remembered("layout", Layout)


def groups(kind: str) -> tuple[int, ...]:
    """Return the numbers of models at once that are tried on a kind of device."""
    return GROUPS if kind == "cpu" else CARD_GROUPS


def unit(kind: str) -> int:
    """Return the models of a compiled program on a kind of device."""
    return UNIT if kind == "cpu" else CARD_UNIT


def find(
    order: Order,
    facts: dict[str, Any],
    tell: Callable[[str], None] = lambda text: None,
    workers: Pool | None = None,
    model_steps: float = 0.0,
    seconds: float = math.inf,
    place: Place | None = None,
) -> tuple[Layout, Pool]:
    """Return the fastest layout for groups like ``order`` and the workers that have it.

    Args:
        order: a group whose runs are repeated to the size that is tried.
        facts: sizes of the task, part of the cache's key.
        tell: called with a line about what is being tried.
        workers: idle ones from another task; they are used again where they fit, and closed where not.
        model_steps: how much of the task is to be trained.
        seconds: how long there is for it.
        place: where to train; this machine unless given.
    """
    place = place or Here()
    shapes = place.shapes()
    path = _cache_file(order, facts, place.name)
    best = _KEPT.read(path)
    try:
        if best is None or best.processes > shapes[0][0]:
            workers = _fitting(place, workers, *shapes[0])
            best, whole = _trial(order, workers, shapes, tell)
            if not whole:
                return best, _fitting(place, workers, best.processes, best.threads)
            _KEPT.write(path, best)
        workers = _fitting(place, workers, best.processes, best.threads)
        if best.compiled is None and min(model_steps / best.rate, seconds) > WORTH:
            best = replace(best, compiled=_compiled(order, best, workers, tell))
            if best.compiled is not None:
                _KEPT.write(path, best)
    except BaseException:
        if workers is not None:
            workers.close()
        raise
    return best, workers


def _fitting(place: Place, workers: Pool | None, processes: int, threads: int) -> Pool:
    if workers is not None and (workers.processes, workers.threads) == (processes, threads):
        return workers
    if workers is not None:
        workers.close()
    return place.pool(processes, threads)


def _trial(
    order: Order, workers: Pool, shapes: list[tuple[int, int]], tell: Callable[[str], None]
) -> tuple[Layout, bool]:
    """Return the fastest layout, and whether no worker was lost over it, so that it is worth remembering."""
    tried: list[Layout] = []
    whole = True
    for processes, threads in shapes:
        best = 0.0
        for size in groups(order.device):
            tell(f"{processes} x {threads} threads, {size} models at once")
            try:
                speed = _speed(workers, sized(order, size), processes, threads)
            except (Lost, OutOfMemory) as error:
                whole &= isinstance(error, OutOfMemory)
                break  # more would not fit either
            rate = speed.rate
            tried.append(Layout(processes, threads, size, rate))
            best = max(best, rate)
            if rate < HOPELESS * best:
                break
    if not tried:  # training one model will say what is wrong
        return Layout(*shapes[0], group=1, rate=1.0), False
    return max(tried, key=lambda layout: layout.rate), whole


def _compiled(order: Order, best: Layout, workers: Pool, tell: Callable[[str], None]) -> Compiled | None:
    tell("compiled steps")
    size = unit(order.device)
    one = replace(sized(order, size), unit=size)
    try:
        # one after the other now: what the plain steps once took may have been on a busier machine
        plain = _speed(workers, sized(order, best.group), best.processes, best.threads)
        speed = _speed(workers, one, best.processes, best.threads)
    except (Lost, OutOfMemory):
        return None
    if speed.remark:
        tell(f"steps are not compiled: {speed.remark}")
        return None
    return Compiled(size, plain.cost / speed.cost, speed.ready)


def _speed(workers: Pool, order: Order, processes: int, threads: int) -> Speed:
    """Measure a group; a worker that is lost over it may be chance, two of them are not."""
    try:
        return workers.rate(order, threads, everywhere=processes > 1, seconds=SECONDS)
    except Lost:
        return workers.rate(order, threads, everywhere=processes > 1, seconds=SECONDS)


def sized(order: Order, size: int) -> Order:
    """Return a group of another size: runs over and over, each with a seed of its own."""
    return replace(order, runs=tuple((i, lr) for i, (_, lr) in enumerate(order.runs * size))[:size])


def _cache_file(order: Order, facts: dict[str, Any], place: str = "") -> Path:
    machine = [platform.node(), platform.machine(), cores(), version("torch"), version("qkvlab")]
    return _KEPT.file([machine, order.task, order.device, facts, *filter(None, [place])])
