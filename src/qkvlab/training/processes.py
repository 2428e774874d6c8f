"""A worker that is a process of this machine: spawned, called through a pipe, killed at once, gone with its parent."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any

from qkvlab.training.faults import Lost
from qkvlab.training.workers import answer, begin

LEAVE = 3.0
"""Seconds that a process has to end by itself; then it is ended."""
_CONTEXT = multiprocessing.get_context("spawn")  # fork is unsafe once torch has threads


class ProcessWorker:
    """A process that does what it is called with, one call at a time.

    Args:
        threads: of PyTorch.
        device: that ``cuda`` means there, such as ``cuda:1``.
    """

    def __init__(self, threads: int, device: str) -> None:
        self._pipe, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_work, args=(theirs, threads, device), daemon=True)
        self._process.start()
        theirs.close()  # so that the end of the process is the end of the pipe

    def call(self, function: Callable[..., Any], *arguments: Any, limit: float) -> Any:
        """See `pool.Worker`."""
        try:
            self._pipe.send((function, arguments))
            if not self._pipe.poll(limit):
                raise Lost(f"a worker process did not answer within {limit:.0f} seconds")
            good, value = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(timeout=1)
            raise Lost(f"a worker process died ({_how(self._process.exitcode)})") from None
        if good:
            return value
        raise value

    def kill(self) -> None:
        """See `pool.Worker`."""
        self._process.kill()
        self._process.join(timeout=5)

    def leave(self) -> None:
        """See `pool.Worker`."""
        with contextlib.suppress(OSError):
            self._pipe.send(None)
        self._process.join(timeout=LEAVE)


def leave_with_parent(first: Callable[[], None] = lambda: None) -> None:
    """Let this process end when its parent does: one that was killed cannot tell its workers to stop.

    Args:
        first: called before, and given `LEAVE` seconds.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_leave_with, args=(parent.sentinel, first), daemon=True).start()


def _leave_with(sentinel: Any, first: Callable[[], None]) -> None:
    wait([sentinel])
    last = threading.Timer(LEAVE, os._exit, [1])
    last.daemon = True
    last.start()
    first()
    os._exit(1)


def _how(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit code {code}"
    return f"signal {-code}" + (", perhaps for want of memory" if code == -9 else "")


def _work(pipe: Connection, threads: int, device: str) -> None:
    leave_with_parent()
    begin(threads, device)
    while True:
        called = pipe.recv()
        if called is None:
            return
        pipe.send(answer(*called))
