"""Whether steps whose products are in bf16 are faster here, found by a short measured trial that is kept per machine.

It is asked before a study is registered, since the precision belongs to what is registered. What is measured are the
steps that the study would take: compiled ones where it has the time for which compiling pays, else plain ones.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import PositiveFloat

from qkvlab.contracts import Products
from qkvlab.training.faults import Lost, OutOfMemory
from qkvlab.training.layout import SECONDS, WORTH, sized, unit
from qkvlab.training.place import Place, cores
from qkvlab.training.remembered import Remembered
from qkvlab.training.workers import Order

ROUNDS = 2
"""Both are measured in turn so often; the least counts."""
WORTHWHILE = 0.95
"""Less of a step's cost than this must be left: a smaller gain may be chance, and fp32 is what people expect."""
_UNITS = {"avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16", "svebf16"}
"""Flags of processors that multiply bf16, by the names of Linux; without any, bf16 is slower for certain."""


@dataclass(frozen=True)
class Costs:
    """Seconds of work for a step of one model.

    Attributes:
        fp32: with products in fp32.
        bf16: with products in bf16.
        measured: False when the answer comes from the cache.
    """

    fp32: PositiveFloat
    bf16: PositiveFloat
    measured: bool = True

    @property
    def faster(self) -> Products:
        """The precision to take."""
        return "bf16" if self.bf16 < WORTHWHILE * self.fp32 else "fp32"


_KEPT = Remembered("products", Costs)


def faster(order: Order, facts: dict[str, Any], place: Place, seconds: float, tell: Callable[[str], None]) -> Products:
    """Return the precision of products by which such groups are trained fastest, measured or remembered.

    Args:
        order: a group whose runs are repeated to the size that is tried.
        facts: sizes of the task, part of the cache's key.
        place: where to train.
        seconds: how long there is for the study.
        tell: called with a line about what is being tried.
    """
    if order.device == "mps" or (place.cores is not None and order.device == "cpu" and not _multiplied_here()):
        return "fp32"
    size = unit(order.device)
    order = replace(sized(order, size), unit=size if seconds > WORTH else 0)
    path = _cache_file(order, facts, place.name)
    found = _KEPT.read(path)
    if found is None:
        tell(f"{order.task}: products in fp32 and in bf16{', compiled steps' if order.unit else ''}")
        try:
            found = _measured(order, place)
        except (Lost, OutOfMemory):  # the trial of the layout comes next, and can say more
            return "fp32"
        _KEPT.write(path, found)
    return found.faster


def _measured(order: Order, place: Place) -> Costs:
    both: tuple[Products, Products] = ("fp32", "bf16")
    workers = place.pool(1, 1)
    try:
        rounds = [
            [workers.rate(replace(order, products=each), 1, everywhere=False, seconds=SECONDS).cost for each in both]
            for _ in range(ROUNDS)
        ]
    finally:
        workers.close()
    return Costs(*map(min, zip(*rounds, strict=True)))


def _multiplied_here() -> bool:
    try:
        words = Path("/proc/cpuinfo").read_text().split()
    except OSError:  # not Linux: the trial will tell
        return True
    return not _UNITS.isdisjoint(words)


def _cache_file(order: Order, facts: dict[str, Any], place: str) -> Path:
    machine = [platform.node(), platform.machine(), cores(), version("torch"), version("qkvlab")]
    return _KEPT.file([machine, order.task, order.device, order.unit, facts, *filter(None, [place])])
