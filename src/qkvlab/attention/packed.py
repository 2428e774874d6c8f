"""Texts of different lengths one behind the other: each attends to itself alone, and nothing is padded.

x (total, d) or (1, total, d)    lengths: tokens of each text    n texts of one length, l tokens each

Tokens are projected all at once. Texts of one length then attend side by side, (n, h, l, c), so that no scores between
two texts are ever made and no kernel runs more often than there are different lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from qkvlab.attention import routes
from qkvlab.attention.masks import Causal, causal_shift
from qkvlab.attention.visible import Span
from qkvlab.errors import BadInput

if TYPE_CHECKING:
    from qkvlab.attention.layer import Attention

Lengths = Tensor | Sequence[int]


@dataclass(frozen=True)
class Run:
    """Texts of one length, side by side in tokens that are sorted by it."""

    start: int
    texts: int
    tokens: int

    @property
    def span(self) -> Span:
        return Span(self.start, self.start + self.texts * self.tokens)


def attend_packed(
    layer: Attention,
    x: Tensor,
    lengths: Lengths | None,
    causal: Causal,
    positions: Tensor | None,
    other: dict[str, object],
) -> Tensor:
    """Do what `Attention.forward` says of ``packed`` and of nested tensors.

    Args:
        layer: the layer.
        x: (total, d), (1, total, d), or a nested tensor (n, any, d) of jagged layout.
        lengths: whole numbers (n,) that sum to total; None where x is nested.
        causal: as in `forward`.
        positions: (total,); 0, 1, 2, ... in each text unless given.
        other: what else the caller said; it must be nothing.

    Raises:
        BadInput: lengths that do not fit, or arguments that say what packed texts cannot mean.
    """
    name = "packed" if lengths is not None else "a nested x"
    for each, value in other.items():
        if value is not None:
            raise BadInput(f"{name} takes no {each}: its texts attend to themselves and hold no padding.")
    if causal is not False:
        causal_shift(1, 1, causal)
    if isinstance(x, Tensor) and x.is_nested:
        if lengths is not None:
            raise BadInput("a nested x knows its lengths; pass it without packed.")
        tokens, offsets = _opened(x, layer.dims.d_model)
        out = _attend(layer, tokens, offsets.diff().tolist(), causal, positions)
        return torch.nested.nested_tensor_from_jagged(out, offsets=offsets)
    assert lengths is not None
    layer.require_tokens(x)
    if x.ndim > 2 and x.shape[:-2] != (1,):
        raise BadInput(
            f"packed x must be (total, d_model={layer.dims.d_model}), texts one behind the other; got {tuple(x.shape)}."
        )
    tokens = x if x.ndim == 2 else x[0]
    out = _attend(layer, tokens, _whole(lengths, len(tokens)), causal, positions)
    return out if x.ndim == 2 else out[None]


def _attend(layer: Attention, x: Tensor, lengths: list[int], causal: Causal, positions: Tensor | None) -> Tensor:
    # (total, d) -> (total, d)
    layer.require_tokens(x, positions)
    if positions is not None and positions.ndim != 1:
        raise BadInput(f"positions of packed tokens must be ({len(x)},); got {tuple(positions.shape)}.")
    runs, order = _sorted(lengths)
    moved = None if order is None else torch.tensor(order, device=x.device)
    if moved is not None:
        x, positions = x[moved], None if positions is None else positions[moved]
    q, memory = layer.projections.project(x, _restarting(runs, x.device) if positions is None else positions)
    k, v = layer.projections.recall(memory)
    scoring, found = layer.scoring(), []
    for run in runs:
        asked, keys, values = (_side_by_side(part, run) for part in (q, k, v))
        shape = (*asked.shape[:-1], run.tokens)
        stand = None if positions is None else positions[run.span.slice].unflatten(0, (run.texts, run.tokens))
        visible = layer.visible(shape, x.device, own=True, causal=causal, positions=(stand, stand))
        found.append(routes.attend(layer, asked, keys, values, visible, scoring).swapaxes(0, 1).flatten(1, 2))
    out = layer.join(torch.cat(found, 1))
    return out if moved is None else out[moved.argsort()]


def _restarting(runs: list[Run], device: torch.device) -> Tensor:
    # 0, 1, 2, ... in each text: (total,)
    return torch.cat([torch.arange(run.tokens, device=device).repeat(run.texts) for run in runs])


def _side_by_side(part: Tensor, run: Run) -> Tensor:
    # (h, total, c) -> (n, h, l, c), a view
    return part[:, run.span.slice].unflatten(1, (run.texts, run.tokens)).swapaxes(0, 1)


def _sorted(lengths: list[int]) -> tuple[list[Run], list[int] | None]:
    # runs of texts sorted by length, and the tokens in that order, where it is not their own
    starts = [0, *accumulate(lengths)]
    texts = sorted((i for i, length in enumerate(lengths) if length), key=lengths.__getitem__)  # equal ones keep order
    runs: list[Run] = []
    for i in texts:
        if runs and runs[-1].tokens == lengths[i]:
            runs[-1] = Run(runs[-1].start, runs[-1].texts + 1, lengths[i])
        else:
            runs.append(Run(runs[-1].span.stop if runs else 0, 1, lengths[i]))
    order = None
    if texts != sorted(texts):
        order = [place for i in texts for place in range(starts[i], starts[i + 1])]
    return runs or [Run(0, 1, 0)], order


def _whole(lengths: Lengths, total: int) -> list[int]:
    if isinstance(lengths, Tensor):
        whole = not (lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool)
        if not whole or lengths.ndim != 1 or lengths.is_meta:
            raise BadInput(
                f"packed must be the length of each text, whole numbers (texts,); got {lengths.dtype} "
                f"{tuple(lengths.shape)} on {lengths.device}."
            )
        lengths = lengths.tolist()
    elif not isinstance(lengths, Sequence) or not all(isinstance(n, int) and not isinstance(n, bool) for n in lengths):
        raise BadInput(f"packed must be the length of each text, whole numbers (texts,); got {lengths!r:.80}.")
    if any(n < 0 for n in lengths) or sum(lengths) != total:
        shown = ", ".join(map(str, lengths[:8])) + (", ..." if len(lengths) > 8 else "")
        raise BadInput(
            f"packed lengths must be 0 or more and sum to the {total} tokens of x; got {shown}, in all {sum(lengths)}."
        )
    return list(lengths)


def _opened(x: Any, d_model: int) -> tuple[Tensor, Tensor]:
    # the tokens of all texts, (total, d), and where each begins and the last ends, (n + 1,)
    if x.layout != torch.jagged:
        raise BadInput("a nested x must be of jagged layout: torch.nested.nested_tensor(texts, layout=torch.jagged).")
    if x.lengths() is not None:
        raise BadInput("a nested x must be contiguous, without holes between its texts: pass x.contiguous().")
    tokens = x.values()
    if x.ndim != 3 or x.shape[-1] != d_model or tokens.ndim != 2:
        raise BadInput(
            f"a nested x must be (texts, tokens, d_model={d_model}), its tokens jagged; got {tuple(x.shape)}."
        )
    return tokens, x.offsets()
