"""A call like one before is done without questions, and everything that would change the answer is still asked."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

from qkvlab import Attention
from qkvlab.attention import known
from qkvlab.errors import BadInput

D, HEADS, TOKENS = 32, 4, 30


def made(design="QKV", *, prepared=False, **options):
    torch.manual_seed(0)
    layer = Attention(design, d_model=D, heads=HEADS, **options).eval()
    return layer.prepare() if prepared else layer


def drawn(*shape, **options):
    return torch.randn(*shape, D, generator=torch.Generator().manual_seed(1), **options)


def settled(layer, x, causal=True):
    return layer._known.of(layer, x, causal)


def agrees(layer, x, **options):
    """The fast answer, given after it was given once, is that of the explaining route."""
    layer(x, **options)
    torch.testing.assert_close(layer(x, **options), layer.trace(x, **options).output, atol=2e-6, rtol=2e-5)


@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    "design", ["QKV", "QQV", "QKK", "XXV", "QKV/kv2", "QKV/rope", "MLA8", "QKV/window4", "QKV/cap5"]
)
def test_the_second_call_is_as_the_first(design, causal, prepared):
    for recorded in (False, True):
        layer = made(design, prepared=prepared)
        with torch.set_grad_enabled(recorded):
            agrees(layer, drawn(2, TOKENS), causal=causal)
            layer.out.weight.data.mul_(2)
            next(iter(layer.projections.parameters())).detach().add_(0.5)
            agrees(layer, drawn(3, TOKENS), causal=causal)
            agrees(layer, drawn(2, TOKENS), causal=causal)


@pytest.mark.parametrize("prepared", [False, True])
def test_known_calls_are_settled_and_others_are_not(prepared):
    layer, x = made(prepared=prepared), drawn(2, TOKENS)
    assert settled(layer, x) is None
    layer(x, causal=True)
    assert settled(layer, x) is not None
    assert settled(layer, x, False) is None and settled(layer, x[:, :-1]) is None
    with torch.no_grad():
        assert settled(layer, x) is None
    with torch.autocast("cpu", torch.bfloat16):
        assert settled(layer, x) is None
    layer.route = "plain"
    assert settled(layer, x) is None
    layer.route = "fused"
    assert settled(copy.deepcopy(layer), x) is None
    assert settled(layer.bfloat16(), x) is None


def test_gradients_are_those_of_the_first_call():
    layer, x = made(), drawn(2, TOKENS).requires_grad_()
    leaves = [x, *layer.parameters()]
    first, second = (torch.autograd.grad(layer(x, causal=True).square().sum(), leaves) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("given", "options", "says"),
    [
        (lambda x: x, {"causal": 1}, "causal"),
        (lambda x: x, {"causal": "left"}, "causal"),
        (lambda x: x.double(), {"causal": True}, "float64"),
        (lambda x: x[..., :-1], {"causal": True}, "d_model"),
        (lambda x: x.tolist(), {"causal": True}, "tensor"),
        (lambda x: x.to_sparse(), {"causal": True}, "dense"),
        (lambda x: x, {"causal": True, "padding": torch.tensor([1, 99])}, "lengths"),
    ],
)
def test_bad_input_is_refused_after_good_input_too(given, options, says):
    layer, x = made(), drawn(2, TOKENS)
    for _ in range(2):
        layer(x, causal=True)
        with pytest.raises(BadInput, match=says):
            layer(given(x), **options)


def test_a_layer_that_was_moved_says_so():
    layer, x = made(), drawn(2, TOKENS)
    layer(x, causal=True)
    with pytest.raises(BadInput, match="bfloat16"):
        layer.bfloat16()(x, causal=True)


def test_what_else_is_said_is_heard_after_a_call_that_said_nothing():
    layer, x = made(), drawn(2, TOKENS)
    alone = layer(x, causal=True)
    layer(x, causal=True)
    for options in (
        {"padding": torch.tensor([3, 9])},
        {"mask": torch.ones(TOKENS, TOKENS).tril(-1).bool()},
        {"memory": layer.remember(drawn(2, TOKENS).flip(1))},
    ):
        assert not torch.allclose(layer(x, causal=True, **options), alone)


def test_dropout_is_drawn_in_every_call():
    layer, x = made(dropout=0.5), drawn(2, TOKENS)
    layer(x), layer(x)
    layer.train()
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_a_replaced_way_out_is_taken():
    layer, x = made(), drawn(2, TOKENS)
    layer(x, causal=True), layer(x, causal=True)
    layer.out = nn.Linear(D, 5)
    assert layer(x, causal=True).shape == (2, TOKENS, 5)


def test_a_compiled_layer_is_not_compiled_again_for_what_eager_calls_keep():
    torch.compiler.reset()
    layer, counter = made(), CompileCounter()
    compiled = torch.compile(layer, backend=counter, fullgraph=True)
    for tokens in range(4, 9):
        compiled(drawn(2, TOKENS), causal=True)
        layer(drawn(1, tokens)), layer(drawn(1, tokens))
    assert counter.frame_count == 1


def test_only_so_many_kinds_are_kept():
    layer = made()
    for tokens in range(1, known.MOST + 10):
        layer(drawn(1, tokens))
    assert len(layer._known._attend) <= known.MOST


def test_planted_a_kind_that_forgets_causality_is_caught(monkeypatch):
    kind = known._kind
    monkeypatch.setattr(known, "_kind", lambda layer, x, causal: (kind(layer, x, causal), x.shape)[1])
    layer, x = made(), drawn(2, TOKENS)
    layer(x)
    with pytest.raises(AssertionError):
        agrees(layer, x, causal=True)


def test_planted_a_kind_that_forgets_the_dtype_is_caught(monkeypatch):
    kind = known._kind
    monkeypatch.setattr(known, "_kind", lambda layer, x, causal: kind(layer, x.float(), causal) and (x.shape, causal))
    with pytest.raises(RuntimeError):  # of a product, instead of what came and what was expected
        test_bad_input_is_refused_after_good_input_too(lambda x: x.double(), {"causal": True}, "float64")
