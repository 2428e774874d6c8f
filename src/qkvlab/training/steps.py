"""The arithmetic of one step: losses and gradients of stacked models, as PyTorch runs them or compiled beforehand.

Compiling takes 10 to 20 seconds and makes a step of small models 1.4 to 2.3 times as fast (`benchmarks/engine.py`);
what stands between the products (norms, gelu and their gradients) becomes a few loops instead of many small calls, and
attention one kernel (`attention.native`). Results differ from those of plain steps by rounding.

Products may be in bf16, which processors with units for it do several times as fast. Weights, their moments, norms,
softmax, losses and exams stay in fp32.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._inductor import codecache, standalone_compile
from torch.func import functional_call, grad_and_value, vmap
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from qkvlab.attention import Attention
from qkvlab.contracts import Products
from qkvlab.kernels import kernel, product
from qkvlab.training.turns import turn

Stack = dict[str, Tensor]
Step = Callable[..., tuple[Stack, Tensor]]
"""(trained weights, fixed weights, targets, *inputs), all stacked -> (gradients, losses (m,))."""


def plain(skeleton: nn.Module, products: Products = "fp32") -> Step:
    """Return the step of every model with this structure, as PyTorch runs it."""

    def loss(own: Stack, rest: Stack, targets: Tensor, *inputs: Tensor) -> Tensor:
        with torch.autocast(targets.device.type, torch.bfloat16, enabled=products == "bf16"):
            logits = functional_call(skeleton, {**own, **rest}, inputs)
        return F.cross_entropy(logits.flatten(0, -2).float(), targets.flatten())

    # randomness="error": any dropout must say which noise it means
    return vmap(grad_and_value(loss), randomness="error")


def own_kernel(skeleton: nn.Module) -> nn.Module:
    """Return a model whose attention takes the layer's own kernel, where it can be compiled; for `compiled`."""
    model = copy.deepcopy(skeleton)
    for module in model.modules():
        if isinstance(module, Attention) and kernel.is_known() and kernel.compiler() is not None:
            module.route = "native"
    return model


def compiled(step: Step, own: Stack, rest: Stack, *data: Tensor) -> Step:
    """Return a step as one compiled program, for stacks of exactly the sizes of the example.

    Args:
        step: see `plain`; of a model with its `own_kernel` it is faster.
        own: trained weights of the example, of which nothing is changed.
        rest: its fixed weights.
        data: its targets and inputs.

    Raises:
        CannotCompile: no working compiler, or one that fails on this program.
    """
    trained, fixed = list(own), list(rest)

    def flat(own: Stack, rest: Stack, *data: Tensor) -> list[Tensor]:
        return [*(own[name] for name in trained), *(rest[name] for name in fixed), *data]

    def traced(*tensors: Tensor) -> list[Tensor]:
        left = iter(tensors)
        gradients, losses = step(*({name: next(left) for name in names} for names in (trained, fixed)), *left)
        return [*(gradients[name] for name in trained), losses]

    try:
        tensors = flat(own, rest, *data)
        # traced here, so that each program has code of its own: what is compiled for one design slows no other
        graph = make_fx(traced, decomposition_table=_BY_HAND)(*tensors)
        options = _CPU | _own_products(graph) if tensors[0].device.type == "cpu" else {}
        with turn(graph.code):
            # no guards: whoever calls it gives what the example was, and asking would take as long as a small product
            with _files_at_once():
                program = standalone_compile(
                    graph, [*tensors], dynamic_shapes="from_example_inputs", options={"config_patches": options}
                )
            program(*tensors)  # a compiler that fails may do so only now
    except Exception as error:  # whatever it is, plain steps need no compiler, and fail by themselves if they must
        raise CannotCompile(_reason(error)) from error

    def taken(*given: Any) -> tuple[Stack, Tensor]:
        *gradients, losses = program(*flat(*given))
        return dict(zip(trained, gradients, strict=True)), losses

    return taken


_CPU = {
    # all kernels and what calls them in two files: each file costs half a second whatever is in it, and a step of small
    # models hardly more than being called from Python
    "cpp_wrapper": True,
    "cpp_wrapper_build_separate": True,
    # headers that are compiled beforehand save a second and cost ten, once per machine until it is started again
    "cpp_cache_precompile_headers": False,
    # what the processor can do is known; that the compiler can, too, would be tried by three programs that say nothing
    "cpp.vec_isa_ok": True,
}


def _own_products(graph: GraphModule) -> dict[str, Any]:
    """Let a traced step take `kernels.product` where that fits; returns what its compiler must know of it."""
    found = [node for node in graph.graph.nodes if node.target is torch.ops.aten.bmm.default]
    found = [node for node in found if product.pays(*(factor.meta["val"] for factor in node.args))]
    for node in found:
        node.target = torch.ops.qkvlab.product.default
    graph.recompile()
    return product.called() if found else {}


@contextmanager
def _files_at_once() -> Iterator[None]:
    """Let the C++ compiler make a program's two files side by side, which PyTorch does one after the other."""
    make = getattr(codecache, "_worker_compile_cpp", None)
    if make is None:
        yield
        return

    def at_once(lock: str, builders: Sequence[Any]) -> None:
        *files, _ = builders  # the last one joins them
        with ThreadPoolExecutor(len(files) or 1) as pool:
            list(pool.map(lambda i: make(f"{lock}.{i}", (files[i],)), range(len(files))))
        make(lock, builders)  # what is there is not made again

    codecache._worker_compile_cpp = at_once
    try:
        yield
    finally:
        codecache._worker_compile_cpp = make


def _gelu_backward(slope: Tensor, x: Tensor, *, approximate: str = "none") -> Tensor:
    """Return the gradient of the exact gelu by one exponential, where PyTorch's compiler takes a second for erf.

    1 - erf is that of Abramowitz & Stegun 7.1.26, as it is there: exact to 1.5e-7.
    """
    if approximate != "none" or x.dtype not in (torch.float32, torch.bfloat16):
        return NotImplemented
    x, falling = x.float(), torch.exp(x.float() * x.float() * -0.5)
    t = 1 / (1 + 0.3275911 * 0.5**0.5 * x.abs())
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    tail = 0.5 * series * falling
    below = torch.where(x > 0, 1 - tail, tail)
    return (slope.float() * (below + x * (falling * (1 / (2 * math.pi) ** 0.5)))).to(slope.dtype)


_BY_HAND = {torch.ops.aten.gelu_backward.default: _gelu_backward}


class CannotCompile(Exception):
    """A step cannot be compiled on this machine; the message says why, in one line."""


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
