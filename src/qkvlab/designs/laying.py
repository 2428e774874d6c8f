"""One design's weights laid into another's: QKV with the same parts behind it holds whatever only multiplies x.

Where q, k and v are x times some matrix each, QKV with these three matrices is the same layer: the same one twice where
it is shared, the identity where there is none, zeros for equal attention. They are what the design itself makes of the
identity instead of x, so no design declares them; that they are all it does is tried out on numbers. Gradients come
back through the same functions: those of a shared matrix sum, those of an identity lead nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np

from qkvlab.contracts import Array, Dims
from qkvlab.designs.around import Around
from qkvlab.designs.design import Design, Weights, functions, join_heads
from qkvlab.designs.ways import Way
from qkvlab.errors import BadInput

FULL = Way("QKV")
TOKENS = 5


@cache
def host(design: Design, dims: Dims) -> Design | None:
    """Return the design that can hold this one's weights at these sizes; None where none can, or it is it itself."""
    try:
        core = _core(design, dims)
        found = _with_core(design, core, FULL)
        if found == design or not _equal(design, found, dims):
            return None
    except (BadInput, AttributeError, TypeError):  # cannot be so, or runs on tensors only
        return None
    return found


def lay(design: Design, dims: Dims, weights: Weights, identity: Array) -> dict[str, Array]:
    """Return the weights of the host that make it compute what the design computes from its own.

    Args:
        design: which has a `host` at these sizes.
        dims: sizes.
        weights: of the design.
        identity: (d, d), beside them and in their precision.
    """
    core = _core(design, dims)
    # x W is W where x is the identity; `times` takes products that are made beforehand
    made = {**weights, "made:x": identity, **{f"made:{name}": weight for name, weight in weights.items()}}
    inner = _inside(design, core, dims)
    q, memory = core.project(made, identity, inner, None)
    roles = q, *core.recall(made, memory, inner)
    laid = [join_heads(_for_each_query(part, inner.heads)) for part in roles]
    parts = {name: weights[name] for name in design.matrices(dims) if name not in core.matrices(inner)}
    return {**dict(zip(FULL.products(inner), laid, strict=True)), **parts}


def _core(design: Design, dims: Dims) -> Design:
    """Return what stands inside all parts that leave the inner matrices as they are."""
    while isinstance(design, Around):
        whole, inside = design.matrices(dims), design.inner.matrices(design.sizes(dims))
        if any(whole.get(name) != matrix for name, matrix in inside.items()):
            break
        design, dims = design.inner, design.sizes(dims)
    return design


def _with_core(design: Design, core: Design, other: Design) -> Design:
    if design == core or not isinstance(design, Around):
        return other
    return replace(design, inner=_with_core(design.inner, core, other))


def _inside(design: Design, core: Design, dims: Dims) -> Dims:
    """Return the sizes at which the core works."""
    while design != core and isinstance(design, Around):
        design, dims = design.inner, design.sizes(dims)
    return core.sizes(dims)


def _for_each_query(part: Array, heads: int) -> Array:
    """Repeat the heads of keys or values for each head of q that they serve: (g, s, c) -> (h, s, c)."""
    groups, *rest = part.shape
    if groups == heads:
        return part
    return functions(part).stack([part] * (heads // groups), 1).reshape(heads, *rest)


def _equal(design: Design, other: Design, dims: Dims) -> bool:
    """Whether a design and the one that holds its weights are the same function, at a random point of all of them.

    Functions that differ anywhere differ there, but for chance of measure 0: they are analytic.
    """
    if _fixed(design, dims) != _fixed(other, dims):
        return False
    rng = np.random.default_rng(0)
    matrices, held = design.matrices(dims), other.matrices(dims)
    weights = {name: rng.normal(size=(m.rows, m.columns)) / np.sqrt(m.rows) for name, m in matrices.items()}
    laid = lay(design, dims, weights, np.eye(dims.d_model))
    shapes = {name: (m.rows, m.columns) for name, m in held.items()}
    if {name: weight.shape for name, weight in laid.items()} != shapes:
        return False
    if any(m.trained and not held[name].trained for name, m in matrices.items() if name in held):
        return False
    pairs = zip(_made(design, dims, weights), _made(other, dims, laid), strict=True)
    return all(a.shape == b.shape and np.allclose(a, b, rtol=1e-9, atol=1e-9) for a, b in pairs)


def _fixed(design: Design, dims: Dims) -> list[object]:
    """Return what a design says that depends on no weight."""
    sizes, at = design.head_sizes(dims), design.sizes(dims)
    told = [design.root(dims), design.window, design.sees_itself, design.served(dims), design.out_bias]
    return [*told, at, sizes.queries, sizes.channels, sizes.value_channels, len(design.bends({}, dims))]


def _made(design: Design, dims: Dims, weights: Weights) -> Iterator[np.ndarray]:
    """Yield all that a design makes of some tokens and of some scores; numbers are the same at every call."""
    rng, sizes = np.random.default_rng(1), design.head_sizes(dims)
    x = rng.normal(size=(TOKENS, dims.d_model))
    q, memory = design.project(weights, x, dims, None)
    yield q
    for part in design.recall(weights, memory, dims):
        yield _for_each_query(part, sizes.queries)
    scores = rng.normal(size=(sizes.queries, TOKENS, TOKENS))
    places = np.arange(TOKENS)
    for bend in design.bends(weights, dims):
        scores = bend(scores, places[:, None] - places)
    yield scores
    sinks = design.sinks(weights, dims)
    yield np.zeros(0) if sinks is None else sinks
    yield design.finish(weights, rng.normal(size=(sizes.queries, TOKENS, sizes.value_channels)), dims)
