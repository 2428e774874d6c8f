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

    torch's fused kernel runs over the stacked weights; models whose rates differ are different stretches of them.
    On a CPU one call of our own does all of it, where it can be compiled: small models wait longer for Python.
    On a CUDA device nothing of a step is a number of Python, so that steps can be recorded (`recorded`).

    Args:
        weights: stacked weights, changed in place.
        rates: learning rate of each model.
    """

    def __init__(self, weights: Stack, rates: Sequence[float]) -> None:
        self.names = list(weights)
        edges = [i for i in range(len(rates)) if i == 0 or rates[i] != rates[i - 1]]
        self.stretches = [slice(a, b) for a, b in zip(edges, [*edges[1:], len(rates)], strict=True)]
        self.rates = [rates[stretch.start] for stretch in self.stretches]
        self.on_cuda = any(weight.is_cuda for weight in weights.values())
        self.optimiser = torch.optim.AdamW(
            [{"params": [weights[name][stretch] for name in self.names]} for stretch in self.stretches],
            betas=recipe.BETAS,
            eps=recipe.EPS,
            weight_decay=recipe.WEIGHT_DECAY,
            fused=True,
            capturable=self.on_cuda,
        )
        if self.on_cuda:
            for group in self.optimiser.param_groups:
                group["lr"] = group["params"][0].new_zeros(())
        self._all_rates, self._factor = rates, 1.0
        self._own = _Own(weights) if adamw.works([*weights.values()]) else None

    def scale(self, factor: float) -> None:
        """Set how much of its rate each model takes in the steps to come."""
        self._factor = factor
        for rate, group in zip(self.rates, self.optimiser.param_groups, strict=True):
            if self.on_cuda:
                group["lr"].fill_(rate * factor)
            else:
                group["lr"] = rate * factor

    def step(self, gradients: Stack) -> None:
        """Clip and apply stacked gradients, which are used up."""
        # the fused kernel reads them as if they lay as the weights do, and does not say when they do not
        grads = [gradients[name].contiguous() for name in self.names]
        if self._own is not None:
            self._own.step(grads, [rate * self._factor for rate in self._all_rates])
            return
        norms = torch.stack([torch.linalg.vector_norm(g.flatten(1), dim=1) for g in grads])
        # as torch's clip_grad_norm_: a norm below the bound leaves gradients alone
        clip = (recipe.CLIP / (torch.linalg.vector_norm(norms, dim=0) + 1e-6)).clamp(max=1.0)
        for g in grads:
            g.mul_(clip.view(-1, *[1] * (g.ndim - 1)))
        for stretch, group in zip(self.stretches, self.optimiser.param_groups, strict=True):
            for parameter, g in zip(group["params"], grads, strict=True):
                parameter.grad = g[stretch]
        self.optimiser.step()

    def moments(self) -> dict[str, Stack]:
        """Return what is remembered of past gradients, stacked like the weights."""
        if self._own is not None:
            return {kind: {name: x.clone() for name, x in kept.items()} for kind, kept in self._own.moments.items()}
        kept = [[self.optimiser.state[p] for p in group["params"]] for group in self.optimiser.param_groups]
        return {
            kind: {name: torch.cat([each[i][kind] for each in kept]) for i, name in enumerate(self.names)}
            for kind in MOMENTS
        }

    def resume(self, moments: dict[str, Stack], steps: int) -> None:
        """Go on after so many steps, with what was remembered of models that are these."""
        if self._own is not None:
            self._own.resume(moments, steps)
            return
        for stretch, group in zip(self.stretches, self.optimiser.param_groups, strict=True):
            for name, p in zip(self.names, group["params"], strict=True):
                count = torch.tensor(float(steps), device=p.device)
                self.optimiser.state[p] = {"step": count, **{kind: moments[kind][name][stretch] for kind in MOMENTS}}


class _Own:
    # moments, and steps by the kernel
    def __init__(self, weights: Stack) -> None:
        self.weights, self.steps = weights, 0
        self.moments = {kind: {name: torch.zeros_like(w) for name, w in weights.items()} for kind in MOMENTS}
        self._moved = adamw.Moved([*weights.values()], *([*self.moments[kind].values()] for kind in MOMENTS))

    def step(self, gradients: Sequence[Tensor], rates: Sequence[float]) -> None:
        self.steps += 1
        self._moved.step(gradients, rates, self.steps, recipe.BETAS, recipe.EPS, recipe.WEIGHT_DECAY, recipe.CLIP)

    def resume(self, moments: dict[str, Stack], steps: int) -> None:
        self.steps = steps
        for kind, kept in self.moments.items():
            for name, x in kept.items():
                x.copy_(moments[kind][name])
