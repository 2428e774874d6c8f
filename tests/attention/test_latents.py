"""q, k and v of MLA as one step of autograd: its gradients are those of formulas; it is taken where it should be."""

import pytest
import torch
from torch import nn

from qkvlab import Attention
from qkvlab.contracts import Dims
from qkvlab.designs import latents, parse, rotation

NAMES = ("MLA24/rope16", "MLA/rope", "MLA8/rope2", "MLA16/rope8-base500-yarn-by4-of16", "MLA16/rope8-linear-by2")
TOKENS = 40


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def built(name, dtype=torch.float64):
    torch.manual_seed(0)
    layer = Attention(name, d_model=64, heads=4)
    for weight in layer.parameters():
        nn.init.normal_(weight, std=weight.shape[-2] ** -0.5)
    return layer.to(dtype)


@pytest.fixture
def taken(monkeypatch):
    """Shapes of what was made so."""
    seen, forward = [], latents.Latents.forward

    def watched(ctx, form, dims, positions, x, *matrices):
        seen.append(tuple(x.shape))
        return forward(ctx, form, dims, positions, x, *matrices)

    monkeypatch.setattr(latents.Latents, "forward", staticmethod(watched))
    return seen


def learned(layer, x, **options):
    """The output, and the gradient of x and of every matrix."""
    x = x.clone().requires_grad_()
    out = layer(x, causal=True, **options)
    found = torch.autograd.grad(out.square().sum(), [x, *layer.parameters()])
    assert all(one.shape == two.shape for one, two in zip(found, (x, *layer.parameters()), strict=True))
    return [out.detach(), *found]


def gradients_are_those_of_formulas(name="MLA24/rope16"):
    x = draw(2, TOKENS, 64).double()
    for options in ({}, {"positions": torch.arange(TOKENS).flip(0)}, {"positions": torch.arange(80).view(2, -1)}):
        wanted, got = learned(built(name), x, **options), learned(built(name).prepare(), x, **options)
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_formulas(name, taken):
    gradients_are_those_of_formulas(name)
    assert len(taken) == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", NAMES[:3])
def test_as_exact_in_other_precisions(name, dtype, taken):
    x, layer, exact = draw(2, 300, 64).to(dtype), built(name, dtype), built(name)
    exact.load_state_dict(layer.state_dict())
    wanted, others = learned(exact, x.double()), learned(layer, x)
    for mine, other, want in zip(learned(layer.prepare(), x), others, wanted, strict=True):
        assert mine.dtype == dtype
        limit = 2 if want.numel() > 100 else 25  # of few numbers errors are luck
        assert (mine - want).square().mean() <= limit * (other - want).square().mean()
    assert len(taken) == 1


def test_only_what_learns_has_a_gradient(taken):
    layer, x = built("MLA24/rope16").prepare(), draw(2, TOKENS, 64).double()
    wanted = learned(built("MLA24/rope16"), x)
    layer.projections.qr.requires_grad_(False)
    layer(x, causal=True).square().sum().backward()
    assert layer.projections.qr.grad is None and len(taken) == 1
    named = dict(zip(("out", "x", *(name for name, _ in layer.named_parameters())), wanted, strict=True))
    for name, weight in layer.named_parameters():
        if weight.grad is not None:
            torch.testing.assert_close(weight.grad, named[name], rtol=1e-9, atol=1e-9)


def test_where_it_is_not_taken(taken):
    x = draw(2, TOKENS, 64).double()
    learned(built("MLA24/rope16"), x)  # not prepared: formulas have second derivatives
    learned(built("MLA24").prepare(), x)  # nothing turns
    learned(built("MLA24q16/rope8").prepare(), x)  # queries have a latent of their own
    learned(built("QKV/rope").prepare(), x)
    layer = built("MLA24/rope16").prepare()
    learned(layer, x[:1])  # fewer tokens than channels
    torch.func.grad(lambda x: layer(x, causal=True).sum())(x)
    with torch.no_grad():
        layer(x, causal=True)
    layer.float()
    with torch.autocast("cpu", torch.bfloat16):
        layer(x.float(), causal=True)
    torch.compile(layer, fullgraph=True, backend="eager")(x.float())
    assert not taken
    layer(x.float(), causal=True)
    assert len(taken) == 1


def test_it_is_not_derived_twice():
    layer, x = built("MLA24/rope16").prepare(), draw(2, TOKENS, 64).double().requires_grad_()
    (slope,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError):
        slope.sum().backward()


def test_slopes_are_not_written_into():
    form, dims = parse("MLA24/rope16").joined(Dims.of(64, 4)), Dims.of(64, 4)
    weights = built("MLA24/rope16").projections.weights
    made = form.learned(weights, draw(2, TOKENS, 64).double().requires_grad_(), dims, None)
    slopes = [draw(*part.shape, seed=i).double() for i, part in enumerate(made)]
    before = [slope.clone() for slope in slopes]
    torch.autograd.grad(made, list(weights.values()), slopes)
    assert all(torch.equal(one, two) for one, two in zip(slopes, before, strict=True))


def turned_on(monkeypatch):
    turn = rotation.Rotation.turn_last
    monkeypatch.setattr(rotation.Rotation, "turn_last", lambda self, *args, back=False: turn(self, *args))


def no_epsilon(monkeypatch):
    monkeypatch.setattr(latents, "EPSILON", 1e-2)


def heads_side_by_side(monkeypatch):
    parts = latents._parts

    def mixed(form, dims, whole):
        asks, *others = parts(form, dims, whole)
        return [asks.flip(-2), *others]

    monkeypatch.setattr(latents, "_parts", mixed)


def keys_of_the_next_token(monkeypatch):
    beside = latents.beside
    monkeypatch.setattr(latents, "beside", lambda k, turned: beside(k, turned.roll(1, -2)))


@pytest.mark.parametrize("bug", [turned_on, no_epsilon, heads_side_by_side, keys_of_the_next_token])
def test_planted_bugs_are_seen(bug, monkeypatch):
    bug(monkeypatch)
    with pytest.raises(AssertionError):
        gradients_are_those_of_formulas()
