"""Which argument of x-transformers is which part here: both layers with the same weights, and how far apart they are.

    python benchmarks/x_transformers_parts.py

backs the table in `docs/attention.md`. Each line is an argument there, a design here, and the largest difference of
their outputs at real tokens. Needs ``pip install x-transformers`` (the extra ``bench``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from x_transformers.x_transformers import AlibiPositionalBias, RotaryEmbedding
from x_transformers.x_transformers import Attention as Theirs

from qkvlab import Attention

D, HEADS, CHANNELS, TOKENS = 32, 4, 8, 9

Change = Callable[[Any, Attention], None]


def unchanged(theirs: Any, ours: Attention) -> None:
    """Leave what both start at."""


def sinks(theirs: Any, ours: Attention) -> None:
    """Draw sinks, which start at 0."""
    with torch.no_grad():
        ours.projections.get_parameter("sink").normal_()
        theirs.attend.head_attn_sink.copy_(ours.projections.get_parameter("sink")[0])


def scale_of_ten(theirs: Any, ours: Attention) -> None:
    """Set the scale that is trained here to the one that is fixed there."""
    with torch.no_grad():
        ours.projections.get_parameter("scale").fill_(10.0)


def rotary(channels: int) -> dict[str, Any]:
    """Return what `AttentionLayers` hands down under ``rotary_pos_emb=True``."""
    return {"rotary_pos_emb": RotaryEmbedding(channels).forward_from_seq_len(TOKENS)}


def pairs() -> Iterator[tuple[str, str, dict[str, Any], dict[str, Any], dict[str, Any], Change]]:
    """Yield what is compared, the design, their arguments, those of their call, those of ours, and what is set."""
    real = torch.arange(TOKENS) < torch.tensor([[5], [TOKENS]])
    mask = torch.rand(TOKENS, TOKENS, generator=torch.Generator().manual_seed(1)) < 0.6
    mask.fill_diagonal_(True)
    causal = {"causal": True}
    alibi = {"rel_pos": AlibiPositionalBias(heads=HEADS, total_heads=HEADS)}
    yield "nothing", "QKV", {}, {}, {}, unchanged
    yield "causal", "QKV", causal, {}, causal, unchanged
    yield "mask", "QKV", {}, {"mask": real}, {"padding": real}, unchanged
    yield "attn_mask", "QKV", {}, {"attn_mask": mask}, {"mask": mask}, unchanged
    yield "one_kv_head", "QKV/kv1", {"one_kv_head": True}, {}, {}, unchanged
    yield "kv_heads=2", "QKV/kv2", {"kv_heads": 2}, {}, {}, unchanged
    yield "rotary_emb_dim=8", "QKV/rope-interleaved", causal, rotary(8), causal, unchanged
    yield "rotary_emb_dim=4", "QKV/rope-interleaved-first4", causal, rotary(4), causal, unchanged
    yield "alibi_pos_bias", "QKV/alibi", causal, alibi, causal, unchanged
    yield "max_attend_past=3", "QKV/window4", {**causal, "max_attend_past": 3}, {}, causal, unchanged
    yield "softclamp_logits", "QKV/cap3", {"softclamp_logits": True, "logit_softclamp_value": 3.0}, {}, {}, unchanged
    yield "head_learned_sink", "QKV/sink", {"head_learned_sink": True}, {}, {}, sinks
    yield "qk_rmsnorm", "QKV/qknorm", {"qk_rmsnorm": True}, {}, {}, unchanged
    yield "qk_norm", "QKV/unitnorm", {"qk_norm": True}, {}, {}, scale_of_ten
    yield "value_rmsnorm", "QKV/vnorm", {"value_rmsnorm": True}, {}, {}, unchanged


def give(theirs: Any, ours: Attention) -> None:
    """Give our layer their matrices; their query head i reads key head i mod g, ours i // (h // g)."""
    groups = ours.design.kv_heads(ours.dims)
    order = torch.arange(HEADS).view(-1, groups).T.flatten()
    with torch.no_grad():
        for name in ("q", "k", "v"):
            matrix = getattr(theirs, f"to_{name}").weight.T
            heads = matrix.unflatten(1, (-1, CHANNELS))
            ours.projections.get_parameter(name).copy_((heads[:, order] if name == "q" else heads).flatten(1))
        ours.out.weight.copy_(theirs.to_out.weight.unflatten(1, (HEADS, CHANNELS))[:, order].flatten(1))


def gap(a: Tensor, b: Tensor, real: Tensor | None = None) -> float:
    """Return the largest difference, of real tokens where some are not."""
    apart = (a - b).detach().abs().amax(-1)
    return float((apart if real is None else apart[real]).max())


def main() -> None:
    """Print every line, and fail where one differs by more than rounding."""
    logging.disable(logging.WARNING)
    torch.manual_seed(0)
    x, source = torch.randn(2, TOKENS, D), torch.randn(2, 5, D)
    found: dict[str, tuple[str, float]] = {}
    for what, design, made, called, here, change in pairs():
        theirs: Any = Theirs(D, dim_head=CHANNELS, heads=HEADS, **made).eval()
        ours = Attention(design, d_model=D, heads=HEADS, d_head=CHANNELS)
        give(theirs, ours)
        change(theirs, ours)
        found[what] = design, gap(theirs(x, **called), ours(x, **here), called.get("mask"))
    theirs = Theirs(D, dim_head=CHANNELS, heads=HEADS).eval()
    ours = Attention("QKV", d_model=D, heads=HEADS, d_head=CHANNELS)
    give(theirs, ours)
    real = torch.tensor([[True, True, False, True, True], [True, False, False, True, False]])
    asked = ours(x, ours.remember(source), padding=real)
    found["context, context_mask"] = "QKV", gap(theirs(x, context=source, context_mask=real), asked)
    for what, (design, apart) in found.items():
        print(f"{what:24} {design:30} {apart:.1e}")
    worst = max(found, key=lambda what: found[what][1])
    if found[worst][1] > 1e-5:
        raise SystemExit(f"{worst} differs by {found[worst][1]:.1e}: the table in docs/attention.md is wrong there.")


if __name__ == "__main__":
    main()
