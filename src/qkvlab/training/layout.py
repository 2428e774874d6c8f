"""How to spread models over a machine: processes, threads and models per group, found by a short measured trial.

Which is fastest depends on caches and cores and cannot be known beforehand: 32 models at once may be slower than 8.
The answer is kept per machine and task in the user's cache folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import platformdirs

from qkvlab.training.workers import Order, Workers

GROUPS = (4, 8, 12, 16, 24)
SECONDS = 0.5
HOPELESS = 0.8
"""Larger groups are not tried once one is this much slower than the best so far: it has left the caches."""


@dataclass(frozen=True)
class Layout:
    """Where models are trained.

    Attributes:
        processes: workers.
        threads: of each worker.
        group: models per program.
        rate: model-steps per second that the trial measured, over all workers.
        measured: False when the answer comes from the cache.
    """

    processes: int
    threads: int
    group: int
    rate: float
    measured: bool = True


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def find(
    order: Order,
    facts: dict[str, Any],
    tell: Callable[[str], None] = lambda text: None,
    workers: Workers | None = None,
) -> tuple[Layout, Workers]:
    """Return the fastest layout for groups like ``order`` and the workers that have it.

    Args:
        order: a group whose runs are repeated to the size that is tried.
        facts: sizes of the task, part of the cache's key.
        tell: called with a line about what is being tried.
        workers: idle ones from another task; they are used again where they fit, and closed where not.
    """
    count = cores() if order.device == "cpu" else 1
    path = _cache_file(order, facts)
    best = _read(path)
    if best is None or best.processes > count:
        workers = _fitting(workers, count, 1)
        best = _trial(order, workers, tell)
        _write(path, best)
    return best, _fitting(workers, best.processes, best.threads)


def _fitting(workers: Workers | None, processes: int, threads: int) -> Workers:
    if workers is not None and (workers.processes, workers.threads) == (processes, threads):
        return workers
    if workers is not None:
        workers.close()
    return Workers(processes, threads)


def _trial(order: Order, workers: Workers, tell: Callable[[str], None]) -> Layout:
    count = workers.processes
    tried: list[Layout] = []
    for processes, threads in dict.fromkeys([(count, 1), (1, count)]):
        best = 0.0
        for size in GROUPS:
            tell(f"{processes} x {threads} threads, {size} models at once")
            runs = tuple((i, lr) for i, (_, lr) in enumerate(order.runs * size))[:size]
            rate = workers.rate(replace(order, runs=runs), threads, everywhere=processes > 1, seconds=SECONDS)
            tried.append(Layout(processes, threads, size, rate))
            best = max(best, rate)
            if rate < HOPELESS * best:
                break
    return max(tried, key=lambda layout: layout.rate)


def _cache_file(order: Order, facts: dict[str, Any]) -> Path:
    machine = [platform.node(), platform.machine(), cores(), version("torch"), version("qkvlab")]
    key = json.dumps([machine, order.task, order.device, facts], sort_keys=True)
    name = hashlib.sha256(key.encode()).hexdigest()[:16]
    return Path(platformdirs.user_cache_dir("qkvlab", appauthor=False)) / f"layout-{name}.json"


def _read(path: Path) -> Layout | None:
    try:
        found = Layout(**json.loads(path.read_text("utf-8")), measured=False)
    except (OSError, ValueError, TypeError, RecursionError):
        return None  # a cache may be missing or from another version; the trial is short
    counts = (found.processes, found.threads, found.group)
    return found if all(isinstance(count, int) and count > 0 for count in counts) else None


def _write(path: Path, layout: Layout) -> None:
    fields = asdict(layout)
    del fields["measured"]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(fields), "utf-8")
    except OSError:
        return  # without a cache the next study tries again
