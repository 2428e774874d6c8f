"""Does attention do what its definition says with this design, by both routes and under every mask?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from qkvlab.attention import Attention, Trace
from qkvlab.contracts import Dims
from qkvlab.designs import Design
from qkvlab.testing.sizes import BATCH, MEMORY, TOKENS, attention, distance, require, sizes, tokens

_LENGTHS = (3, 5)


def attends_as_defined(design: Design) -> None:
    """Scores, weights and output equal the definition, computed here query by query from q, k and v."""
    dims = sizes(design)
    layers = {route: attention(design, dims, route=route) for route in ("plain", "fused")}
    served = design.served(dims)
    for label, x, y, options, visible in _situations(dims):
        visible = visible if served is None else visible[:, list(served)]  # what is seen by each head of q
        t, s = visible.shape[-2:]
        shift = s - t if options.get("causal") == "bottom-right" else 0  # the last query stands at the last key
        if design.window is not None:
            back = torch.arange(t)[:, None] + shift - torch.arange(s)
            visible = visible & (back.abs() < design.window)
        if y is None and not design.sees_itself:
            visible = _without_self(visible)
        memory = None if y is None else layers["plain"].remember(y)
        trace = layers["plain"].trace(x, memory, **options)
        scores, weights, output = _by_hand(trace, layers["plain"], visible, shift)
        for name, got, wanted in (
            ("scores", trace.scores, scores),
            ("weights", trace.weights, weights),
            ("output of trace", trace.output, output),
            ("sum of contributions", trace.contributions().sum((1, 3)) + _bias(layers["plain"]), output),
            *((f"output of the {r} route", layer(x, memory, **options), output) for r, layer in layers.items()),
        ):
            gap = distance(got, wanted)
            require(gap < 1e-10, f"{label}: {name} is off by {gap:.1e} from the definition")


def routes_agree(design: Design) -> None:
    """Fused, plain and trace agree under causal, padding and boolean masks of every broadcast shape."""
    dims = sizes(design)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
        fused, plain = (attention(design, dims, route=route, dtype=dtype) for route in ("fused", "plain"))
        x, memory = tokens(dims, dtype=dtype), plain.remember(tokens(dims, MEMORY, seed=3, dtype=dtype))
        lengths = torch.tensor(_LENGTHS)
        situations: list[dict[str, Any]] = [
            {},
            {"causal": "top-left"},
            {"padding": lengths},
            {"causal": "bottom-right", "padding": lengths},
            *({"mask": mask} for mask in every_mask((BATCH, dims.heads, TOKENS, MEMORY))),
        ]
        for options in situations:
            trace = plain.trace(x, memory, **options).output
            for name, layer in (("fused", fused), ("plain", plain)):
                gap = distance(layer(x, memory, **options), trace)
                shown = {key: tuple(getattr(value, "shape", (value,))) for key, value in options.items()}
                require(gap < tolerance, f"{name} and trace differ by {gap:.1e} in {dtype} with {shown}")


def the_future_changes_nothing(design: Design) -> None:
    """Under the causal mask later tokens change no bit of an output (plain route); the own token matters."""
    dims = sizes(design)
    x, other = tokens(dims), tokens(dims, seed=9)
    plain, fused = attention(design, dims), attention(design, dims, route="fused")
    for seen in range(1, TOKENS):
        changed = torch.cat([x[:, :seen], other[:, seen:]], dim=1)
        before, after = plain(x, causal=True), plain(changed, causal=True)
        require(torch.equal(before[:, :seen], after[:, :seen]), f"the first {seen} outputs saw later tokens")
        own = distance(before[:, seen], after[:, seen])
        require(
            own > 0 or not design.sees_itself, f"output {seen} did not change with its own token: does it see itself?"
        )
        gap = distance(fused(x, causal=True)[:, :seen], fused(changed, causal=True)[:, :seen])
        require(gap < 1e-12, f"on the fused route the first {seen} outputs saw later tokens ({gap:.1e})")


def padding_may_hold_anything(design: Design) -> None:
    """NaN and infinity in padded tokens change no bit of the output of real ones, on both routes."""
    dims = sizes(design)
    lengths = torch.tensor(_LENGTHS)
    x, y = tokens(dims), tokens(dims, seed=3)
    broken = y.clone()
    broken[0, _LENGTHS[0] :] = math.nan
    broken[0, -1] = math.inf
    for route in ("plain", "fused"):
        layer = attention(design, dims, route=route)
        whole = layer(x, layer.remember(y), padding=lengths)
        require(
            torch.equal(whole, layer(x, layer.remember(broken), padding=lengths)),
            f"on the {route} route NaN in padded tokens of the memory reached the output",
        )
        alone, beside = layer(y, causal=True, padding=lengths), layer(broken, causal=True, padding=lengths)
        for b, length in enumerate(_LENGTHS):
            same = torch.equal(alone[b, :length], beside[b, :length])
            require(same, f"on the {route} route NaN in padded tokens reached the output of real ones")


def seeing_nothing_gives_zero(design: Design) -> None:
    """A query that may look at nothing returns exactly 0 (and W_O's bias); every gradient stays finite."""
    dims = sizes(design)
    mask = torch.ones(TOKENS, TOKENS, dtype=torch.bool)
    mask[2] = False
    for route in ("plain", "fused"):
        layer, x = attention(design, dims, route=route), tokens(dims).requires_grad_()
        output = layer(x, mask=mask)
        nothing = _bias(layer).expand_as(output[:, 2])
        require(torch.equal(output[:, 2], nothing), f"on the {route} route a query that sees nothing is not 0")
        output.sum().backward()
        for name, leaf in (("x", x), *layer.named_parameters()):
            finite = leaf.grad is None or bool(leaf.grad.isfinite().all())
            require(finite, f"on the {route} route a query that sees nothing spoils the gradient of {name}")


def every_mask(shape: tuple[int, ...]) -> Iterator[Tensor]:
    """Yield a random boolean mask of every shape, of any length, that broadcasts to ``shape``."""
    generator = torch.Generator().manual_seed(11)
    for axes in range(1, len(shape) + 1):
        for small in itertools.product(*({1, n} for n in shape[-axes:])):
            yield torch.rand(small, generator=generator) < 0.6


def _situations(dims: Dims) -> Iterator[tuple[str, Tensor, Tensor | None, dict[str, Any], Tensor]]:
    """Yield label, x, y, options and who sees whom: (b, h, t, s)."""
    x, y = tokens(dims), tokens(dims, MEMORY, seed=3)
    for other in (None, y):
        s = TOKENS if other is None else MEMORY
        kind = "self-attention" if other is None else "cross-attention"
        at, key = torch.arange(TOKENS)[:, None], torch.arange(s)
        everyone = torch.ones(BATCH, dims.heads, TOKENS, s, dtype=torch.bool)
        real = key < torch.tensor(_LENGTHS)[:, None, None, None]
        shifts = {"top-left": 0, "bottom-right": s - TOKENS}
        yield kind, x, other, {}, everyone
        yield f"{kind}, padding", x, other, {"padding": torch.tensor(_LENGTHS)}, everyone & real
        flags = real[:, 0, 0].expand(BATCH, s)
        yield f"{kind}, boolean padding", x, other, {"padding": flags}, everyone & real
        if other is None:
            yield f"{kind}, causal", x, other, {"causal": True}, everyone & (key <= at)
        for align, shift in shifts.items():
            visible = everyone & (key <= at + shift)
            options = {"causal": align, "padding": torch.tensor(_LENGTHS)}
            yield f"{kind}, causal {align}", x, other, {"causal": align}, visible
            yield f"{kind}, causal {align} and padding", x, other, options, visible & real
        mask = list(every_mask((BATCH, dims.heads, TOKENS, s)))[-1]
        mask[1, :, 3] = False  # a query that sees nothing
        yield f"{kind}, boolean mask", x, other, {"mask": mask}, mask


def _bias(layer: Attention) -> Tensor:
    return layer.out(torch.zeros(layer.out.in_features, dtype=torch.float64))


def _without_self(visible: Tensor) -> Tensor:
    """Hide each token from itself where it sees another: (b, h, t, t)."""
    hidden = visible.clone()
    for t in range(TOKENS):
        others = visible[..., t, :].sum(-1) - visible[..., t, t].int()
        hidden[..., t, t] = visible[..., t, t] & (others == 0)
    return hidden


def _by_hand(trace: Trace, layer: Attention, visible: Tensor, shift: int) -> tuple[Tensor, Tensor, Tensor]:
    """Follow the definition one query at a time."""
    q, k, v = trace.q, trace.k, trace.v
    design, dims, matrices = layer.design, layer.dims, layer.projections.weights
    (batch, heads, queries, _), sinks = q.shape, design.sinks(matrices, dims)
    scores, weights = q.new_zeros(visible.shape), q.new_zeros(visible.shape)
    mixed = q.new_zeros(batch, heads, queries, v.shape[-1])
    for b, h in itertools.product(range(batch), range(heads)):
        keys = k[b, h // (heads // k.shape[1])]
        for t in range(queries):
            scores[b, h, t] = keys @ q[b, h, t] / design.root(dims)
    for bend in design.bends(matrices, dims):
        scores = bend(scores, torch.arange(queries)[:, None] + shift - torch.arange(k.shape[-2]))
    for b, h, t in itertools.product(range(batch), range(heads), range(queries)):
        seen = visible[b, h, t]
        if seen.any():
            top = scores[b, h, t, seen].max()
            powers = (scores[b, h, t, seen] - top).exp()
            weights[b, h, t, seen] = powers / (powers.sum() + (0 if sinks is None else (sinks[h] - top).exp()))
        mixed[b, h, t] = weights[b, h, t] @ v[b, h // (heads // v.shape[1])]
    finished = design.finish(matrices, mixed, dims).swapaxes(1, 2)
    return scores, weights, layer.out(finished.reshape(batch, queries, -1))
