"""How every model of a study is trained: AdamW, warm-up, cosine decay, clipping; nothing here depends on the design."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from qkvlab.designs import Design
from qkvlab.designs.projections import Projections
from qkvlab.tasks import Task

BETAS = (0.9, 0.999)
EPS = 1e-8
WEIGHT_DECAY = 0.01
CLIP = 1.0
WARM_UP = 0.1
"""Share of the steps over which the rate rises from 0."""
POINTS = 50
"""How many losses of a run are kept: means over equally long stretches."""


@dataclass(frozen=True)
class Run:
    """One model to train: a seed and a learning rate."""

    seed: int
    lr: float


@dataclass(frozen=True)
class Trained:
    """What training one model gave.

    Attributes:
        losses: training loss, mean over equal stretches, at most `POINTS` of them.
        metrics: numbers of `Task.measure`.
        diverged: the loss or a weight stopped being finite.
        state: all parameters by name, on the CPU.
        steps: optimiser steps that were taken.
    """

    losses: tuple[float, ...]
    metrics: dict[str, float]
    diverged: bool
    state: dict[str, Tensor]
    steps: int


def schedule(step: int, steps: int) -> float:
    """Factor of the learning rate at a step: rises linearly, then falls along a cosine to 0.

    >>> [round(schedule(s, 20), 3) for s in (0, 1, 2, 11, 19)]
    [0.5, 1.0, 1.0, 0.5, 0.008]
    """
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))


def start(task: Task, setting: str, design: Design, seed: int) -> nn.Module:
    """Build a model at its starting point.

    Noise is drawn per parameter name, so equal names start equal across designs of one seed whatever else a
    model has; vectors that the task gives replace the noise, and so does a number at which a design starts a gain.
    """
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        model = task.model(setting, design)
        given = task.given(setting, seed)
        starts = _starts(model)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in given:
                    parameter.copy_(torch.from_numpy(given[name]))
                elif name in starts:
                    parameter.fill_(starts[name])
                else:
                    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
                    noise = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
                    parameter.normal_(std=1 / math.sqrt(3 * _fan_in(name, parameter)), generator=noise)
    return model


def _starts(model: nn.Module) -> dict[str, float]:
    found = ((name, module.starts) for name, module in model.named_modules() if isinstance(module, Projections))
    return {f"{prefix}.{name}": number for prefix, starts in found for name, number in starts.items()}


def _fan_in(name: str, parameter: Tensor) -> int:
    # matrices of a design stand as x @ W (rows in), those of nn.Linear as columns in
    return parameter.shape[0] if ".projections." in f".{name}" else parameter.shape[-1]


def stretch(steps: int) -> int:
    """Return the steps of one of the equal stretches by whose mean losses a run of so many steps is kept.

    >>> [stretch(steps) for steps in (3, 50, 200, 230)]
    [1, 1, 4, 5]
    """
    return max(1, math.ceil(steps / POINTS))


def stretches(losses: Tensor, length: int) -> list[list[float]]:
    """(steps, models) -> for each model the mean losses of stretches of so many steps."""
    if not len(losses):
        return [[] for _ in range(losses.shape[1])]
    parts = torch.split(losses.double(), length)
    return torch.stack([part.mean(0) for part in parts], dim=1).tolist()
