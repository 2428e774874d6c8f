"""How long a study took on the wall: its calls, each noted every few seconds while it trains."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

from qkvlab.errors import StoreError

EVERY = 2.0
"""Seconds between notes: as much of a call is lost at most when it is killed."""


@dataclass(frozen=True)
class Session:
    """One call that trained.

    Attributes:
        number: 1 for the first of a study.
        begun: seconds since 1970.
        seconds: that it took on the wall, until it was last noted.
        cores: that its workers shared; None where they were on a cluster.
        workers: most that there were at the same time.
        before: results that were stored when it began.
    """

    number: int
    begun: float
    seconds: float
    cores: int | None
    workers: int
    before: int


def account(sessions: Sequence[Session]) -> dict[str, Any] | None:
    """Sum up how long a study took; None where nobody noted it.

    ``before`` counts the results of older versions, which noted nothing: their time is not in the sum.
    """
    if not sessions:
        return None
    return {
        "seconds": round(sum(each.seconds for each in sessions), 1),
        "calls": len(sessions),
        "cores": sorted({each.cores for each in sessions if each.cores is not None}),
        "workers": sorted({each.workers for each in sessions if each.workers}),
        "before": sessions[0].before,
    }


class Clock:
    """Notes how long a call takes, from a thread, since training and trials keep the others waiting.

    Args:
        note: stores a session in place of what was noted of it before.
        session: as it begins.
        begun: when that was, by the monotonic clock.
    """

    def __init__(self, note: Callable[[Session], None], session: Session, begun: float) -> None:
        self._note, self._session, self._begun = note, session, begun
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def working(self, workers: int) -> None:
        """Note how many workers there are, once there are more than before."""
        if workers > self._session.workers:
            self._session = replace(self._session, workers=workers)
            self._now()

    def __enter__(self) -> Self:
        self._now()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        with contextlib.suppress(StoreError) if error is not None else contextlib.nullcontext():
            self._now()

    def _run(self) -> None:
        while not self._over.wait(EVERY):
            with contextlib.suppress(StoreError):  # a full disk is for the results to tell
                self._now()

    def _now(self) -> None:
        self._note(replace(self._session, seconds=time.monotonic() - self._begun))
