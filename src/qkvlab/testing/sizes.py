"""Sizes, tokens and modules to judge a design with: all axes as different as the design admits.

Axes of equal size hide swapped axes, so sizes are tried from the most different on, and a design that needs
equal ones says so itself, by `Refusal`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from qkvlab.attention import Attention
from qkvlab.contracts import Dims
from qkvlab.designs import Design
from qkvlab.designs.projections import Projections
from qkvlab.errors import Refusal

BATCH, TOKENS, MEMORY = 2, 5, 7


@dataclass(frozen=True)
class Scale:
    """The first sizes to try; the others follow when a design refuses them."""

    d_model: int
    heads: tuple[int, ...]
    d_head: tuple[int, ...]
    d_value: int


NORMAL = Scale(d_model=18, heads=(4, 6, 3, 5, 2, 1), d_head=(6, 8, 9), d_value=10)
TINY = Scale(d_model=5, heads=(2, 3, 4, 6, 5, 1), d_head=(2, 4, 3), d_value=3)


def candidates(scale: Scale = NORMAL) -> Iterator[Dims]:
    """Yield sizes, from all different to all equal."""
    for d_head in scale.d_head:
        for heads in scale.heads:
            for d_value in (scale.d_value, d_head):
                slices = [n * size for size in (d_head, d_value) for n in range(heads, 0, -1)]
                for d_model in dict.fromkeys((scale.d_model, *slices)):
                    yield Dims(d_model=d_model, heads=heads, d_head=d_head, d_value=d_value)


def sizes(design: Design, scale: Scale = NORMAL) -> Dims:
    """Return the most different sizes that the design admits.

    >>> from qkvlab.designs import parse
    >>> sizes(parse("QKV"))
    Dims(d_model=18, heads=4, d_head=6, d_value=10)
    >>> sizes(parse("XKK"))
    Dims(d_model=24, heads=4, d_head=6, d_value=6)
    """
    last = ""
    for dims in candidates(scale):
        try:
            design.matrices(dims)
        except Refusal as refusal:
            last = str(refusal)
        else:
            return design.sizes(dims)
    raise AssertionError(f"the design refuses every size that was tried; it said last: {last}")


def require(holds: bool, message: str) -> None:
    """Raise `AssertionError` with a text that teaches, under ``python -O`` too."""
    if not holds:
        raise AssertionError(message)


def tokens(dims: Dims, count: int = TOKENS, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Draw x: (b, t, d)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(BATCH, count, dims.d_model, generator=generator, dtype=torch.float64).to(dtype)


def projections(design: Design, dims: Dims | None = None, *, seed: int = 1) -> Projections:
    """Build the design's module in float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return redrawn(design.build(dims or sizes(design)).double())


def attention(
    design: Design,
    dims: Dims | None = None,
    *,
    route: str = "plain",
    seed: int = 1,
    dtype: torch.dtype = torch.float64,
) -> Attention:
    """Build the layer of a design; equal seeds give equal weights."""
    dims = dims or sizes(design)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = Attention(
            design,
            d_model=dims.d_model,
            heads=dims.heads,
            d_head=dims.d_head,
            d_value=dims.d_value,
            route="fused" if route == "fused" else "plain",
        )
        redrawn(layer.projections)
    return layer.to(dtype)


def redrawn(module: Projections) -> Projections:
    """Move gains, biases and sinks away from the numbers at which they start, where mistakes would not show."""
    with torch.no_grad():
        for name in module.starts:
            weight = getattr(module, name)
            weight += 0.3 * torch.randn_like(weight)
    return module


def distance(a: Tensor, b: Tensor) -> float:
    """Largest difference; infinite when the shapes or a NaN differ."""
    if a.shape != b.shape:
        return math.inf
    gap = (a.detach().double() - b.detach().double()).abs()
    return float(gap.nan_to_num(math.inf).max()) if gap.numel() else 0.0
