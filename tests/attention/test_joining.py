"""Prepared layers of MLA take joined matrices: the same numbers, of the weights as they are, in fewer passes."""

import pytest
import torch
from torch import nn

from qkvlab import Attention
from qkvlab.attention import following, prepared, ready
from qkvlab.designs.joined import Folded, Joined

NAMES = ("MLA24/rope16", "MLA32", "MLA24q40/rope8", "MLA/rope", "MLA16/rope8-base500-yarn-by4-of16")
FIRST, TOKENS = 30, 40


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def built(name, dtype=torch.float64, **how):
    torch.manual_seed(0)
    layer = Attention(name, d_model=128, heads=4, **how)
    for weight in layer.parameters():
        nn.init.normal_(weight, std=weight.shape[-2] ** -0.5)
    return layer.to(dtype)


def stepped(layer, x, cache=None):
    """The last tokens, one by one."""
    cache = layer.new_cache(x.shape[0], TOKENS) if cache is None else cache
    cache.truncate(min(FIRST, len(cache)))
    if not len(cache):
        layer.step(x[:, :FIRST], cache)
    return torch.cat([layer.step(x[:, at : at + 1], cache) for at in range(FIRST, TOKENS)], 1)


@pytest.fixture
def taken(monkeypatch):
    """The joined forms that made q and k."""
    seen = []
    for form in (Joined, Folded):

        def watched(self, weights, memory, dims, original=form.recall):
            seen.extend([type(self)] if memory.kept["latent"].device.type == "cpu" else [])
            return original(self, weights, memory, dims)

        monkeypatch.setattr(form, "recall", watched)
    return seen


@pytest.mark.parametrize("route", ["fused", "native"])
@pytest.mark.parametrize("name", NAMES)
def test_the_same_numbers(name, route, taken):
    layer, x = built(name, route=route), draw(2, TOKENS, 128).double()
    with torch.no_grad():
        other = built(name, route="plain")
        wanted, steps = other(x, causal=True), stepped(other, x)
        assert not taken
        close = {"rtol": 0, "atol": 1e-9 if route == "fused" else 1e-4}  # the kernel's numbers are single
        torch.testing.assert_close(layer.prepare()(x, causal=True), wanted, **close)
        assert taken == ([Joined] if "rope" in name else [])
        taken.clear()
        torch.testing.assert_close(stepped(layer, x), steps, rtol=0, atol=1e-9)
        assert taken.count(Folded) == (0 if name == "MLA/rope" else TOKENS - FIRST)
    assert layer(x, causal=True).requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_as_exact_in_other_precisions(name, dtype):
    layer, x = built(name, dtype), draw(2, TOKENS, 128).to(dtype)
    exact = built(name)
    exact.load_state_dict(layer.state_dict())
    with torch.no_grad():
        wanted = exact(x.double(), causal=True)
        others = [layer(x, causal=True), stepped(layer, x)]
        found = [layer.prepare()(x, causal=True), stepped(layer, x)]
    for mine, other, want in zip(found, others, (wanted, wanted[:, FIRST:]), strict=True):
        assert (mine - want).square().mean() <= 1.3 * (other - want).square().mean()


def weights_are_read_anew(name, changed):
    layer, x = built(name).prepare(), draw(2, TOKENS, 128).double()
    with torch.no_grad():
        cache = layer.new_cache(2, TOKENS)
        before = layer(x, causal=True), stepped(layer, x, cache)
        dict(layer.named_parameters())[changed].mul_(2)
        other = built(name)
        other.load_state_dict(layer.state_dict())
        kept = other.new_cache(2, TOKENS)  # of the first tokens, the cache holds what it held
        other.step(x[:, :FIRST], kept)
        for mine, theirs in zip(cache._stores.values(), kept._stores.values(), strict=True):
            theirs.copy_(mine)
        torch.testing.assert_close(layer(x, causal=True), other(x, causal=True), rtol=0, atol=1e-9)
        torch.testing.assert_close(stepped(layer, x, cache), stepped(other, x, kept), rtol=0, atol=1e-9)
        assert not torch.allclose(layer(x, causal=True), before[0])
        assert not torch.allclose(stepped(layer, x, cache), before[1])


MATRICES = [f"projections.{each}" for each in ("q", "qr", "dkv", "dkv_gain", "kr", "uk", "uv")] + ["out.weight"]


@pytest.mark.parametrize("changed", MATRICES)
def test_weights_are_read_anew(changed):
    weights_are_read_anew("MLA24/rope16", changed)


@pytest.mark.parametrize("changed", sorted(set(MATRICES) - {"projections.dkv_gain"}))
def test_a_layer_that_does_not_look_is_caught(changed, monkeypatch):
    monkeypatch.setattr(following.Followed, "stands", lambda self, layer: True)
    with pytest.raises(AssertionError):
        weights_are_read_anew("MLA24/rope16", changed)


def test_layers_as_they_come_take_no_joined_form(taken):
    layer, x = built("MLA24/rope16"), draw(2, TOKENS, 128).double()
    with torch.no_grad():
        layer(x), stepped(layer, x)
    layer.prepare()
    layer.out.register_forward_hook(lambda module, given, made: made)  # what is watched is not replaced
    stepped(layer, x)
    assert not taken


class Products(torch.utils._python_dispatch.TorchDispatchMode):
    """Counts what is called."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append(func)
        return func(*args, **(kwargs or {}))


def test_steps_multiply_twice_and_put_nothing_beside_anything():
    layer, x = built("MLA24/rope16").prepare(), draw(2, TOKENS, 128).double()
    cache = layer.new_cache(2, TOKENS)
    with torch.no_grad():
        stepped(layer, x, cache), layer(x, causal=True)
    cache.truncate(FIRST)
    with Products() as products:
        layer.step(x[:, FIRST : FIRST + 1], cache)
    aten = torch.ops.aten
    assert products.seen.count(aten.mm.default) == 2 and aten.cat.default not in products.seen
    with torch.no_grad(), Products() as products:
        layer(x, causal=True)
    assert products.seen.count(aten.mm.default) == 4 and aten.cat.default not in products.seen


def test_forms_are_made_once():
    layer, x = built("MLA24/rope16").prepare(), draw(2, TOKENS, 128).double()
    cache = layer.new_cache(2, TOKENS)
    with torch.no_grad():
        stepped(layer, x, cache), layer(x)
        made = cache._prepared, layer.preparation._made
        stepped(layer, x, cache), layer(x)
    assert (cache._prepared, layer.preparation._made) == made
    assert isinstance(made[0], prepared.Prepared) and isinstance(made[1], ready.Ready)
