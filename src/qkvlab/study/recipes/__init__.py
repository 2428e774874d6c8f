"""Studies by name: one file each, found because it is here; its docstring is the question."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from types import ModuleType

from qkvlab.errors import unknown
from qkvlab.study.spec import Spec


@cache
def catalogue() -> dict[str, ModuleType]:
    """Return every recipe's module by name."""
    return {m.name: importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__)}


def find(name: str) -> Spec:
    """Return a recipe's study.

    Raises:
        BadInput: there is none of this name; the nearest is offered.
    """
    if name not in catalogue():
        raise unknown("recipe", name, catalogue())
    return catalogue()[name].recipe()
