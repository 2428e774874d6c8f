"""Workers on a Ray cluster: actors that Ray neither restarts nor calls twice; what runs again is the study's to say.

Ray's driver lives in a process of its own. What it prints, how it handles signals, how long it waits for an address and
how it dies with its cluster are then not the study's: whatever happens there is a lost worker or a line that says why.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import logging
import multiprocessing
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from multiprocessing.managers import BaseManager
from pathlib import Path
from typing import Any

import qkvlab
from qkvlab.errors import BadInput
from qkvlab.training.device import Devices
from qkvlab.training.faults import Lost, OutOfMemory
from qkvlab.training.place import cores
from qkvlab.training.pool import Pool
from qkvlab.training.processes import leave_with_parent
from qkvlab.training.workers import answer, begin

REACH = 5.0
"""Seconds in which an address must take a connection."""
CONNECT = 60.0
"""Seconds in which a cluster must be there, or be started."""
STORE = 100 << 20
"""Bytes of Ray's object store in a cluster of ours: groups are small."""
_GONE = (EOFError, OSError)
_ADDRESS = re.compile(r"local|auto|(?P<host>[\w.-]+|\[[0-9a-fA-F:]+\]):(?P<port>[0-9]{1,5})")


class Cluster:
    """A Ray cluster as a place to train.

    Args:
        address: ``host:port`` of a cluster that this machine belongs to, ``auto`` for the one that Ray finds, or
            ``local``: one is started here, on the loopback interface, and ends with the study.
        devices: cpu or cuda; Ray hands out the cards.
        workers: actors; None for one on each core, or on each GPU.

    Raises:
        BadInput: an address or device that cannot be meant, Ray is not installed, or nothing answers there.
    """

    def __init__(self, address: str, devices: Devices, workers: int | None) -> None:
        found = _ADDRESS.fullmatch(address)
        if not found:
            raise BadInput(f"--ray must be host:port, auto or local; got {address!r}.")
        if devices.kind == "mps" or devices.cards:
            raise BadInput("with --ray, --device must be cpu or cuda: Ray hands out the GPUs.")
        if importlib.util.find_spec("ray") is None:
            raise BadInput("--ray needs Ray, which is not installed: pip install 'qkvlab[ray]'.")
        if found["host"]:
            _reach(found["host"].strip("[]"), int(found["port"]))
        self.kind, self._address, self._workers = devices.kind, address, workers
        self._manager: _Manager | None = None
        self._driver: Any = None

    @property
    def name(self) -> str:
        """See `place.Place`."""
        return f"ray {self._address}"

    @property
    def cores(self) -> int | None:
        """See `place.Place`."""
        return cores() if self._address == "local" else None

    def shapes(self) -> list[tuple[int, int]]:
        """See `place.Place`; one thread for each worker, since Ray counts cores.

        Raises:
            BadInput: the cluster cannot be used or has no room for the workers.
        """
        what = "CPU" if self.kind == "cpu" else "GPU"
        have = int(self._connected().resources().get(what, 0))
        if not have:
            raise BadInput(f"the Ray cluster at {self._address} has no {what}.")
        if self._workers is not None and self._workers > have:
            raise BadInput(
                f"the Ray cluster at {self._address} has {have} {what}s; {self._workers} workers do not fit."
            )
        return [(self._workers or have, 1)]

    def pool(self, processes: int, threads: int) -> Pool:
        """See `place.Place`."""
        driver = self._connected()
        return Pool(lambda _: RayWorker(driver, threads, self.kind), processes, threads)

    def close(self) -> None:
        """See `place.Place`."""
        manager, self._manager = self._manager, None
        if manager is not None:
            with contextlib.suppress(*_GONE):
                _within(CONNECT, self._driver.close)
            manager.shutdown()

    def _connected(self) -> Any:
        """Return the driver; it is started when it is first needed."""
        if self._manager is None:
            manager: Any = _Manager(ctx=multiprocessing.get_context("spawn"))
            manager.start(_begin_driver)
            cpus = max(cores(), self._workers or 1)
            try:
                self._driver = _within(CONNECT, lambda: manager.Driver(self._address, cpus))
            except (Lost, *_GONE) as error:
                manager.shutdown()
                why = str(error) or f"it did not answer like Ray within {CONNECT:.0f} seconds"
                raise BadInput(f"the Ray cluster at {self._address} cannot be used: {why}.") from None
            self._manager = manager
        return self._driver


class RayWorker:
    """An actor behind the driver; see `pool.Worker`."""

    def __init__(self, driver: Any, threads: int, kind: str) -> None:
        self._driver = driver
        try:
            self._number = driver.start(threads, kind)
        except _GONE:
            raise Lost("the connection to the Ray cluster is gone") from None

    def call(self, function: Callable[..., Any], *arguments: Any, limit: float) -> Any:
        """See `pool.Worker`."""
        try:
            good, value = self._driver.call(self._number, function, arguments, limit)
        except _GONE:
            raise Lost("the connection to the Ray cluster is gone") from None
        if good:
            return value
        raise value

    def kill(self) -> None:
        """See `pool.Worker`."""
        with contextlib.suppress(*_GONE):
            self._driver.kill(self._number)

    def leave(self) -> None:
        """See `pool.Worker`; Ray clears up after actors."""


class _Manager(BaseManager):
    """The process of the driver."""


class _Driver:
    """What the driver's process does, called from the threads of a pool."""

    def __init__(self, address: str, cpus: int) -> None:
        ready: Future[Any] = Future()
        # Ray's processes end with the thread that started them, so it stays; this one is gone when the call is answered
        threading.Thread(target=self._stay, args=(address, cpus, ready), daemon=True).start()
        self._ray, self._actors, self._numbers = ready.result(), {}, itertools.count()

    def _stay(self, address: str, cpus: int, ready: Future[Any]) -> None:
        if address == "local":  # a name of Ray's for: take the loopback interface, as it does on Windows and macOS
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a study calls nobody
        import ray

        here = {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": STORE}
        # workers train with this source, whatever is installed where they are
        source = {"py_modules": [str(Path(qkvlab.__file__).parent)]}
        quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
        try:
            ray.init(address, runtime_env=source, **quiet, **(here if address == "local" else {}))
        except BaseException as error:
            return ready.set_exception(Lost(" ".join(str(error).split())[:300] or type(error).__name__))
        ready.set_result(ray)
        threading.Event().wait()

    def resources(self) -> dict[str, float]:
        return dict(self._ray.cluster_resources())

    def start(self, threads: int, kind: str) -> int:
        if not any(node["Alive"] for node in self._ray.nodes()):  # Ray itself would wait for one
            raise Lost("no machine of the Ray cluster is alive")
        cards = 0 if kind == "cpu" else 1
        make = self._ray.remote(num_cpus=threads, num_gpus=cards, max_restarts=0, max_task_retries=0)(_Actor)
        number = next(self._numbers)
        self._actors[number] = make.remote(threads, kind)
        return number

    def call(self, number: int, function: Callable[..., Any], arguments: Any, limit: float) -> tuple[bool, Any]:
        errors, actor = self._ray.exceptions, self._actors.get(number)
        if actor is None:
            raise Lost("a Ray worker was ended")
        try:
            return self._ray.get(actor.answer.remote(function, arguments), timeout=limit)
        except errors.GetTimeoutError:
            raise Lost(f"a Ray worker did not answer within {limit:.0f} seconds") from None
        except errors.OutOfMemoryError:
            raise OutOfMemory("Ray ended a worker, since its machine had no memory left") from None
        except errors.RayError as error:
            raise Lost(f"a Ray worker was lost ({type(error).__name__})") from None

    def kill(self, number: int) -> None:
        actor = self._actors.pop(number, None)
        if actor is not None:
            self._ray.kill(actor)

    def close(self) -> None:
        self._ray.shutdown()


_Manager.register("Driver", _Driver)


class _Actor:
    def __init__(self, threads: int, kind: str) -> None:
        begin(threads, kind)

    def answer(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[bool, Any]:
        return answer(function, arguments)


def _begin_driver() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the study's to handle
    leave_with_parent(_end_ray)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # Ray prints on both, and a study's output may be one JSON document
        os.dup2(nowhere, stream)


def _end_ray() -> None:
    ray = sys.modules.get("ray")
    if ray is not None:  # a cluster of ours would leave some of its processes behind
        ray.shutdown()


def _reach(host: str, port: int) -> None:
    try:
        socket.create_connection((host, port), timeout=REACH).close()
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise BadInput(
            f"nothing answers at {host}:{port} ({why}); start a cluster with `ray start --head`, or use --ray local."
        ) from None


def _within(seconds: float, function: Callable[[], Any]) -> Any:
    """Call a function in a thread of its own; raise TimeoutError when it takes longer."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future.result(seconds)
