"""The optimiser of stacked models: each is clipped by its own norm and moves at its own rate.

m model    all stacked tensors lead with it
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qkvlab.kernels import adamw
from qkvlab.training import recipe
from qkvlab.training.steps import Stack

MOMENTS = ("exp_avg", "exp_avg_sq")
"""Of AdamW, as torch names them."""


class StackedAdamW:
    """AdamW (Loshchilov & Hutter, arXiv 1711.05101) with clipping, each model by its own norm and rate.

    On a CPU one call of our own does all of it, where it can be compiled: small models wait longer for Python.
    Elsewhere torch's fused kernel does.

    Args:
        weights: stacked weights, changed in place.
        rates: learning rate of each model.
    """

    def __init__(self, weights: Stack, rates: Sequence[float]) -> None:
        self.names = list(weights)
        self.on_cuda = any(weight.is_cuda for weight in weights.values())
        own = adamw.works([*weights.values()])
        self._by: _Own | _Torch = _Own(weights, rates) if own else _Torch(weights, rates, on_cuda=self.on_cuda)

    def scale(self, factor: float) -> None:
        """Set how much of its rate each model takes in the steps to come."""
        self._by.scale(factor)

    def step(self, gradients: Stack) -> None:
        """Clip and apply stacked gradients, which are used up."""
        # kernels read them as if they lay as the weights do, and do not say when they do not
        self._by.step([gradients[name].contiguous() for name in self.names])

    def moments(self) -> dict[str, Stack]:
        """Return what is remembered of past gradients, stacked like the weights."""
        return self._by.moments()

    def resume(self, moments: dict[str, Stack], steps: int) -> None:
        """Go on after so many steps, with what was remembered of models that are these."""
        self._by.resume(moments, steps)


class _Own:
    # by our own kernel
    def __init__(self, weights: Stack, rates: Sequence[float]) -> None:
        self._rates, self._factor, self._steps = rates, 1.0, 0
        self._kept = {kind: {name: torch.zeros_like(w) for name, w in weights.items()} for kind in MOMENTS}
        self._moved = adamw.Moved([*weights.values()], *([*self._kept[kind].values()] for kind in MOMENTS))

    def scale(self, factor: float) -> None:
        self._factor = factor

    def step(self, gradients: Sequence[Tensor]) -> None:
        self._steps += 1
        rates = [rate * self._factor for rate in self._rates]
        self._moved.step(gradients, rates, self._steps, recipe.BETAS, recipe.EPS, recipe.WEIGHT_DECAY, recipe.CLIP)

    def moments(self) -> dict[str, Stack]:
        return {kind: {name: x.clone() for name, x in kept.items()} for kind, kept in self._kept.items()}

    def resume(self, moments: dict[str, Stack], steps: int) -> None:
        self._steps = steps
        for kind, kept in self._kept.items():
            for name, x in kept.items():
                x.copy_(moments[kind][name])


class _Torch:
    # by torch's fused kernel, where models whose rates differ are different stretches of the stacks; on a CUDA device
    # nothing of a step is a number of Python, so that steps can be recorded (`recorded`)
    def __init__(self, weights: Stack, rates: Sequence[float], *, on_cuda: bool) -> None:
        self._names, self._on_cuda = list(weights), on_cuda
        edges = [i for i in range(len(rates)) if i == 0 or rates[i] != rates[i - 1]]
        self._stretches = [slice(a, b) for a, b in zip(edges, [*edges[1:], len(rates)], strict=True)]
        self._rates = [rates[stretch.start] for stretch in self._stretches]
        self._optimiser = torch.optim.AdamW(
            [{"params": [weights[name][stretch] for name in self._names]} for stretch in self._stretches],
            betas=recipe.BETAS,
            eps=recipe.EPS,
            weight_decay=recipe.WEIGHT_DECAY,
            fused=True,
            capturable=on_cuda,
        )
        if on_cuda:
            for group in self._optimiser.param_groups:
                group["lr"] = group["params"][0].new_zeros(())

    def scale(self, factor: float) -> None:
        for rate, group in zip(self._rates, self._optimiser.param_groups, strict=True):
            if self._on_cuda:
                group["lr"].fill_(rate * factor)
            else:
                group["lr"] = rate * factor

    def step(self, gradients: Sequence[Tensor]) -> None:
        norms = torch.stack([torch.linalg.vector_norm(g.flatten(1), dim=1) for g in gradients])
        # as torch's clip_grad_norm_: a norm below the bound leaves gradients alone
        clip = (recipe.CLIP / (torch.linalg.vector_norm(norms, dim=0) + 1e-6)).clamp(max=1.0)
        for g in gradients:
            g.mul_(clip.view(-1, *[1] * (g.ndim - 1)))
        for stretch, group in zip(self._stretches, self._optimiser.param_groups, strict=True):
            for parameter, g in zip(group["params"], gradients, strict=True):
                parameter.grad = g[stretch]
        self._optimiser.step()

    def moments(self) -> dict[str, Stack]:
        kept = [[self._optimiser.state[p] for p in group["params"]] for group in self._optimiser.param_groups]
        return {
            kind: {name: torch.cat([each[i][kind] for each in kept]) for i, name in enumerate(self._names)}
            for kind in MOMENTS
        }

    def resume(self, moments: dict[str, Stack], steps: int) -> None:
        for stretch, group in zip(self._stretches, self._optimiser.param_groups, strict=True):
            for name, p in zip(self._names, group["params"], strict=True):
                count = torch.tensor(float(steps), device=p.device)
                self._optimiser.state[p] = {"step": count, **{kind: moments[kind][name][stretch] for kind in MOMENTS}}
