"""One grammar for design names: ``QKV``, ``QKK/kv2``, ``QQV/noself``, ``uniform``; printed names parse back.

design  = (way ["/kv" number] | control | base) {"/" part}

A base stands in a file of its own that states ``BASE``: a pattern, which may hold slashes, and what it makes. A part
likewise states ``PART``: a pattern and what it makes of the design before the slash. Parts work in the order in which
they stand: ``QKV/qknorm/rope`` norms queries and keys, then rotates them. A name for a famous point of this space
stands in ``NAMES`` of the file that it is about.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable
from functools import cache
from types import ModuleType

import qkvlab.designs as folder
from qkvlab.designs.design import Design
from qkvlab.designs.misread import misread
from qkvlab.designs.ways import PATTERNS, Way
from qkvlab.errors import BadInput, unknown

_WAY = re.compile(r"(?P<pattern>[A-Za-z]{3})(?:/kv(?P<groups>[0-9]{1,6}))?", re.ASCII | re.IGNORECASE)


_OF_TENSORS = ("latents", "projections", "turning")  # the only files here that need PyTorch, which names do not

LONGEST = 100
"""Characters of a name; no design needs more."""


@cache
def _modules() -> tuple[ModuleType, ...]:
    names = (module.name for module in pkgutil.iter_modules(folder.__path__, folder.__name__ + "."))
    return tuple(importlib.import_module(name) for name in names if name.rpartition(".")[2] not in _OF_TENSORS)


@cache
def examples() -> dict[str, Design]:
    """Return every example of every file in ``designs/``, by name: the fifteen ways, other wholes, then parts."""
    found: dict[str, Design] = {}
    for module in _modules():
        for design in getattr(module, "EXAMPLES", ()):
            found[design.name] = design
    return _ordered(found)


def _ordered(found: dict[str, Design]) -> dict[str, Design]:
    order = sorted(found, key=lambda name: ("/" in name, name[:3] not in PATTERNS))
    return {name: found[name] for name in order}


@cache
def shown() -> dict[str, Design]:
    """Return what a listing shows of every file, by name, in the order of `examples`: ``SHOWN``, or its examples.

    Examples are for tests and have tiny numbers, such as a window of 3; ``SHOWN`` has usual ones.
    """
    found = [design for module in _modules() for design in getattr(module, "SHOWN", getattr(module, "EXAMPLES", ()))]
    return _ordered({design.name: design for design in found})


@cache
def bases() -> tuple[tuple[str, Callable[..., Design]], ...]:
    """Return the bases of every file in ``designs/``: the pattern of each and what makes it."""
    return tuple(module.BASE for module in _modules() if hasattr(module, "BASE"))


@cache
def famous() -> dict[str, str]:
    """Return the names of famous points, each with the design's own name, from every file in ``designs/``."""
    return {name: design for module in _modules() for name, design in getattr(module, "NAMES", {}).items()}


@cache
def parts() -> tuple[tuple[str, Callable[..., Design]], ...]:
    """Return the parts of every file in ``designs/``: the pattern of each and what makes it of an inner design."""
    return tuple(module.PART for module in _modules() if hasattr(module, "PART"))


def catalogue() -> dict[str, Design]:
    """Return the designs whose name has neither numbers nor parts: the fifteen ways, controls, forms between."""
    return {name: design for name, design in examples().items() if name.isalpha()}


def parse(name: str) -> Design:
    """Read a design's name, in any case.

    Raises:
        BadInput: no design has this name; the first piece that cannot be read is named, and the nearest that exists.
        Refusal: the parts exist but exclude each other.

    >>> parse("qkk/kv2").name
    'QKK/kv2'
    """
    if not isinstance(name, str):
        raise BadInput(f"the name of a design is a text such as 'QKV/rope'; got {name!r}.")
    plain = name.strip()
    for known, design in catalogue().items():
        if known.lower() == plain.lower():
            return design
    if plain.lower() in famous():
        return parse(famous()[plain.lower()])
    for pattern, make in bases():
        base = re.fullmatch(pattern, plain[:LONGEST], re.ASCII | re.IGNORECASE)
        if base and len(plain) <= LONGEST:
            return make(*base.groups())
    match = _WAY.fullmatch(plain)
    if match and match["pattern"].upper() in PATTERNS:
        return Way(match["pattern"].upper(), int(match["groups"]))
    before, _, last = plain.rpartition("/")
    if before and len(plain) <= LONGEST:
        inner = parse(before)
        for pattern, make in parts():
            part = re.fullmatch(pattern, last, re.ASCII | re.IGNORECASE)
            if part:
                return make(inner, *part.groups())
        raise misread(inner, last, shown().values())
    raise unknown("design", name, (*catalogue(), *famous()))
