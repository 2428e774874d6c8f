"""One model after another, as anybody would write it: the yardstick of batched training, for truth and for speed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from qkvlab.designs import Design
from qkvlab.tasks import Task
from qkvlab.training import recipe
from qkvlab.training.recipe import Run, Trained


def train_one(
    task: Task, setting: str, design: Design, run: Run, *, steps: int | None = None, device: str = "cpu"
) -> Trained:
    """Train one run with torch's own optimiser, schedule and clipping; arguments as `train_together`."""
    model = recipe.start(task, setting, design, run.seed).to(device)
    weights = [p for p in model.parameters() if p.requires_grad]
    total = task.steps(setting)
    optimiser = torch.optim.AdamW(
        weights, lr=run.lr, betas=recipe.BETAS, eps=recipe.EPS, weight_decay=recipe.WEIGHT_DECAY, fused=True
    )
    decay = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: recipe.schedule(min(step, total - 1), total))
    data = task.batches(setting, run.seed)
    inputs = [torch.from_numpy(a).to(device) for a in data.inputs]
    targets = torch.from_numpy(data.targets).to(device)

    def call(method: str, *arrays: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            tensors = (torch.from_numpy(a[0]).to(device) for a in arrays)
            return getattr(model, method)(*tensors)[None].cpu().numpy()

    (before,) = task.before(setting, [run.seed], call)
    losses = []
    for step in range(total if steps is None else steps):
        logits = model(*(a[step] for a in inputs))
        loss = F.cross_entropy(logits.flatten(0, -2), targets[step].flatten())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, recipe.CLIP)
        optimiser.step()
        decay.step()
        losses.append(loss.detach())

    (after,) = task.measure(setting, [run.seed], call)
    curve = torch.stack(losses)[:, None].cpu() if losses else torch.zeros(0, 1)
    finite = bool(torch.isfinite(curve).all()) and all(bool(torch.isfinite(w).all()) for w in weights)
    state = {name: p.detach().cpu().clone() for name, p in model.named_parameters()}
    kept = recipe.stretches(curve, recipe.stretch(len(losses)))[0]
    return Trained(tuple(kept), {**before, **after}, not finite, state, len(losses))


def train_one_by_one(
    task: Task,
    setting: str,
    design: Design,
    runs: Sequence[Run],
    *,
    steps: int | None = None,
    device: str = "cpu",
) -> list[Trained]:
    """Train each run by itself, in order."""
    return [train_one(task, setting, design, run, steps=steps, device=device) for run in runs]
