"""A result as rows of the study file and back, bit for bit, with a checksum over all of it.

Two bits are let go on purpose: every NaN is one NaN, and zero has no sign. So equal numbers are equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qkvlab.errors import BadInput
from qkvlab.study.cells import Cell, Result

Metric = tuple[str, float | None, int]  # name, value, is_nan: as stored, where a NaN is NULL and 1

# The columns of a result's row that hold the result itself, in the order of `Record.columns`.
COLUMNS = (
    "cell, task, setting, design, role, seed, lr, diverged, losses, steps, seconds, models_in_group, device, "
    "versions, source"
)

DRIFT = 1e-3
"""By how much losses of one cell may differ, of 1 and of themselves, when it was trained in two ways."""


@dataclass(frozen=True)
class Record:
    """A result ready to be stored.

    Attributes:
        result: what it was made from.
        cell: digest of the cell, by which its other results are found.
        losses: little-endian float64.
        metrics: its rows of the metric table, by name.
        columns: the values of `COLUMNS`.
    """

    result: Result
    cell: bytes
    losses: bytes
    metrics: list[Metric]
    columns: tuple[Any, ...]

    @property
    def way(self) -> tuple[Any, ...]:
        """How it was trained: models in the group, device, versions. One cell in one way gives the same bits."""
        return self.columns[11:14]


def encode(result: Result) -> Record:
    """Make the rows of a result.

    Raises:
        BadInput: an integer beyond 64 bits, or text that is not Unicode (half of a surrogate pair).
    """
    cell = result.cell
    names = (cell.task, cell.setting, cell.design, cell.role)
    key = checksum([*names, int(cell.seed), repr(_number(cell.lr))], [])
    losses = struct.pack(f"<{len(result.losses)}d", *map(_number, result.losses))
    metrics = [(name, _nullable(value), int(math.isnan(value))) for name, value in sorted(result.metrics.items())]
    columns = (
        key,
        *names,
        int(cell.seed),
        _nullable(cell.lr),
        int(result.diverged),
        losses,
        int(result.steps),
        _nullable(result.seconds),
        int(result.group),
        result.device,
        json.dumps(result.versions, sort_keys=True),
        result.source,
    )
    for value in (*columns, *result.metrics):
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            bits = value.bit_length()
            raise BadInput(f"a result's seed, steps and group must fit in 64 bits; got one of {bits}.")
        if isinstance(value, str) and not _is_unicode(value):
            raise BadInput(f"a result's names must be Unicode text; got {value[:60]!a}.")
    return Record(result, key, losses, metrics, columns)


def decode(columns: Sequence[Any], metrics: Sequence[Metric]) -> Result:
    """Make a result of the values of `COLUMNS` and its metric rows."""
    _, *names, seed, lr, diverged, losses = columns[:9]
    steps, seconds, group, device, versions, source = columns[9:]
    return Result(
        cell=Cell(*names, seed=seed, lr=_back(lr)),
        metrics={name: _back(value) for name, value, _ in metrics},
        diverged=bool(diverged),
        losses=struct.unpack(f"<{len(losses) // 8}d", losses),
        steps=steps,
        seconds=_back(seconds),
        group=group,
        device=device,
        versions=json.loads(versions),
        source=source,
    )


def alike(losses: bytes, others: bytes) -> bool:
    """Say whether two stored curves of losses differ by no more than `DRIFT`."""
    if len(losses) != len(others):
        return False
    pairs = zip(*(struct.iter_unpack("<d", each) for each in (losses, others)), strict=True)
    return all(
        math.isclose(a, b, rel_tol=DRIFT, abs_tol=DRIFT) or (math.isnan(a) and math.isnan(b)) for (a,), (b,) in pairs
    )


def checksum(row: Sequence[Any], metrics: Sequence[Metric]) -> bytes:
    """Return 16 bytes that change with any value of a row or of its metrics."""
    plain = [value.hex() if isinstance(value, bytes) else value for value in row]
    return hashlib.blake2b(json.dumps([plain, metrics]).encode(), digest_size=16).digest()


def _number(value: float) -> float:
    return math.nan if math.isnan(value) else float(value) + 0.0  # -0.0 + 0.0 is 0.0


def _nullable(value: float) -> float | None:
    return None if math.isnan(value) else _number(value)


def _back(value: float | None) -> float:
    return math.nan if value is None else value


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
