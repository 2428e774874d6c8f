"""Eager, compiled and exported agree, and the fast route is really taken."""

import pytest
import torch
import torch.nn.functional as F

from qkvlab import Attention
from qkvlab.designs import examples
from qkvlab.testing.sizes import attention, sizes, tokens

OPTIONS = {
    "all": {},
    "causal": {"causal": True},
    "lengths": {"padding": torch.tensor([3, 5])},
    "flags": {"causal": True, "padding": torch.tensor([[True] * 4 + [False], [True] * 5])},
    "mask": {"mask": torch.ones(5, 5, dtype=torch.bool).triu(-1)},
}


@pytest.fixture
def calls(monkeypatch):
    """Every call of scaled_dot_product_attention: its keywords."""
    seen, original = [], F.scaled_dot_product_attention

    def watched(*args, **kwargs):
        seen.append(kwargs)
        return original(*args, **kwargs)

    monkeypatch.setattr(F, "scaled_dot_product_attention", watched)
    return seen


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("name", ["QKV", "QKV/kv2", "XXX"])
def test_the_fused_route_is_scaled_dot_product_attention(name, options, calls):
    layer = attention(examples()[name], route="fused")
    x = tokens(layer.dims)
    layer(x, **options)
    assert len(calls) == 1
    layer.trace(x, **options)
    attention(examples()[name])(x, **options)
    assert len(calls) == 1, "the explaining and the plain route multiply matrices"


def test_plain_causal_attention_builds_no_mask(calls):
    layer = attention(examples()["QKV/kv2"], route="fused")
    layer(tokens(layer.dims), causal=True)
    assert calls[0]["is_causal"] is True and calls[0]["attn_mask"] is None


def test_fused_is_the_default():
    assert Attention("QKV", d_model=8).route == "fused"


def values_and_gradients(run, layer, x, options):
    layer.zero_grad()
    x = x.clone().requires_grad_()
    out = run(x, **options)
    out.square().sum().backward()
    return [out.detach(), x.grad, *(p.grad.clone() for p in layer.parameters() if p.grad is not None)]


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("route", ["fused", "plain"])
@pytest.mark.parametrize("name", ["QKV", "QKK/kv2", "QDQ", "uniform"])
def test_compiled_in_one_graph(name, route, options):
    torch.compiler.reset()
    design = examples()[name]
    layer = attention(design, route=route)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    eager = values_and_gradients(layer, layer, tokens(layer.dims), options)
    for got, wanted in zip(values_and_gradients(compiled, layer, tokens(layer.dims), options), eager, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("design", examples().values(), ids=str)
def test_exported(design, options):
    layer = attention(design, route="fused")
    x = tokens(sizes(design))
    program = torch.export.export(layer, (x,), options)
    torch.testing.assert_close(program.module()(x, **options), layer(x, **options), rtol=0, atol=1e-12)
