"""Data with a known answer: one task per file, found because its file is here and states ``TASK``."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from qkvlab.errors import unknown
from qkvlab.tasks.task import Examples, Task

__all__ = ["Examples", "Task", "catalogue", "find"]


@cache
def catalogue() -> dict[str, Task]:
    """Return every task by name."""
    modules = (importlib.import_module(m.name) for m in pkgutil.iter_modules(__path__, __name__ + "."))
    return {m.TASK.name: m.TASK for m in modules if hasattr(m, "TASK")}


def find(name: str) -> Task:
    """Return a task.

    Raises:
        BadInput: there is none of this name; the nearest is offered.
    """
    if name not in catalogue():
        raise unknown("task", name, catalogue())
    return catalogue()[name]
