"""Trained weights that are shown or shipped: one safetensors file per model, with its origin inside."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from qkvlab.errors import StoreError
from qkvlab.study.cells import Result


def path_of(folder: Path, task: str, setting: str, design: str) -> Path:
    """Return where a model's weights lie: ``models/<task>/<setting>/<design>.safetensors``."""
    return folder / "models" / task / setting.replace("/", "-") / f"{design.replace('/', '-')}.safetensors"


def save(folder: Path, result: Result, state: dict[str, np.ndarray]) -> Path:
    """Write a model beside its study, whole or not at all.

    Raises:
        StoreError: the folder cannot be written.
    """
    cell = result.cell
    path = path_of(folder, cell.task, cell.setting, cell.design)
    origin = {
        **asdict(cell),
        "metrics": json.dumps(result.metrics),
        "versions": json.dumps(result.versions),
        "source": result.source,
        "device": result.device,
    }
    _write(path, state, {name: str(value) for name, value in origin.items()})
    return path


def ship_model(source: Path, target: Path) -> None:
    """Copy a model, rounded to half precision: shipped models stay small, and answers do not change visibly."""
    state, origin = load(source)
    _write(target, {n: w.astype(np.float16) for n, w in state.items()}, {**origin, "rounded": "float16"})


def _write(path: Path, state: dict[str, np.ndarray], origin: dict[str, str]) -> None:
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: np.ascontiguousarray(w) for name, w in state.items()}, part, origin)
        os.replace(part, path)
    except (OSError, SafetensorError) as error:  # safetensors has an error of its own for a full disk
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        why = getattr(error, "strerror", None) or error
        raise StoreError(f"cannot write {path}: {why}; free space or use another --out.") from None


def load(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read a model's weights and origin back."""
    with safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
