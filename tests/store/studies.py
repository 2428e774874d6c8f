"""What the tests of the store share: a small registered study, its results, and the sentence of a refusal."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qkvlab.errors import StoreError
from qkvlab.study.cells import Cell, Result

BATCH = 4
SEEDS = 8000


def registration(arms: tuple[str, ...] = ("QKV", "QQV"), **changes: Any) -> dict[str, Any]:
    return {
        "recipe": "ways",
        "tasks": [{"task": "recall", "setting": "small", "steps": 200, "arms": {name: {} for name in arms}}],
        "designs": list(arms),
        "seeds": {"tune": [900_000, 900_001], "judge": list(range(SEEDS))},
        "alpha": 0.05,
        "source": "abc123",
        **changes,
    }


def result(seed: int = 0, *, off: float = 0.0, source: str = "abc123", **cell: Any) -> Result:
    """Return the one record that this seed has, so that what is read can be compared with what was sent."""
    place = {"task": "recall", "setting": "small", "design": "QKV", "role": "judge", "lr": 3e-3} | cell
    return Result(
        cell=Cell(seed=seed, **place),
        metrics={"accuracy": seed / 7 + off, "margin": math.nan if seed % 3 == 0 else -math.inf},
        diverged=seed % 3 == 0,
        losses=tuple((seed + 1) / (step + 1) for step in range(16)),
        steps=200,
        seconds=0.25,
        group=BATCH,
        device="cpu",
        versions={"torch": "2.13.0", "python": "3.11"},
        source=source,
    )


def batch(number: int) -> list[Result]:
    return [result(seed) for seed in range(number * BATCH, (number + 1) * BATCH)]


def bits(what: Result) -> tuple[Any, ...]:
    """Return a form in which NaN equals NaN and nothing else is forgiven."""
    plain = dataclasses.asdict(what)
    plain["metrics"] = {name: struct.pack("<d", value) for name, value in what.metrics.items()}
    plain["losses"] = struct.pack(f"<{len(what.losses)}d", *what.losses)
    plain["seconds"] = struct.pack("<d", what.seconds)
    plain["cell"]["lr"] = struct.pack("<d", what.cell.lr)
    return tuple(plain.items())


def same(left: list[Result], right: list[Result]) -> bool:
    return [bits(one) for one in left] == [bits(one) for one in right]


def torn(results: list[Result]) -> list[int]:
    """Return the batches of which some but not all results are there."""
    there: dict[int, int] = {}
    for one in results:
        number = one.cell.seed // BATCH
        there[number] = there.get(number, 0) + 1
    return [number for number, count in there.items() if count != BATCH]


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file but the lock, which is not the study."""
    files = (path for path in folder.iterdir() if path.is_file() and path.name != "study.lock")
    return {path.name: path.read_bytes() for path in files}


@contextlib.contextmanager
def refused(*phrases: str) -> Iterator[None]:
    """Expect a StoreError of one readable line that contains the phrases."""
    with pytest.raises(StoreError) as caught:
        yield
    text = str(caught.value)
    assert text.isprintable() and len(text) < 800, text
    assert caught.value.exit_code == 3
    for phrase in phrases:
        assert phrase in text, text
