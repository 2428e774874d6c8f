"""One exported program serves texts of many lengths and batches of many sizes, with every limit on what is seen."""

import pytest
import torch
from torch.export import Dim, export

from qkvlab import Attention
from qkvlab.attention import core, native

shares_of = core.shares


def one_program_serves_every_length(name, route):
    """What is exported on ten tokens equals the layer on others."""
    torch.manual_seed(0)
    layer = Attention(name, d_model=32, heads=4, route=route)
    x, lengths, mask = torch.randn(2, 10, 32), torch.tensor([10, 6]), torch.ones(10, 10, dtype=torch.bool)
    most = core.ROWS // 2 if "window" in name else core.ROWS  # narrow windows run in smaller blocks
    batch, tokens = Dim("batch", min=2, max=8), Dim("tokens", min=2, max=most)
    shapes = {"causal": None, "padding": {0: batch}, "mask": {0: tokens, 1: tokens}}
    program = export(
        layer,
        (x,),
        {"causal": True, "padding": lengths, "mask": mask},
        dynamic_shapes={"x": {0: batch, 1: tokens}, **shapes},
        # guards that hold for every length, but that PyTorch cannot prove, are then asserted when it runs
        prefer_deferred_runtime_asserts_over_guards=True,
    ).module()
    for b, t in ((3, 17), (2, 3), (4, most)):
        x, mask = torch.randn(b, t, 32), torch.rand(t, t) < 0.7
        limits = {"causal": True, "padding": torch.arange(1, b + 1), "mask": mask}
        assert torch.allclose(program(x, **limits), layer(x, **limits), atol=1e-5), (b, t)


@pytest.mark.parametrize("route", ["plain", "fused"])
@pytest.mark.parametrize("name", ["QKV/kv2/rope", "QKV/kv2/cap5/alibi", "QQV/noself/sink", "QKV/diff/window4"])
def test_one_program_serves_every_length(name, route):
    one_program_serves_every_length(name, route)


def spans_are_judged_by_their_length(q, k, visible, scoring, rows=None, keys=None):
    return shares_of(q, k, visible, scoring, rows or visible.all_rows, keys or visible.all_keys)


def test_a_length_that_is_looked_at_is_caught(monkeypatch):
    monkeypatch.setattr(core, "shares", spans_are_judged_by_their_length)
    with pytest.raises(torch._dynamo.exc.UserError, match="tokens"):
        one_program_serves_every_length("QKV/cap5", "fused")


def one_program_without_masks(route, prepare):
    """What is exported on ten tokens, where only causality hides, equals the layer on others, before and after 24."""
    torch.manual_seed(0)
    layer = Attention("QKV/kv2/rope", d_model=32, heads=4, route=route)
    if prepare:
        layer.prepare()
    shapes = {"x": {1: Dim("tokens", min=2, max=core.ROWS)}, "causal": None}
    options = {"dynamic_shapes": shapes, "prefer_deferred_runtime_asserts_over_guards": True}
    program = export(layer, (torch.randn(2, 10, 32),), {"causal": True}, **options)
    assert not [node for node in program.graph.nodes if "qkvlab" in str(node.target)]
    for t in (3, 40, core.ROWS):
        x = torch.randn(2, t, 32)
        assert torch.allclose(program.module()(x, causal=True), layer(x, causal=True), atol=1e-5), t


@pytest.mark.parametrize("prepare", [False, True])
@pytest.mark.parametrize("route", ["fused", "native", "plain"])
def test_one_program_without_masks_serves_every_length(route, prepare):
    one_program_without_masks(route, prepare)


def kernel_for_long_texts(q, k, v, visible, scoring):
    far = q.shape[-2] >= native.SHORTEST
    return (core._near if far else core.attend_fused)(q, k, v, visible, scoring)


@pytest.mark.parametrize(("route", "prepare"), [("fused", True), ("native", False)])
def test_a_kernel_that_some_lengths_take_is_caught(monkeypatch, route, prepare):
    monkeypatch.setattr(core, f"attend_{'prepared' if prepare else 'native'}", kernel_for_long_texts)
    with pytest.raises(torch._dynamo.exc.UserError, match="tokens"):
        one_program_without_masks(route, prepare)
