"""The arithmetic of one step: losses and gradients of stacked models, as PyTorch runs them or compiled beforehand.

Compiling takes about ten seconds and makes a step of small models 1.3 to 2.2 times as fast (`benchmarks/engine.py`):
what stands between the products (norms, softmax, gelu and their gradients) becomes a few loops instead of many small
calls.
Results differ from those of the plain steps by rounding.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.fx.experimental.proxy_tensor import make_fx

Stack = dict[str, Tensor]
Step = Callable[..., tuple[Stack, Tensor]]
"""(trained weights, fixed weights, targets, *inputs), all stacked -> (gradients, losses (m,))."""


def plain(skeleton: nn.Module) -> Step:
    """Return the step of every model with this structure, as PyTorch runs it."""

    def loss(own: Stack, rest: Stack, targets: Tensor, *inputs: Tensor) -> Tensor:
        logits = functional_call(skeleton, {**own, **rest}, inputs)
        return F.cross_entropy(logits.flatten(0, -2), targets.flatten())

    # randomness="error": any dropout must say which noise it means
    return vmap(grad_and_value(loss), randomness="error")


def compiled(step: Step, *example: Stack | Tensor) -> Step:
    """Return a step as one compiled program, for stacks of exactly the sizes of the example.

    Args:
        step: see `plain`.
        example: what it takes; nothing of it is changed.

    Raises:
        CannotCompile: no working compiler, or one that fails on this program.
    """
    # traced here, so that each program has code of its own: what is compiled for one design slows no other
    graph = make_fx(step)(*example)
    program = torch.compile(graph, fullgraph=True, dynamic=False)
    try:
        program(*example)  # torch.compile waits for the first call
    except Exception as error:  # whatever it is, plain steps need no compiler, and fail by themselves if they must
        raise CannotCompile(_reason(error)) from error
    return program


class CannotCompile(Exception):
    """A step cannot be compiled on this machine; the message says why, in one line."""


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
