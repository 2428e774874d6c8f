"""Where a study trains, this machine or a Ray cluster (`cluster`): which shapes a pool may have, and making one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Protocol

from qkvlab.errors import BadInput
from qkvlab.training import device as devices
from qkvlab.training.device import CPU, Devices
from qkvlab.training.pool import Pool
from qkvlab.training.processes import ProcessWorker

MOST_WORKERS = 1024


class Place(Protocol):
    """Where groups are trained.

    Attributes:
        name: part of the key of a measured layout; empty for the whole of this machine.
        kind: device of every worker: cpu, cuda or mps.
        cores: that the workers share; None where they are on other machines.
    """

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def cores(self) -> int | None: ...

    def shapes(self) -> list[tuple[int, int]]:
        """Return the (processes, threads of each) that a trial compares; the first has the most processes."""
        ...

    def pool(self, processes: int, threads: int) -> Pool:
        """Make a pool of one of the shapes."""
        ...

    def close(self) -> None:
        """Let go what the pools stood on."""
        ...


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Here:
    """This machine: processes that share its cores, or its GPUs in turn.

    Attributes:
        devices: what is trained on.
        workers: processes; None for what a trial finds fastest, and one for each GPU.
    """

    devices: Devices = CPU
    workers: int | None = None

    @property
    def name(self) -> str:
        """Empty, unless the number of workers or the cards are given."""
        given = [f"{self.workers} workers"] if self.workers else []
        return ", ".join(given + [f"card {card}" for card in self.devices.cards[1:]])

    @property
    def kind(self) -> str:
        """See `Place`."""
        return self.devices.kind

    @property
    def cores(self) -> int:
        """See `Place`."""
        return cores()

    def shapes(self) -> list[tuple[int, int]]:
        """See `Place`."""
        if self.kind != "cpu":
            return [(self.workers or max(1, len(self.devices.cards)), 1)]
        if self.workers:
            return list(dict.fromkeys([(self.workers, 1), (self.workers, max(1, cores() // self.workers))]))
        return list(dict.fromkeys([(cores(), 1), (1, cores())]))

    def pool(self, processes: int, threads: int) -> Pool:
        """See `Place`."""
        cards = self.devices.cards
        names = [f"{self.kind}:{card}" for card in cards] or [self.kind]
        return Pool(lambda i: ProcessWorker(threads, names[i % len(names)]), processes, threads)

    def close(self) -> None:
        """See `Place`."""


def find(device: str, workers: int | None, ray: str | None) -> Place:
    """Return the place that the options name.

    Raises:
        BadInput: a number of workers, a device or an address that cannot be meant or is not there.
    """
    if workers is not None and not 1 <= workers <= MOST_WORKERS:
        raise BadInput(f"workers must be 1 to {MOST_WORKERS}; got {workers}.")
    named = devices.parse(device)
    if ray is None:
        devices.check(named)
        return Here(named, workers)
    from qkvlab.training.cluster import Cluster

    return Cluster(ray, named, workers)
