"""Can a design learn: are its gradients right, and do they reach every trained matrix and no other?"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from qkvlab.designs import Design
from qkvlab.testing.sizes import MEMORY, TINY, attention, distance, require, sizes, tokens


def gradients_are_right(design: Design) -> None:
    """The layer's gradients equal finite differences in float64, for x, memory and every trained matrix."""
    dims = sizes(design, TINY)
    layer = attention(design, dims)
    trained = {name: p.detach().clone() for name, p in layer.named_parameters() if p.requires_grad}
    inputs = (tokens(dims, 3)[:1], tokens(dims, 4, seed=5)[:1], *trained.values())

    def output(x: Tensor, y: Tensor, *weights: Tensor) -> Tensor:
        values: Any = dict(zip(trained, weights, strict=True))
        return functional_call(layer, values, (x,), {"causal": True}) + functional_call(
            _Across(layer), {f"layer.{name}": w for name, w in values.items()}, (x, y)
        )

    right = torch.autograd.gradcheck(output, [i.requires_grad_() for i in inputs], raise_exception=False)
    require(right, "the gradient differs from finite differences: is a step cut off the graph, or in place?")


class _Across(torch.nn.Module):
    """Cross-attention with the memory made inside, so that its gradient is seen."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.layer(x, self.layer.remember(y))


def gradients_reach_every_trained_matrix(design: Design) -> None:
    """Trained matrices get a finite gradient that is not zero; frozen ones get none.

    A design without trained matrices, such as one that uses x as q, k and v, has nothing to show here.
    """
    dims = sizes(design)
    for route in ("plain", "fused"):
        layer = attention(design, dims, route=route)
        layer(tokens(dims), layer.remember(tokens(dims, MEMORY, seed=3))).square().sum().backward()
        for name, matrix in design.matrices(dims).items():
            gradient = layer.projections.weights[name].grad
            if not matrix.trained:
                require(gradient is None, f"matrix {name} is frozen, but got a gradient")
                continue
            require(gradient is not None, f"no gradient reaches matrix {name}; is it used?")
            assert gradient is not None
            require(bool(gradient.isfinite().all()), f"the gradient of matrix {name} is not finite")
            require(bool(gradient.any()), f"the gradient of matrix {name} is zero: nothing depends on it")


def many_at_once_equal_each_alone(design: Design) -> None:
    """Three stacked copies under vmap compute what each computes alone."""
    dims = sizes(design)
    x = tokens(dims)
    for route in ("plain", "fused"):
        layers = [attention(design, dims, route=route, seed=seed) for seed in (1, 2, 3)]
        stacked = stack_module_state(layers)  # pyright: ignore[reportArgumentType]
        base = attention(design, dims, route=route)

        def run(state: Any, base: torch.nn.Module = base) -> Tensor:
            return functional_call(base, state, (x,), {"causal": True})

        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="There is a performance drop")  # fused route: known
                together = vmap(run)(stacked)
        except RuntimeError as problem:
            raise AssertionError(f"the {route} route does not run under torch.func.vmap: {problem}") from problem
        for layer, got in zip(layers, together, strict=True):
            gap = distance(got, layer(x, causal=True))
            require(gap < 1e-10, f"one of three models under vmap differs by {gap:.1e} from itself alone")


def other_precisions(design: Design) -> None:
    """bfloat16 and float32 stay what they are and come near float64."""
    dims = sizes(design)
    exact = attention(design, dims)(tokens(dims), causal=True)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 5e-2)):
        module = attention(design, dims, dtype=dtype).projections
        q, memory = module.project(tokens(dims, dtype=dtype))
        made = {part.dtype for part in (q, *memory.kept.values(), *module.recall(memory))}
        require(made == {dtype}, f"{dtype} went in and q, memory, k, v are {made}; use new_tensor, new_zeros")
        for route in ("plain", "fused"):
            got = attention(design, dims, route=route, dtype=dtype)(tokens(dims, dtype=dtype), causal=True)
            require(got.dtype == dtype, f"{dtype} went in and {got.dtype} came out; use new_tensor, new_zeros")
            gap = distance(got, exact) / distance(exact, torch.zeros_like(exact))
            require(gap < tolerance, f"in {dtype} the {route} route is off by {gap:.1e} of the largest output")
