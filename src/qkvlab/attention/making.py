"""q, k and v of x in the fewest passes: products of whole matrices where that is all, and 1 / root inside one of them.

x (b, t, d)    q (b, h, t, c)    k (b, g, t, c)    v (b, u, t, e)

Weights are read at every call and nothing of them is kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qkvlab.attention import core
from qkvlab.attention.direct import Cut, X, cut, first_products, multiplied
from qkvlab.attention.folding import scales
from qkvlab.attention.scoring import Scoring
from qkvlab.contracts import Dims
from qkvlab.designs import Design

FEW = 128
"""Tokens for which a pass over q costs less than one over its matrix."""


def found(design: Design, dims: Dims) -> tuple[Cut | None, str | None]:
    """Return what makes q, k and v, if they are mere products, and the matrix that 1 / root can go into."""
    plain = cut(design, dims)
    if plain is None:
        multiplied(design, dims)  # which `make` asks for then
    return plain, scales(design, dims) if plain is None else plain.scales


def make(
    design: Design,
    dims: Dims,
    weights: dict[str, Tensor],
    x: Tensor,
    positions: Tensor | None,
    scoring: Scoring,
    *,
    once: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Scoring]:
    """Do what `project` and `recall` do, with 1 / root in q or k where that is cheaper, and say what scoring is left.

    Args:
        design: says how.
        dims: its sizes.
        weights: as they are.
        x: (..., t, d).
        positions: where its tokens stand.
        scoring: with the design's root.
        once: whether gradients are not derived again, so that a gradient that is written out will do.
    """
    if torch.compiler.is_compiling():  # a compiler joins passes by itself
        q, memory = design.project(weights, x, dims, positions)
        return q, *design.recall(weights, memory, dims), scoring
    joined = design.joined(dims) if once and _is_wide(x) and not torch.is_autocast_enabled(x.device.type) else None
    if joined is not None and joined.learns and torch.is_grad_enabled():
        return *joined.learned(weights, x, dims, positions), scoring
    plain, name = found(design, dims)
    factor = 1.0 if name is None else 1 / scoring.root
    if plain is not None and core.only_numbers():
        made = _products(plain, weights, x.flatten(0, -2), factor)
        return *cut_into_heads(plain, made, x), _left(scoring, factor)
    if name is not None and not x.is_cuda and x.shape[:-1].numel() > max(FEW, weights[name].shape[0]):
        weights = {**weights, name: weights[name] * factor}
    else:
        factor = 1.0
    if plain is not None:
        wide = x.is_cuda and len(plain.matrices) > 1 and not core.inside_func()
        made = _wide(plain.matrices, weights, x) if wide else {each: x @ weights[each] for each in plain.matrices}
        return *cut_into_heads(plain, made, x), _left(scoring, factor)
    q, memory = design.project(_with_products(design, dims, weights, x), x, dims, positions)
    return q, *design.recall(weights, memory, dims), _left(scoring, factor)


def _with_products(design: Design, dims: Dims, weights: dict[str, Tensor], x: Tensor) -> dict[str, Tensor]:
    # narrow matrices side by side: a wide product takes less time than several narrow ones; of stacked models all would
    # be copied, and recorded trainings would round otherwise
    names = first_products(design, dims, weights)
    if len(names) < 2 or not _is_wide(x):
        return weights
    made = _wide(names, weights, x)
    return {**weights, **{f"made:{name}": part for name, part in made.items()}, "made:x": x}


def _wide(names: Sequence[str], weights: dict[str, Tensor], x: Tensor) -> dict[str, Tensor]:
    # x times some matrices as one product; on a GPU starting three takes longer than putting the matrices side by side
    parts = [weights[name] for name in names]
    made = (x @ torch.cat(parts, 1)).split_with_sizes([part.shape[1] for part in parts], -1)
    return dict(zip(names, made, strict=True))


def _is_wide(x: Tensor) -> bool:
    return x.shape[:-1].numel() >= x.shape[-1] and not core.inside_func()


def _products(plain: Cut, weights: dict[str, Tensor], x: Tensor, factor: float) -> dict[str, Tensor]:
    # (n, d) times every matrix once, one of them also by the factor: its gradient would be scaled in passes of its own
    parts = [weights[name] for name in plain.matrices]
    scaled = [factor if name == plain.scales else 1.0 for name in plain.matrices]
    if x.dtype == torch.bfloat16 and len(parts) > 1 and x.numel() > sum(part.numel() for part in parts):
        # products this fast wait for x: to read it once takes less time than to put the matrices side by side
        whole = torch.cat([w if by == 1 else w * by for w, by in zip(parts, scaled, strict=True)], 1)
        made = torch.mm(x, whole).split_with_sizes([part.shape[1] for part in parts], 1)
    else:
        no = x.new_empty(())
        made = [torch.addmm(no, x, w, beta=0, alpha=by) for w, by in zip(parts, scaled, strict=True)]
    return dict(zip(plain.matrices, made, strict=True))


def cut_into_heads(plain: Cut, made: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cut q, k and v out of products (n, columns) or (..., t, columns), or of x itself: (..., heads, t, c)."""
    q, k, v = (
        part.view(*x.shape[:-1], heads, part.shape[-1] // heads).transpose(-3, -2)
        for part, heads in ((x if name == X else made[name], heads) for name, heads in plain.parts)
    )
    return q, k, v


def _left(scoring: Scoring, factor: float) -> Scoring:
    return scoring if factor == 1 else scoring.without_root()
