"""Data with a known answer: one task per file, found because its file is here and states ``TASK``."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from pathlib import Path

from qkvlab.errors import unknown
from qkvlab.tasks.task import Examples, Match, Task
from qkvlab.tasks.title import Title

__all__ = ["Examples", "Match", "Task", "Title", "catalogue", "find"]


@cache
def catalogue() -> dict[str, Task]:
    """Return every task by name."""
    modules = (importlib.import_module(m.name) for m in pkgutil.iter_modules(__path__, __name__ + "."))
    return {m.TASK.name: m.TASK for m in modules if hasattr(m, "TASK")}


def find(name: str, file: Path | None = None) -> Task:
    """Return a task.

    Args:
        name: of the task.
        file: what it reads instead of its own data, where it can; other tasks ignore it.

    Raises:
        BadInput: there is none of this name, the nearest is offered; or the file cannot be used.
    """
    if name not in catalogue():
        raise unknown("task", name, catalogue())
    return catalogue()[name].reading(file)
