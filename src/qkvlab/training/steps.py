"""The arithmetic of one step: losses and gradients of stacked models, as PyTorch runs them or compiled beforehand.

Compiling takes 10 to 30 seconds and makes a step of small models 1.4 to 2.3 times as fast (`benchmarks/engine.py`);
what stands between the products (norms, gelu and their gradients) becomes a few loops instead of many small calls, and
attention over short sequences one kernel (`attention.small`). Results differ from those of plain steps by rounding.

Products may be in bf16, which processors with units for it do several times as fast. Weights, their moments, norms,
softmax, losses and exams stay in fp32.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from qkvlab.attention import Attention, small
from qkvlab.contracts import Products

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


def short(skeleton: nn.Module) -> nn.Module:
    """Return a model whose attention takes the route of short sequences, where it can be compiled; for `compiled`."""
    model = copy.deepcopy(skeleton)
    for module in model.modules():
        if isinstance(module, Attention) and small.compiler() is not None:
            module.route = "small"
    return model


def compiled(step: Step, *example: Stack | Tensor) -> Step:
    """Return a step as one compiled program, for stacks of exactly the sizes of the example.

    Args:
        step: see `plain`; of a `short` model it is faster.
        example: what it takes; nothing of it is changed.

    Raises:
        CannotCompile: no working compiler, or one that fails on this program.
    """
    try:
        # traced here, so that each program has code of its own: what is compiled for one design slows no other
        graph = make_fx(step)(*example)
        # whoever calls it gives what the example was: asking at every step would take as long as a small product
        program = torch.compile(graph, fullgraph=True, dynamic=False, options={"guard_filter_fn": _none})
        program(*example)  # torch.compile waits for the first call
    except Exception as error:  # whatever it is, plain steps need no compiler, and fail by themselves if they must
        raise CannotCompile(_reason(error)) from error
    return program


def _none(guards: Sequence[object]) -> list[bool]:
    return [False] * len(guards)


class CannotCompile(Exception):
    """A step cannot be compiled on this machine; the message says why, in one line."""


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
