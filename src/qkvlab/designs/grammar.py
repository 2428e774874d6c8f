"""One grammar for design names: ``QKV``, ``QQV``, ``QKK/kv2``, ``uniform``; printed names parse back.

design  = way ["/kv" number] | control
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from functools import cache

import qkvlab.designs as folder
from qkvlab.designs.design import Design
from qkvlab.designs.ways import PATTERNS, Way
from qkvlab.errors import unknown

_WAY = re.compile(r"(?P<pattern>[A-Za-z]{3})(?:/kv(?P<groups>[0-9]{1,6}))?", re.ASCII | re.IGNORECASE)


@cache
def examples() -> dict[str, Design]:
    """Return every example of every file in ``designs/``, by name: the fifteen ways, then the others."""
    found: dict[str, Design] = {}
    for module in pkgutil.iter_modules(folder.__path__, folder.__name__ + "."):
        if not module.name.endswith(".projections"):  # the only file here that needs PyTorch
            for design in getattr(importlib.import_module(module.name), "EXAMPLES", ()):
                found[design.name] = design
    ways = [name for name in found if name[:3] in PATTERNS]
    return {name: found[name] for name in (*ways, *(n for n in found if n not in ways))}


def catalogue() -> dict[str, Design]:
    """Return the designs that a study can name without parameters: fifteen ways and the controls."""
    return {name: design for name, design in examples().items() if "/" not in name}


def parse(name: str) -> Design:
    """Read a design's name, in any case.

    Raises:
        BadInput: no design has this name; the nearest that exists is offered.
        Refusal: the parts exist but exclude each other.

    >>> parse("qkk/kv2").name
    'QKK/kv2'
    """
    plain = name.strip()
    for known, design in catalogue().items():
        if known.lower() == plain.lower():
            return design
    match = _WAY.fullmatch(plain)
    if match and match["pattern"].upper() in PATTERNS:
        return Way(match["pattern"].upper(), int(match["groups"]))
    raise unknown("design", name, catalogue())
