"""Dropout of weights: its identities, on both routes, in one block and in many."""

import pytest
import torch
from torch.func import functional_call, stack_module_state, vmap

from qkvlab import Attention
from qkvlab.attention import core
from qkvlab.errors import BadInput

NAMES = ("QKV", "QKV/kv2", "QKV/kv2/sink", "QKV/kv2/window3", "QKV/kv2/diff")
ROUTES = pytest.mark.parametrize("route", ["fused", "plain"])
X = torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture(params=[3, 256], ids=["blocks", "whole"], autouse=True)
def rows(request, monkeypatch):
    monkeypatch.setattr(core, "ROWS", request.param)


def layer_of(name, route, dropout):
    torch.manual_seed(0)
    return Attention(name, d_model=16, heads=4, route=route, dropout=dropout).double()


@ROUTES
@pytest.mark.parametrize("name", NAMES)
def test_none_is_none_and_judging_drops_nothing(name, route):
    without, never = layer_of(name, route, 0.0), layer_of(name, route, 0.7).eval()
    assert torch.equal(without(X, causal=True), without.eval()(X, causal=True))
    torch.testing.assert_close(never(X, causal=True), without(X, causal=True), rtol=0, atol=1e-12)
    training = layer_of(name, route, 0.7)
    assert not torch.equal(training(X, causal=True), training(X, causal=True))
    torch.testing.assert_close(training.trace(X).output, without.trace(X).output, rtol=0, atol=0)


@ROUTES
@pytest.mark.parametrize("name", NAMES[:-1])  # a norm behind the sum has another mean
@pytest.mark.parametrize("causal", [False, True], ids=["all", "causal"])
def test_the_mean_of_many_draws_is_what_nobody_dropped(name, causal, route):
    layer = layer_of(name, route, 0.4)
    torch.manual_seed(1)
    many = 4000
    found = layer(X[:1].expand(many, -1, -1), causal=causal).detach()
    wanted = layer.eval()(X[:1], causal=causal)[0].detach()
    error = found.std(0) / many**0.5
    assert bool(((found.mean(0) - wanted).abs() <= 5 * error + 1e-12).all())


@ROUTES
def test_as_many_weights_are_dropped_as_said_and_the_others_grow(route):
    # values are the identity, so the output is the weights themselves
    layer = Attention("XXX", d_model=64, route=route, dropout=0.3).double()
    with torch.no_grad():
        layer.out.weight.copy_(torch.eye(64))
    x = torch.eye(64, dtype=torch.float64).expand(20, -1, -1)
    torch.manual_seed(2)
    found, wanted = layer(x).detach(), layer.trace(x).weights[:, 0].detach()
    dropped = found == 0
    assert abs(float(dropped.double().mean()) - 0.3) < 5 * (0.21 / dropped.numel()) ** 0.5
    torch.testing.assert_close(found[~dropped], wanted[~dropped] / 0.7, rtol=0, atol=1e-12)


@ROUTES
@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_is_that_of_the_same_draw(name, route):
    layer = layer_of(name, route, 0.5)

    def output(x):
        torch.manual_seed(3)
        return layer(x, causal=True)

    assert torch.autograd.gradcheck(output, X[:1].clone().requires_grad_())


@ROUTES
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_models_at_once_draw_as_they_are_told(name, route):
    layers = [layer_of(name, route, 0.5) for _ in range(3)]  # equal matrices: only draws can differ
    state = stack_module_state(layers)

    def run(state):
        return functional_call(layers[0], state, (X,), {"causal": True})

    same = vmap(run, randomness="same")(state)
    torch.testing.assert_close(same[0], same[1], rtol=0, atol=1e-12)
    assert not torch.allclose(same[0], layers[0].eval()(X, causal=True))
    layers[0].train()
    different = vmap(run, randomness="different")(state)
    assert not torch.allclose(different[0], different[1])
    with pytest.raises(RuntimeError, match="randomness"):
        vmap(run)(state)


@pytest.mark.parametrize("chance", [-0.1, 1.0, 2, float("nan"), "0.1", None])
def test_impossible_chances_are_refused(chance):
    with pytest.raises(BadInput, match="dropout must be at least 0 and below 1"):
        Attention("QKV", d_model=8, dropout=chance)
