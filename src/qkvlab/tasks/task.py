"""What a task is: data with a known answer, a loss and a judged metric. Data are NumPy arrays; no PyTorch here.

Every task is a classification: ``model(*inputs)`` gives logits (..., classes) for whole-number targets (...).
All data of a run follow from (task version, setting, seed): both arms of a comparison see the same ones.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from qkvlab.contracts import Cost, Dims, Words
from qkvlab.errors import unknown
from qkvlab.tasks.title import Title

if TYPE_CHECKING:
    from torch import nn

    from qkvlab.designs import Design
    from qkvlab.tasks.network import Network

Call = Callable[..., np.ndarray]
"""``call(method, *inputs)`` runs a method of many models at once; inputs and result lead with the model axis."""


Match = Literal["none", "params", "flops"]
"""Which budget is made equal across designs."""


@dataclass(frozen=True)
class Examples:
    """Inputs and targets; all arrays share their leading axes (steps, batch) or (batch,)."""

    inputs: tuple[np.ndarray, ...]
    targets: np.ndarray


class Task(ABC):
    """One task with its settings. Subclasses are frozen dataclasses and state ``TASK`` in their file."""

    name: str
    version: int
    words: Words
    metric: str
    """The judged metric: a loss, smaller is better."""
    delta: float
    """The smallest difference of the metric that matters; it stood here before the first run."""
    sources: tuple[str, ...]
    """Files of the package, such as ``models/reader.py``, that define this task's numbers."""
    halves: bool = False
    """Whether products in bf16 are known to leave its verdicts as they are (`benchmarks/precision.py`)."""
    shown: tuple[str, ...] = ()
    """Settings whose trained models a report shows, so that their weights are saved."""
    rates: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03)
    """Learning rates to tune over, before any extension of the grid."""
    tune_seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds that choose rates and are never judged."""

    def reading(self, file: Path | None) -> Self:
        """Return this task on the user's file; a task that reads none returns itself.

        Raises:
            BadInput: a file that this task cannot use, with what to do.
        """
        return self

    @abstractmethod
    def settings(self) -> tuple[str, ...]:
        """All settings, in the order in which a study runs them."""

    def setting(self, name: str) -> str:
        """Check a setting's name.

        Raises:
            BadInput: there is none of this name.
        """
        if name not in self.settings():
            raise unknown(f"setting of {self.name}", name, self.settings())
        return name

    @abstractmethod
    def describe(self, setting: str) -> Words:
        """Say in a sentence what is asked in this setting."""

    @abstractmethod
    def title(self, setting: str) -> Title:
        """Name a setting in a few words."""

    def match(self, setting: str) -> Match:
        """Say which budget is made equal across designs, by the width of the feed-forward part."""
        return "none"

    def bar(self, setting: str) -> float | None:
        """The judged metric that the baseline must reach in tuning for this setting to count; None for no bar."""
        return None

    @abstractmethod
    def chance(self, setting: str) -> float:
        """The metric of an attention that sees no content."""

    @abstractmethod
    def facts(self, setting: str) -> dict[str, Any]:
        """Every number that defines a run (sizes, steps, batch), for the registration."""

    @abstractmethod
    def network(self, setting: str, design: Design) -> Network:
        """Sizes of the model and of its data; parameters, FLOPs and memory follow from them."""

    def cost(self, setting: str, design: Design) -> Cost:
        """Cost of the design at this setting's sizes."""
        return self.network(setting, design).cost(design)

    def parameters(self, setting: str, design: Design) -> int:
        """All parameters of the model, trained or not.

        Raises:
            Refusal: the design cannot exist at this setting's sizes.
        """
        return self.network(setting, design).parameters(design)

    @abstractmethod
    def steps(self, setting: str) -> int:
        """Optimiser steps of one run, equal for all designs."""

    @abstractmethod
    def given(self, setting: str, seed: int) -> dict[str, np.ndarray]:
        """Start values of named parameters that the task sets itself, such as the vectors of words."""

    @abstractmethod
    def batches(self, setting: str, seed: int) -> Examples:
        """Draw the training data of a seed: leading axes (steps, batch)."""

    @abstractmethod
    def model(self, setting: str, design: Design) -> nn.Module:
        """Build the model that learns this setting (imports PyTorch)."""

    @abstractmethod
    def measure(self, setting: str, seeds: Sequence[int], call: Call) -> list[dict[str, float]]:
        """Examine trained models on held-out data, one model per seed; the judged metric is among the numbers."""

    def before(self, setting: str, seeds: Sequence[int], call: Call) -> list[dict[str, float]]:
        """Look at models before their first step; names differ from those of `measure`. Nothing unless overridden."""
        return [{} for _ in seeds]

    def rng(self, setting: str, seed: int, purpose: str) -> np.random.Generator:
        """Return the generator of one purpose; purposes, settings and seeds never share numbers."""
        text = f"{self.name} {self.version} {setting} {purpose}"
        return np.random.default_rng([zlib.crc32(text.encode()), seed])


def joining(design: Design, dims: Dims, *, bias: bool = True) -> int:
    """Return how many numbers join the heads of a layer: W_O and, if asked for and there, its bias."""
    sizes = design.sizes(dims)
    return (sizes.heads * sizes.d_value + (bias and design.out_bias)) * sizes.d_model
