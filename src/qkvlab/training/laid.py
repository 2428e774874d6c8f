"""Steps of one design by the program of another that can hold its weights (`designs.laying`).

    a step: weights -> laid into the host's -> its program -> gradients -> gathered back

Gathering is the transpose of laying: gradients of a shared matrix sum, those of an absent one are dropped, and clipping
and AdamW never see what was laid. Most of what is laid is a matrix as it is, or never changes; only the rest is made,
and its gradients found by `vjp`, at every step. The steps differ from the design's own by rounding, which is tried on
the first batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vjp, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from qkvlab.attention.watching import is_whole
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
        weights: of some models of the design, on which laying is watched; nothing of them is changed.
        fixed: those that are not trained.

    Raises:
        CannotCompile: the models differ in more than how q, k and v are made.
    """

    def __init__(self, guest: nn.Module, host: nn.Module, weights: Stack, fixed: Stack) -> None:
        self._layers = {name: module for name, module in guest.named_modules() if isinstance(module, Projections)}
        self._trained = {name: p.requires_grad for name, p in host.named_parameters()}
        self._require_alike(guest, host)
        stacked = {**weights, **fixed}
        like = next(iter(stacked.values()))
        self._identities = {
            path: torch.eye(layer.dims.d_model, dtype=like.dtype, device=like.device)
            for path, layer in self._layers.items()
        }
        held = {name: w[0].detach().requires_grad_() for name, w in self._held(stacked).items()}
        laid = self._lay(held)
        whole = [(name, source) for name, w in laid.items() for source, own in held.items() if is_whole(w, own)]
        self._same = dict(whole)
        self._still = {
            name: w.expand(len(like), *w.shape).contiguous() for name, w in laid.items() if not w.requires_grad
        }
        self._made = [name for name in laid if name not in self._same and name not in self._still]
        self._make: Callable[..., Stack] = lambda stacked: {}
        self._unmake: Callable[..., Stack] = lambda stacked, gradients: {}
        if self._made:
            self._make = _traced(self._lay_made, self._held(stacked))
            self._unmake = _traced(self._gather_made, self._held(stacked), self._make(self._held(stacked)))

    def given(self, weights: Stack, fixed: Stack, *rest: Tensor) -> Given:
        """Return what the host's program takes: no tensor twice, and each lies as in its example."""
        stacked, used = {**weights, **fixed}, set[str]()
        laid = {**stacked, **self._still, **self._make(self._held(stacked))}
        for name, source in self._same.items():
            laid[name] = stacked[source].clone() if source in used else stacked[source]
            used.add(source)
        own = {name: laid[name] for name, trained in self._trained.items() if trained}
        return own, {name: laid[name] for name in self._trained if name not in own}, *rest

    def step(self, program: Step) -> Step:
        """Return the design's step by a step of the host."""

        def taken(weights: Stack, fixed: Stack, *rest: Tensor) -> tuple[Stack, Tensor]:
            gradients, losses = program(*self.given(weights, fixed, *rest))
            found = self._gathered({**weights, **fixed}, gradients)
            return {name: found[name] if name in found else torch.zeros_like(w) for name, w in weights.items()}, losses

        return taken

    def require_equal(self, own: Step, program: Step, *given: Any) -> None:
        """Take one step by both and hold them against each other.

        Raises:
            CannotCompile: losses or gradients differ by more than rounding.
        """
        (want, losses), (found, others) = own(*given), self.step(program)(*given)
        sizes = torch.stack([g.flatten(1).abs().amax(1) for g in want.values()]).amax(0)
        gaps = torch.stack([(want[name] - found[name]).flatten(1).abs().amax(1) for name in want]).amax(0)
        # a model that begins with NaN has nothing to compare
        if bool((gaps > TOLERANCE * sizes).any()) or bool(((losses - others).abs() > TOLERANCE * losses.abs()).any()):
            raise CannotCompile(f"laid gradients differ by {float((gaps / sizes).max()):.1e} of the largest")

    def _require_alike(self, guest: nn.Module, host: nn.Module) -> None:
        mine, theirs = (
            {n: (p.shape, p.requires_grad) for n, p in model.named_parameters() if not self._in_layers(n)}
            for model in (guest, host)
        )
        if mine != theirs:
            raise CannotCompile("the models differ in more than how q, k and v are made")

    def _in_layers(self, name: str) -> bool:
        return name.rpartition(".")[0] in self._layers

    def _held(self, stacked: Stack) -> Stack:
        return {name: w for name, w in stacked.items() if self._in_layers(name)}

    def _gathered(self, stacked: Stack, gradients: Stack) -> Stack:
        """Return gradients by the names of the design's own weights, trained or not."""
        found = {name: g for name, g in gradients.items() if not self._in_layers(name)}
        made = {name: gradients[name] for name in self._made}
        back = [(source, gradients[name]) for name, source in self._same.items() if name in gradients]
        for source, g in [*back, *self._unmake(self._held(stacked), made).items()]:
            found[source] = found[source] + g if source in found else g
        return found

    def _lay(self, held: Stack) -> Stack:
        """Lay the weights of one model."""
        laid: Stack = {}
        for path, layer in self._layers.items():
            own = {name: held[f"{path}.{name}"] for name in layer.weights}
            found = lay(layer.design, layer.dims, own, self._identities[path])
            laid |= {f"{path}.{name}": weight for name, weight in found.items()}
        return laid

    def _lay_made(self, held: Stack) -> Stack:
        laid = self._lay(held)
        return {name: laid[name].contiguous() for name in self._made}

    def _gather_made(self, held: Stack, gradients: Stack) -> Stack:
        (found,) = vjp(self._lay_made, held)[1](gradients)
        return found


def _traced(function: Callable[..., Stack], *example: Stack) -> Callable[..., Stack]:
    """Return a function of one model's weights for stacks of them, as a few kernels and no transforms."""
    graph = make_fx(vmap(lambda *given: function(*given)))(*example)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph
