"""Processes of one machine that want the same thing made: one makes it, the others wait and find it in the cache."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import platformdirs
from filelock import FileLock, Timeout

LOCKS = 32
"""Files; two things that share one are made one after the other."""
PATIENCE = 60.0
"""Seconds after which a process makes it by itself."""


@contextmanager
def turn(what: str) -> Iterator[None]:
    """Hold the turn to make ``what``, told by its text; where there can be no locks, everybody has it.

    A process that is killed gives its turn away.
    """
    # machines may share a home, but not what PyTorch keeps
    number = int(hashlib.sha256(f"{platform.node()}\n{what}".encode()).hexdigest(), 16) % LOCKS
    folder = platformdirs.user_cache_path("qkvlab", appauthor=False)
    held = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = FileLock(folder / f"making-{number:02}.lock").acquire(timeout=PATIENCE)
    except (OSError, Timeout):
        pass  # slower, and as right
    try:
        yield
    finally:
        if held is not None:
            held.lock.release()
