"""A pool of workers that train groups: one queue, and for each worker a thread that calls, watches and replaces it.

What a worker is stands elsewhere: a process of this machine (`processes`) or an actor of a Ray cluster (`cluster`). A
worker that dies, hangs or runs out of memory costs the group it trained and nobody else anything.
"""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol

from qkvlab.training.faults import Lost, OutOfMemory
from qkvlab.training.workers import Delivery, Order, Speed, measure, ready, train, warm_up

START = 90.0
"""Seconds in which a worker must be ready; most of them import PyTorch."""
STARTS = 3
"""Starts in a row that may fail before the place of a worker is given up."""
LEAVE = 5.0
"""Seconds that a worker has to leave by itself."""
TRIAL = 600.0
"""Seconds that a part of a trial may take, compiling included."""


class Worker(Protocol):
    """What the pool asks of a worker; making one does not wait until it is ready."""

    def call(self, function: Callable[..., Any], *arguments: Any, limit: float) -> Any:
        """Call a function of this package in the worker and return what it returns, or raise what it raises.

        Raises:
            Lost: the worker died, or took longer than ``limit`` seconds.
        """
        ...

    def kill(self) -> None:
        """End the worker at once, whatever it does; callable from any thread, and twice."""
        ...

    def leave(self) -> None:
        """Let a worker that nobody calls end by itself, and wait for it a little."""
        ...


class Pool:
    """Workers behind one queue.

    Args:
        start: makes the worker of a place, 0 to ``processes - 1``.
        processes: how many groups are trained at the same time.
        threads: of each worker.
    """

    def __init__(self, start: Callable[[int], Worker], processes: int, threads: int) -> None:
        self.processes, self.threads = processes, threads
        self._start = start
        self._waiting: queue.SimpleQueue[tuple[Future[Any], Callable[[Worker], Any]] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._workers: dict[int, Worker] = {}
        self._places, self._closed = processes, False
        self._trouble: Lost | None = None
        self._idle: set[int] = set()
        self._threads = [threading.Thread(target=self._serve, args=(i,), daemon=True) for i in range(processes)]
        for thread in self._threads:
            thread.start()

    def train(self, order: Order, limit: float) -> Future[Delivery]:
        """Train one group in whichever worker is free.

        The future raises `Lost` (the worker died, or trained for more than ``limit`` seconds), `OutOfMemory`, or what
        the training raised.
        """
        return self._submit(lambda worker: worker.call(train, order, limit=limit))

    def rate(self, order: Order, threads: int, *, everywhere: bool, seconds: float) -> Speed:
        """Measure how fast a group is trained, in one worker or in all of them at the same time."""
        count = self.processes if everywhere else 1
        together = threading.Barrier(count)

        def trial(worker: Worker) -> Speed:
            try:
                worker.call(warm_up, order, threads, limit=TRIAL)
                together.wait(START + TRIAL)
                return worker.call(measure, seconds, limit=TRIAL)
            except BaseException:
                together.abort()
                raise

        futures = [self._submit(trial) for _ in range(count)]
        errors = [error for future in futures if (error := future.exception()) is not None]
        for error in sorted(errors, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
            raise error  # the first cause, not that others waited for it
        speeds = [future.result() for future in futures]
        rate, cost = sum(s.rate for s in speeds), max(s.cost for s in speeds)
        return Speed(rate, cost, max(s.ready for s in speeds), speeds[0].remark)

    def close(self) -> None:
        """Drop what has not begun, end the workers that train without waiting for them, and let the others leave."""
        with self._lock:
            self._closed = True
            busy = [worker for place, worker in self._workers.items() if place not in self._idle]
        self._drop(None)
        for worker in busy:
            worker.kill()
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join(LEAVE)

    def _submit(self, job: Callable[[Worker], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        with self._lock:
            if self._trouble is not None:
                future.set_exception(self._trouble)
            else:
                self._waiting.put((future, job))
        return future

    def _serve(self, place: int) -> None:
        """Keep the worker of a place alive and busy, until the pool is closed or no worker will start there."""
        if hasattr(signal, "pthread_sigmask"):  # Ctrl-C is the main thread's, and never a worker's
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        failed = 0
        while not self._closed:
            try:
                worker = self._fresh(place)
                worker.call(ready, limit=START)
            except Lost as error:
                failed += 1
                self._end(place)
                if failed == STARTS:
                    return self._give_up(error)
                continue
            failed = 0
            self._work(place, worker)
            self._end(place)

    def _work(self, place: int, worker: Worker) -> None:
        """Call a worker until it is lost or its memory is spent, which only a new process gives back for certain."""
        while (taken := self._next(place)) is not None:
            future, job = taken
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(job(worker))
            except (Lost, OutOfMemory) as error:
                future.set_exception(error)
                return
            except BaseException as error:
                future.set_exception(error)
        worker.leave()

    def _next(self, place: int) -> tuple[Future[Any], Callable[[Worker], Any]] | None:
        """Wait for what is to be done at a place; None when the pool is closed."""
        self._idle.add(place)
        taken = self._waiting.get()
        with self._lock:
            self._idle.discard(place)
            if self._closed and taken is not None:
                taken[0].cancel()
                return None
        return taken

    def _fresh(self, place: int) -> Worker:
        with self._lock:
            if self._closed:
                raise Lost("the pool is closed")
            self._workers[place] = self._start(place)
            return self._workers[place]

    def _end(self, place: int) -> None:
        with self._lock:
            worker = self._workers.pop(place, None)
        if worker is not None:
            worker.kill()

    def _give_up(self, error: Lost) -> None:
        """Leave a place; the last one to leave answers for all that wait and all that come."""
        with self._lock:
            self._places -= 1
            if self._places or self._closed:
                return
            self._trouble = error
        self._drop(error)

    def _drop(self, error: Lost | None) -> None:
        """Cancel all that wait, or let them raise an error."""
        with contextlib.suppress(queue.Empty):
            while True:
                taken = self._waiting.get_nowait()
                if taken is not None and error is None:
                    taken[0].cancel()
                elif taken is not None:
                    taken[0].set_exception(error)
