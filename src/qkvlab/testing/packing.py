"""Is a text in a row of texts, packed or nested, what it is alone, in values and in gradients?"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from qkvlab.attention import Attention
from qkvlab.designs import Design
from qkvlab.testing.sizes import attention, distance, require, sizes

_LENGTHS = (3, 0, 5, 1, 3)
"""Of texts in no order of length, two of one length, one without tokens."""


def packed_texts_are_alone(design: Design) -> None:
    """Texts one behind the other give what each gives alone, causally or not, on both routes."""
    _texts_are_alone(design, "packed", lambda layer, x, causal: layer(x, causal=causal, packed=_LENGTHS))


def nested_texts_are_alone(design: Design) -> None:
    """Texts in a nested tensor give what each gives alone, and come back in one that may be added to it."""

    def run(layer: Attention, x: Tensor, causal: bool) -> Tensor:
        texts = torch.nested.as_nested_tensor(list(x.split(_LENGTHS)), layout=torch.jagged)
        return (texts + layer(texts, causal=causal)).values() - x

    _texts_are_alone(design, "nested", run)


def _texts_are_alone(design: Design, name: str, run: Callable[[Attention, Tensor, bool], Tensor]) -> None:
    dims = sizes(design)
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(sum(_LENGTHS), dims.d_model, generator=generator, dtype=torch.float64)
    for route in ("plain", "fused"):
        layer = attention(design, dims, route=route)
        for causal in (False, True):
            together, alone = (_made(layer, x, causal, each) for each in (run, _one_by_one))
            for part, wanted in alone.items():
                gap = distance(together[part], wanted)
                how = f"{part} of {name} texts, {'causal' if causal else 'all see all'}, {route} route"
                require(gap < 1e-10, f"{how}: off by {gap:.1e} from each text alone; does one see another?")


def _one_by_one(layer: Attention, x: Tensor, causal: bool) -> Tensor:
    return torch.cat([layer(text, causal=causal) for text in x.split(_LENGTHS)])


def _made(
    layer: Attention, x: Tensor, causal: bool, run: Callable[[Attention, Tensor, bool], Tensor]
) -> dict[str, Tensor]:
    # the output and every gradient of a sum that weighs each number of it differently
    x = x.clone().requires_grad_()
    out = run(layer, x, causal)
    leaves = {"x": x, **{name: p for name, p in layer.named_parameters() if p.requires_grad}}
    weigh = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).reshape(out.shape)
    found = torch.autograd.grad((out * weigh).sum(), list(leaves.values()), materialize_grads=True)
    gradients = {f"gradient of {name}": each for name, each in zip(leaves, found, strict=True)}
    return {"output": out, **gradients}
