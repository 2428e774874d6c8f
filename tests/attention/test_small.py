"""The route of short sequences does what the explaining one does, for every design, and is really taken."""

from __future__ import annotations

import math

import pytest
import torch
from torch.func import functional_call, grad, vmap

from qkvlab import Attention
from qkvlab.attention import core, small
from qkvlab.attention.scoring import Scoring
from qkvlab.attention.visible import Visible
from qkvlab.designs import examples
from qkvlab.testing.sizes import attention, sizes, tokens

COUNT = 15
"""Tokens: a multiple of nothing that the kernel is built of."""
LENGTHS = torch.tensor([7, COUNT])
OPTIONS = {
    "all": {},
    "causal": {"causal": True},
    "lengths": {"padding": LENGTHS},
    "flags": {"causal": True, "padding": torch.arange(COUNT) >= torch.tensor([[3], [0]])},
    "mask": {"mask": torch.ones(COUNT, COUNT, dtype=torch.bool).triu(-1)},
}


@pytest.fixture
def from_one(monkeypatch):
    """Sequences of any length are short."""
    monkeypatch.setattr(small, "SHORTEST", 1)


@pytest.fixture
def taken(monkeypatch):
    """Every call of the kernel, forward."""
    calls, forward = [], small.attend

    def watched(*args, **kwargs):
        calls.append(kwargs)
        return forward(*args, **kwargs)

    monkeypatch.setattr(small, "attend", watched)
    return calls


def values_and_gradients(layer, x, options):
    layer.zero_grad()
    x = x.clone().requires_grad_()
    out = layer(x, **options)
    out.square().sum().backward()
    named = {name: p.grad.clone() for name, p in layer.named_parameters() if p.grad is not None}
    return {"output": out.detach(), "x": x.grad, **named}


def gap(design, options, dtype=torch.float32, route="small"):
    """Return the largest difference from the explaining route, by the largest number of a tensor."""
    dims, found = sizes(design), []
    for name in (route, "plain"):
        layer = attention(design, dims, dtype=dtype)
        layer.route = name
        found.append(values_and_gradients(layer, tokens(dims, COUNT, dtype=dtype), options))
    assert found[0].keys() == found[1].keys()
    largest = max(float(w.abs().max()) for name, w in found[1].items() if name != "output")
    gaps = [
        float((found[0][name] - w).abs().max() / w.abs().max().clamp(min=0.01 * largest))
        for name, w in found[1].items()
    ]  # some gradients are 0 in truth, such as that of a key's bias
    return math.inf if any(map(math.isnan, gaps)) else max(gaps)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("design", examples().values(), ids=str)
def test_every_design_under_every_mask(design, options, from_one, taken):
    assert gap(design, options) < 2e-5
    fusible = attention(design).scoring().fusible
    assert bool(taken) == fusible, "what the kernel cannot do goes the explaining way, and nothing else"


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def naive(q, k, v, allowed, root):
    k, v = (x.repeat_interleave(q.shape[-3] // x.shape[-3], -3) for x in (k, v))
    weights = (q @ k.mT / root).masked_fill(~allowed, -math.inf).softmax(-1).nan_to_num(0.0)
    return weights @ v


def errors(shapes, dtype, *, causal=False, allowed=None, attend=None):
    """Errors of the kernel and of naive code, against float64: of the output and the gradients of q, k, v."""
    b, h, g, u, t, s, c, e = shapes
    given = [draw(b, *shape, seed=i) for i, shape in enumerate([(h, t, c), (g, s, c), (u, s, e), (h, t, e)])]
    seen = torch.ones(t, s, dtype=torch.bool)
    seen = seen.tril() if causal else seen if allowed is None else allowed
    found = []
    for kind in (torch.float64, dtype, None):
        q, k, v, slope = (x.to(dtype).to(kind or dtype).requires_grad_() for x in given)
        if kind is None:
            out = (attend or small.attend)(q, k, v, allowed, causal=causal, root=2.0)
        else:
            out = naive(q, k, v, seen, 2.0)
        found.append([x.double().detach() for x in (out, *torch.autograd.grad(out, (q, k, v), slope))])
    truth, plain, kernel = found
    scale = [float(x.abs().max()) for x in truth]
    return [[float((a - b).abs().max()) / s for a, b, s in zip(x, truth, scale, strict=True)] for x in (kernel, plain)]


SHAPES = {
    "square": (3, 4, 4, 4, 64, 64, 16, 16),
    "odd": (2, 4, 2, 4, 33, 33, 5, 7),
    "groups": (2, 4, 2, 1, 32, 32, 24, 40),
    "one head each": (1, 6, 1, 1, 25, 25, 8, 16),
    "long": (1, 2, 1, 2, 256, 256, 64, 32),
    "wide": (1, 2, 2, 2, 24, 24, 128, 128),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
def test_errors_are_those_of_naive_code(shapes, causal, dtype):
    kernel, plain = errors(shapes, dtype, causal=causal)
    # naive code rounds the weights to bf16 as well; in fp32 single roundings of a few numbers decide
    limit = 1.5 if dtype == torch.bfloat16 else 4.0
    assert all(a <= max(limit * b, 1e-6) for a, b in zip(kernel, plain, strict=True)), (kernel, plain)


def test_queries_and_keys_may_differ_in_number():
    kernel, _ = errors((2, 2, 2, 2, 29, 40, 8, 8), torch.float32)
    assert max(kernel) < 2e-6


def test_masks_of_any_shape_and_rows_that_see_nothing():
    t = 31
    for shape in [(t,), (t, t), (2, 1, t, t), (2, 4, t, t), (4, 1, t), (1, 1, t, 1)]:
        allowed = draw(*shape, seed=5) > 0.3
        kernel, _ = errors((2, 4, 2, 4, t, t, 8, 8), torch.float32, allowed=allowed)
        assert max(kernel) < 5e-6, shape


def test_huge_scores_are_finite_and_nan_stays_where_it_is():
    q, k, v = (draw(1, 2, 32, 8, seed=i) for i in range(3))
    out = small.attend(q * 1e18, k * 1e18, v, None, causal=True, root=1.0)
    assert bool(out.isfinite().all())
    q[0, 1, 5] = math.nan
    out = small.attend(q, k, v, None, causal=True, root=1.0)
    assert bool(out[0, 1, 5].isnan().all()) and int(out.isnan().sum()) == 8
    v[0, 0, 31, 0] = math.nan
    out = small.attend(q, k, v, None, causal=True, root=1.0)
    assert not out[0, 0, :, 1:].isnan().any() and int(out[0, 1].isnan().sum()) == 8, "in its own head and channel"


def test_models_at_once_and_heads_where_they_lie():
    layer = Attention("QKV/kv2", d_model=24, heads=4, route="small")
    weights = {name: draw(3, *p.shape, seed=i) for i, (name, p) in enumerate(layer.named_parameters())}
    x = draw(3, 2, 32, 24, seed=9)

    def loss(weights, x):
        return functional_call(layer, weights, (x,), {"causal": True}).square().sum()

    many = vmap(grad(loss))(weights, x)
    for i in range(3):
        alone = grad(loss)({name: w[i] for name, w in weights.items()}, x[i])
        for name in alone:
            torch.testing.assert_close(many[name][i], alone[name], rtol=1e-6, atol=1e-5)


def test_second_derivatives_are_refused():
    q = draw(1, 1, 32, 8).requires_grad_()
    (slope,) = torch.autograd.grad(small.attend(q, q, q, None, causal=True, root=2.0).sin().sum(), q, create_graph=True)
    with pytest.raises(NotImplementedError, match="plain"):
        slope.sum().backward()


@pytest.mark.parametrize("count", [small.SHORTEST - 1, small.LONGEST + 1])
def test_other_lengths_and_float64_go_the_explaining_way(count, taken):
    layer = Attention("QKV", d_model=8, heads=2, route="small")
    layer(draw(1, count, 8), causal=True)
    layer.double()(draw(1, 32, 8).double(), causal=True)
    assert not taken


def test_decoding_and_packed_texts_take_the_fused_route():
    layer = Attention("QKV", d_model=16, heads=2, route="small")
    x = draw(2, 30, 16)
    want = layer(x, causal=True)
    cache = layer.new_cache(2, 30)
    torch.testing.assert_close(torch.cat([layer.step(x[:, :20], cache), layer.step(x[:, 20:], cache)], 1), want)
    packed = layer(x.flatten(0, 1), packed=(30, 30), causal=True)
    torch.testing.assert_close(packed.reshape(want.shape), want)


def test_without_a_compiler_the_message_says_so(monkeypatch):
    small._compiled.cache_clear()
    monkeypatch.setattr(small, "compiler", lambda: None)
    with pytest.raises(small.NoCompiler, match="CXX"):
        Attention("QKV", d_model=8, route="small")(draw(1, 32, 8))
    monkeypatch.setattr(small, "compiler", lambda: "false")
    with pytest.raises(small.NoCompiler, match="false"):
        Attention("QKV", d_model=8, route="small")(draw(1, 32, 8))


def lose_the_mask(q, k, v, allowed, *, causal, root):
    return small.attend(q, k, v, None, causal=causal, root=root)


def mix_up_heads(q, k, v, allowed, *, causal, root):
    return small.attend(q, k.flip(1), v, allowed, causal=causal, root=root)


def forget_the_root(q, k, v, allowed, *, causal, root):
    return small.attend(q, k, v, allowed, causal=causal, root=1.0)


@pytest.mark.parametrize("bug", [lose_the_mask, mix_up_heads, forget_the_root])
def test_planted_bugs_are_seen(bug):
    allowed = draw(2, 1, 31, 31, seed=5) > 0.3
    kernel, _ = errors((2, 4, 2, 4, 31, 31, 8, 8), torch.float32, allowed=allowed, attend=bug)
    assert max(kernel) > 1e-2


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("h / per_key", "h % sizes[3]"),  # heads share keys in another order
        ("at(p + i) * (at(d + i) - middle)", "at(p + i) * at(d + i)"),  # softmax's mean is forgotten
        ("h % per_value != 0", "false"),  # only the last head of a group counts
        ("vectors * L < S ? vectors * L : S", "first"),  # the last keys of a block bring nothing
        ("const int last = CAUSAL ? first + r", "const int last = CAUSAL ? first + R"),  # the future is seen
        ("1 / root;", "1 / root / root;"),
    ],
)
def test_planted_bugs_in_the_kernel_are_seen(right, wrong, monkeypatch, tmp_path):
    source = small._SOURCE.read_text()
    changed = tmp_path / "small.cpp"
    changed.write_text(source.replace(right, wrong))
    assert changed.read_text() != source
    monkeypatch.setattr(small, "_SOURCE", changed)
    monkeypatch.setattr(small, "_compiled", small._compiled.__wrapped__)
    kernel, _ = errors((2, 4, 2, 2, 33, 33, 5, 7), torch.float32, causal=True)
    assert not max(kernel) < 1e-3


def test_core_says_what_is_causal():
    q, k, v = (draw(1, 2, 32, 8, seed=i) for i in range(3))
    visible = Visible(shape=(1, 2, 32, 32), device=q.device, causal=True)
    want = core.attend(q, k, v, visible, Scoring(root=2.0))
    torch.testing.assert_close(core.attend_small(q, k, v, visible, Scoring(root=2.0)), want)
    assert torch.equal(
        core.attend_small(q, k, v, visible, Scoring(root=2.0)), small.attend(q, k, v, None, causal=True, root=2.0)
    )
