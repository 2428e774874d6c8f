"""One file per family of models: which modules it handles, how their weights are read, how they are called.

A file states ``MODULES`` (class name -> model type), ``PROJECTIONS`` (the submodules that a design replaces), ``read``
and ``Rebuilt``, which is mixed in front of the model's own class.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import Any, Protocol

from torch import nn

from qkvlab.hf.reading import Reading
from qkvlab.hf.shared import Shared


class Family(Protocol):
    """What a file of this folder states."""

    MODULES: dict[str, str]
    PROJECTIONS: tuple[str, ...]
    Rebuilt: type[Shared]

    def read(self, module: Any) -> Reading | None:
        """Read the weights; None where the module is of another kind, such as cross-attention."""
        ...


@cache
def families() -> tuple[Family, ...]:
    """Return every file of this folder."""
    names = (found.name for found in pkgutil.iter_modules(__path__, __name__ + "."))
    return tuple(importlib.import_module(name) for name in names)  # type: ignore[misc]


def family_of(module: nn.Module) -> Family | None:
    """Return the family that handles a module, if one does."""
    kind = type(module)
    if not kind.__module__.startswith("transformers.models."):
        return None
    return next((family for family in families() if kind.__name__ in family.MODULES), None)


def model_types() -> list[str]:
    """Return the model types that are handled, sorted."""
    return sorted({kind for family in families() for kind in family.MODULES.values()})
