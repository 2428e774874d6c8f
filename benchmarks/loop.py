"""The loop that anybody would write, to hold the engine against: one model, ordinary modules, all cores as threads."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from qkvlab import designs
from qkvlab.attention import Attention
from qkvlab.tasks.task import Task
from qkvlab.training import recipe
from qkvlab.training.device import settle

WARM_UP = 3
"""Steps that are not counted."""


def loop_rate(task: Task, setting: str, design: str, seconds: float, device: str = "cpu") -> float:
    """Steps per second of one model as anybody would train it: eager, fused attention, fused AdamW, clipped."""
    model = recipe.start(task, setting, designs.parse(design), 0).to(device)
    for module in model.modules():
        if isinstance(module, Attention):
            module.route = "fused"
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=0.01, fused=True)
    data = task.batches(setting, 0)
    inputs, targets = [torch.from_numpy(a).to(device) for a in data.inputs], torch.from_numpy(data.targets).to(device)

    def step(i: int) -> None:
        loss = F.cross_entropy(model(*(a[i] for a in inputs)).flatten(0, -2), targets[i].flatten())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, recipe.CLIP)
        optimiser.step()

    return rate(step, len(targets), seconds, device)


def rate(step: Callable[[int], Any], most: int, seconds: float, device: str = "cpu") -> float:
    """Steps per second, over so many seconds or as many steps as there are."""
    for i in range(WARM_UP):
        step(i)
    settle(device)
    begun, done = time.perf_counter(), 0
    while done + WARM_UP < most and time.perf_counter() - begun < seconds:
        step(done + WARM_UP)
        done += 1
        if done % 10 == 0:  # else Python would be ahead of a card by many seconds
            settle(device)
    settle(device)
    return done / (time.perf_counter() - begun)
