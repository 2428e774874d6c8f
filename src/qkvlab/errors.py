"""Everything qkvlab raises for its users.

    QkvlabError                 exit code 2
    ├── BadInput(ValueError)    an argument, name, file or number that cannot be meant
    │   └── Refusal             a design that these dimensions cannot carry; names the numbers
    ├── WorkerError             exit code 1: a worker process died; run again to continue
    └── StoreError              exit code 3: the study file is locked, foreign, newer, damaged or unwritable

Bugs of ours are `AssertionError`s and are not caught.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class QkvlabError(Exception):
    """Base of every error that a user can cause and mend; its text is one line that says what to do."""

    exit_code = 2


class BadInput(QkvlabError, ValueError):
    """An argument, a name, a file or a number that cannot be meant."""


class Refusal(BadInput):
    """A design that cannot exist at these dimensions; the text names the numbers."""


class WorkerError(QkvlabError):
    """A worker process died; nothing that was stored is lost and the same command continues."""

    exit_code = 1


class StoreError(QkvlabError):
    """The study file cannot be used: locked, foreign, newer, damaged, unwritable or full."""

    exit_code = 3


def unknown(kind: str, got: str, known: Iterable[str]) -> BadInput:
    """Build the error for a name that does not exist, offering the nearest one that does.

    >>> str(unknown("design", "QQW", ["QKV", "QQV"]))
    "unknown design 'QQW'; did you mean 'QQV'? Known: QKV, QQV."
    """
    names = list(known)
    shown = got if len(got) <= 60 else got[:57] + "..."
    near = max(names, key=lambda name: _likeness(shown, name), default="")
    hint = f"; did you mean {near!r}?" if near and _likeness(shown, near)[0] >= 0.4 else "."
    return BadInput(f"unknown {kind} {shown!r}{hint} Known: {', '.join(names)}.")


def _likeness(got: str, name: str) -> tuple[float, int]:
    # case does not matter; of equally similar names the one with more letters in their place, then the first
    a, b = got.lower(), name.lower()
    return difflib.SequenceMatcher(None, a, b).ratio(), sum(x == y for x, y in zip(a, b, strict=False))
