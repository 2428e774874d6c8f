"""Steps of one design by the program of another that can hold its weights (`designs.laying`).

    a step: weights -> laid into the host's -> its program -> gradients -> gathered back

Laying and gathering are one function and its transpose, found by `vjp`: gradients of a shared matrix sum, those of an
absent one are dropped, and clipping and AdamW never see what was laid. The two differ from the design's own steps by
rounding, which is tried on the first batch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import vjp, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from qkvlab.designs.laying import lay
from qkvlab.designs.projections import Projections
from qkvlab.training.steps import CannotCompile, Stack, Step

TOLERANCE = 1e-4
"""Largest difference of gradients, by the largest gradient of a model, that rounding may make."""

Given = tuple[Stack, Stack, *tuple[Tensor, ...]]
"""(trained weights, fixed weights, targets, *inputs), all stacked: what a `Step` takes."""


class Laid:
    """Lays the stacked weights of a design into those of its host, and gathers gradients.

    Args:
        guest: model of the design, without numbers.
        host: model of its `designs.laying.host`, without numbers.
        weights: of some models of the design, by which the work is traced; nothing of them is changed.
        fixed: those that are not trained.

    Raises:
        CannotCompile: the models differ in more than how q, k and v are made.
    """

    def __init__(self, guest: nn.Module, host: nn.Module, weights: Stack, fixed: Stack) -> None:
        self._layers = {name: module for name, module in guest.named_modules() if isinstance(module, Projections)}
        self._trained = {name: p.requires_grad for name, p in host.named_parameters()}
        self._mine = [name for name in weights if self._in_layers(name)]
        self._rest = [name for name in fixed if self._in_layers(name)]
        self._require_alike(guest, host)
        parts = self._parts(weights, fixed)
        # traced once, so that a step calls a few kernels and no transforms
        self._lay: Callable[..., Stack] = make_fx(vmap(lambda *parts: self._one(*parts)))(*parts)
        grads = {name: w for name, w in self._lay(*parts).items() if self._trained[name]}
        self._gather: Callable[..., Stack] = make_fx(vmap(lambda *given: self._one_back(*given)))(*parts, grads)

    def given(self, weights: Stack, fixed: Stack, *rest: Tensor) -> Given:
        """Return what the host's program takes."""
        laid = {**weights, **fixed, **self._lay(*self._parts(weights, fixed))}
        own, others = ({n: laid[n] for n, trained in self._trained.items() if trained is which} for which in (True, False))
        return own, others, *rest

    def step(self, program: Step) -> Step:
        """Return the design's step by a step of the host."""

        def taken(weights: Stack, fixed: Stack, *rest: Tensor) -> tuple[Stack, Tensor]:
            gradients, losses = program(*self.given(weights, fixed, *rest))
            laid = {name: g for name, g in gradients.items() if self._in_layers(name)}
            found = {**gradients, **self._gather(*self._parts(weights, fixed), laid)}
            return {name: found[name] for name in weights}, losses

        return taken

    def require_equal(self, own: Step, program: Step, *given: Stack | Tensor) -> None:
        """Take one step by both and hold them against each other.

        Raises:
            CannotCompile: losses or gradients differ by more than rounding.
        """
        (want, losses), (found, others) = own(*given), self.step(program)(*given)
        sizes = torch.stack([g.flatten(1).abs().amax(1) for g in want.values()]).amax(0)
        gaps = torch.stack([(want[n] - found[n]).flatten(1).abs().amax(1) for n in want]).amax(0)
        # not >=: whoever starts with NaN has nothing to compare
        if bool((gaps > TOLERANCE * sizes).any()) or bool(((losses - others).abs() > TOLERANCE * losses.abs()).any()):
            raise CannotCompile(f"laid gradients differ by {float((gaps / sizes).max()):.1e} of the largest")

    def _in_layers(self, name: str) -> bool:
        return name.rpartition(".")[0] in self._layers

    def _require_alike(self, guest: nn.Module, host: nn.Module) -> None:
        mine, theirs = (
            {n: (p.shape, p.requires_grad) for n, p in model.named_parameters() if not self._in_layers(n)}
            for model in (guest, host)
        )
        if mine != theirs:
            raise CannotCompile("the models differ in more than how q, k and v are made")

    def _parts(self, weights: Stack, fixed: Stack) -> tuple[Stack, Stack, Tensor]:
        # and any tensor of all models, beside which identities stand
        like = next(iter({**weights, **fixed}.values()))
        return {name: weights[name] for name in self._mine}, {name: fixed[name] for name in self._rest}, like

    def _one(self, own: Stack, rest: Stack, like: Tensor) -> Stack:
        laid: Stack = {}
        for path, layer in self._layers.items():
            held = {name: {**own, **rest}[f"{path}.{name}"] for name in layer.weights}
            identity = torch.eye(layer.dims.d_model, dtype=like.dtype, device=like.device)
            for name, weight in lay(layer.design, layer.dims, held, identity).items():
                # a program wants tensors of their own that lie as its example did
                laid[f"{path}.{name}"] = weight.clone(memory_format=torch.contiguous_format)
        return laid

    def _one_back(self, own: Stack, rest: Stack, like: Tensor, gradients: Stack) -> Stack:
        if not own:
            return {}

        def laid(own: Stack) -> Stack:
            return {name: w for name, w in self._one(own, rest, like).items() if name in gradients}

        (found,) = vjp(laid, own)[1](gradients)
        return found
