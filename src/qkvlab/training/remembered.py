"""What short trials found, kept per machine in the user's cache folder; a study without a cache tries again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import platformdirs
from pydantic import TypeAdapter

if TYPE_CHECKING:
    from qkvlab.training.layout import Layout
    from qkvlab.training.precision import Costs
    from qkvlab.training.trial import Trial

_T = TypeVar("_T", "Costs", "Layout", "Trial")


class Remembered(Generic[_T]):
    """Answers of one kind of trial, a file each.

    Args:
        kind: first part of the files' names.
        form: class of the answers, whose ``measured`` is False for those that were remembered.
    """

    def __init__(self, kind: str, form: type[_T]) -> None:
        self._kind, self._form = kind, TypeAdapter(form)

    def file(self, key: list[Any]) -> Path:
        """Return where the answer lies that depends on these facts."""
        name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
        return Path(platformdirs.user_cache_dir("qkvlab", appauthor=False)) / f"{self._kind}-{name}.json"

    def read(self, path: Path) -> _T | None:
        """Return what is remembered; None where nothing is, or what another version or nobody can have meant."""
        try:
            return replace(self._form.validate_json(path.read_bytes(), strict=True), measured=False)
        except (OSError, ValueError):
            return None

    def write(self, path: Path, found: _T) -> None:
        """Remember an answer; where that cannot be, the next study tries again."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._form.dump_json(found, exclude={"measured"}))
        except OSError:
            return
