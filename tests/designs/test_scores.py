"""What parts do to scores: windows, caps, sinks, differences; identities first, then plain code of each paper."""

import math

import pytest
import torch

from qkvlab import Attention
from qkvlab.designs import parse
from qkvlab.errors import BadInput, Refusal
from qkvlab.testing.sizes import attention, distance, sizes, tokens

ROUTES = pytest.mark.parametrize("route", ["fused", "plain"])
CAUSAL = pytest.mark.parametrize("causal", [True, False], ids=["causal", "all"])


def lone(name, route):
    torch.manual_seed(0)
    return Attention(name, d_model=16, heads=4, route=route).double()


def pair(name, base, route):
    """The layer of a design and that of the design inside, with the same matrices."""
    layer, inside = lone(name, route), lone(base, route)
    inside.load_state_dict(layer.state_dict(), strict=False)
    return layer, inside


X = torch.randn(2, 9, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def made(layer, x):
    """Q, k and v of every head of q, plainly."""
    q, memory = layer.projections.project(x)
    k, v = layer.projections.recall(memory)
    return q, k.repeat_interleave(q.shape[1] // k.shape[1], 1), v.repeat_interleave(q.shape[1] // v.shape[1], 1)


def joined(layer, heads):
    return layer.out(heads.transpose(1, 2).flatten(2))


# windows


@ROUTES
@CAUSAL
@pytest.mark.parametrize("base", ["QKV", "QQV/noself", "QKV/kv2/cap3"])
def test_a_window_that_holds_all_is_none(base, causal, route):
    layer, inside = pair(f"{base}/window9", base, route)
    torch.testing.assert_close(layer(X, causal=causal), inside(X, causal=causal), rtol=0, atol=1e-12)
    assert distance(pair(f"{base}/window8", base, route)[0](X, causal=causal), inside(X, causal=causal)) > 1e-6


@ROUTES
def test_a_window_of_one_is_the_own_value(route):
    layer = lone("QKV/window1", route)
    torch.testing.assert_close(layer(X), joined(layer, made(layer, X)[2]), rtol=0, atol=1e-12)


@ROUTES
@CAUSAL
@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_window_is_what_mistral_and_longformer_say(size, causal, route):
    layer = lone(f"QKV/kv2/window{size}", route)
    q, k, v = made(layer, X)
    heads = torch.zeros_like(v)
    for t in range(9):
        first, last = max(t - size + 1, 0), t if causal else min(t + size - 1, 8)
        near = slice(first, last + 1)
        weights = torch.softmax((k[:, :, near] @ q[:, :, t, :, None])[..., 0] / math.sqrt(4), -1)
        heads[:, :, t] = (weights[..., None] * v[:, :, near]).sum(2)
    torch.testing.assert_close(layer(X, causal=causal), joined(layer, heads), rtol=0, atol=1e-12)


@ROUTES
def test_a_window_counts_positions(route):
    layer = lone("QKV/window3", route)
    far = torch.tensor([0, 1, 2, 50, 51, 52, 90, 91, 92])
    whole = layer(X, causal=True, positions=far)
    for start in (0, 3, 6):
        alone = layer(X[:, start : start + 3], causal=True)
        torch.testing.assert_close(whole[:, start : start + 3], alone, rtol=0, atol=1e-12)


# caps


@ROUTES
def test_a_cap_is_gemma_2(route):
    layer = lone("QKV/kv2/cap2", route)
    q, k, v = made(layer, 3 * X)
    scores = 2 * torch.tanh(q @ k.mT / math.sqrt(4) / 2) + torch.full((9, 9), -torch.inf).triu(1)
    torch.testing.assert_close(layer(3 * X, causal=True), joined(layer, scores.softmax(-1) @ v), rtol=0, atol=1e-12)
    assert layer.trace(30 * X).scores.abs().max() <= 2


@ROUTES
def test_a_cap_far_above_every_score_is_none(route):
    layer, inside = pair("QKV/cap999999", "QKV", route)
    torch.testing.assert_close(layer(X, causal=True), inside(X, causal=True), rtol=0, atol=1e-9)


@ROUTES
def test_a_cap_never_lifts_what_the_mask_hides(route):
    # a score is at least -1, so a mask before the cap would leave exp(-2) of the largest weight
    layer = lone("QKV/cap1", route)
    assert not layer.trace(X, causal=True).weights.triu(1).any()
    changed = torch.cat([X[:, :4], -X[:, 4:]], 1)
    torch.testing.assert_close(layer(X, causal=True)[:, :4], layer(changed, causal=True)[:, :4], rtol=0, atol=1e-14)


# sinks


@ROUTES
@CAUSAL
def test_a_sink_is_one_more_key_without_a_value(route, causal):
    layer = lone("QKV/kv2/sink", route)
    with torch.no_grad():
        layer.projections.sink.copy_(torch.tensor([[-1.0, 0.0, 0.5, 3.0]]))
    q, k, v = made(layer, X)
    scores = q @ k.mT / math.sqrt(4)
    scores = scores + torch.full((9, 9), -torch.inf).triu(1) if causal else scores
    powers = scores.exp()
    weights = powers / (powers.sum(-1, keepdim=True) + layer.projections.sink[0].exp()[:, None, None])
    torch.testing.assert_close(layer(X, causal=causal), joined(layer, weights @ v), rtol=0, atol=1e-12)
    torch.testing.assert_close(layer.trace(X, causal=causal).weights, weights, rtol=0, atol=1e-12)


@ROUTES
def test_a_sink_that_nothing_falls_into_is_none(route):
    layer, inside = pair("QKV/sink", "QKV", route)
    with torch.no_grad():
        layer.projections.sink.fill_(-1e4)
    torch.testing.assert_close(layer(X, causal=True), inside(X, causal=True), rtol=0, atol=1e-12)


@ROUTES
def test_a_sink_that_everything_falls_into_leaves_nothing(route):
    layer = lone("QKV/sink", route)
    with torch.no_grad():
        layer.projections.sink.fill_(1e4)
    x = X.clone().requires_grad_()
    out = layer(x, causal=True)
    out.sum().backward()
    assert not out.any() and bool(x.grad.isfinite().all())


def test_a_sink_starts_as_one_in_the_denominator():
    layer = Attention("QKV/sink", d_model=16, heads=4)
    assert not layer.projections.sink.any() and layer.projections.sink.shape == (1, 4)


# differences


def differential(layer, x, start, groups):
    """The paper's formula, head by head."""
    w = {name: p.detach() for name, p in layer.projections.named_parameters()}
    factor = torch.exp(w["lq1"].T @ w["lk1"]) - torch.exp(w["lq2"].T @ w["lk2"]) + start
    heads = []
    for head in range(4):
        one = slice(4 * head, 4 * head + 4)
        of = slice(4 * (head * groups // 4), 4 * (head * groups // 4) + 4)
        q1, q2 = (x @ w["q"][:, one]).split(2, -1)
        k1, k2 = (x @ w["k"][:, of]).split(2, -1)
        first, second = (torch.softmax(q @ k.mT / math.sqrt(2), -1) for q, k in ((q1, k1), (q2, k2)))
        found = (first - factor * second) @ x @ w["v"][:, of]
        found = torch.nn.functional.rms_norm(found, (4,), w["gain"][0], 1e-5)
        heads.append((1 - start) * found)
    return layer.out(torch.cat(heads, -1))


@ROUTES
@pytest.mark.parametrize("groups", [4, 2, 1])
@pytest.mark.parametrize(("depth", "start"), [("", 0.8), ("1", 0.2), ("4", 0.8 - 0.6 * math.exp(-0.9))])
def test_differential_attention_is_the_paper(groups, depth, start, route):
    layer = lone(f"QKV/kv{groups}/diff{depth}", route)
    with torch.no_grad():
        layer.projections.gain += torch.randn(1, 4)
    torch.testing.assert_close(layer(X), differential(layer, X, start, groups), rtol=0, atol=1e-12)


@ROUTES
@pytest.mark.parametrize("name", ["QKV/diff", "QKV/kv2/diff", "QKV/kv1/cap2/diff/sink/noself"])
def test_a_mask_of_each_head_reaches_both_softmaxes(name, route):
    layer = lone(name, route)
    mask = torch.rand(2, 4, 9, 9, generator=torch.Generator().manual_seed(3)) < 0.6
    wanted = [layer.trace(X, mask=mask[:, [head]]) for head in range(4)]  # one for all heads
    of = layer.design.served(layer.dims)
    assert sorted(of) == [0, 0, 1, 1, 2, 2, 3, 3]
    found = layer.trace(X, mask=mask)
    for i, head in enumerate(of):
        torch.testing.assert_close(found.weights[:, i], wanted[head].weights[:, i], rtol=0, atol=0)
    torch.testing.assert_close(layer(X, mask=mask), found.output, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.contributions().sum((1, 3)), found.output, rtol=0, atol=1e-12)
    with pytest.raises(BadInput, match=r"\(2, 4, 9, 9\); got \(2, 8, 9, 9\)"):
        layer(X, mask=mask.repeat(1, 2, 1, 1))


@ROUTES
@pytest.mark.parametrize(("inside", "outside"), [("QKV/kv2/cap2/diff", "QKV/kv2/diff/cap2")])
def test_bends_inside_are_bends_of_both_halves(inside, outside, route):
    layer, other = pair(inside, outside, route)
    torch.testing.assert_close(layer(X), other(X), rtol=0, atol=1e-12)


@ROUTES
def test_sinks_and_slopes_inside_are_those_of_the_heads(route):
    layer = lone("QKV/kv2/sink/alibi/diff", route)
    with torch.no_grad():
        layer.projections.sink.copy_(torch.tensor([[-9.0, 0.0, 1.0, 2.0]]))
    of = list(layer.design.served(layer.dims))
    assert torch.equal(layer.design.sinks(layer.projections.weights, layer.dims), layer.projections.sink[0, of])
    trace = layer.trace(X)
    q, k, _ = made(layer, X)
    back = (torch.arange(9)[:, None] - torch.arange(9)).abs()
    slopes = torch.tensor([2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8], dtype=torch.float64)[of]
    scores = q @ k.mT / math.sqrt(2) - slopes[:, None, None] * back
    torch.testing.assert_close(trace.scores, scores, rtol=0, atol=1e-12)
    torch.testing.assert_close(layer(X), trace.output, rtol=0, atol=1e-12)


def test_lambda_starts_where_the_paper_says():
    for depth in range(1, 30):
        start = parse(f"QKV/diff{depth}").lambda_init
        assert start == pytest.approx(0.8 - 0.6 * math.exp(-0.3 * (depth - 1)))
        assert start < parse("QKV/diff").lambda_init == 0.8
    for width in (16, 128):  # near lambda_init at any width
        layer = Attention("QKV/diff", d_model=width, heads=1)
        w = layer.projections.weights
        assert abs(float((w["lq1"] * w["lk1"]).detach().sum())) < 0.5
    assert parse("Differential").name == "QKV/diff"
    assert parse("qkk/KV2/DIFF3").name == "QKK/kv2/diff3"


@pytest.mark.parametrize("name", ["QKV", "QKK/kv2"])
def test_differences_cost_nothing_but_their_vectors_and_gain(name):
    dims = sizes(parse(f"{name}/diff"))
    plain, with_diff = parse(name).cost(dims), parse(f"{name}/diff").cost(dims)
    assert with_diff.cache_per_token == plain.cache_per_token
    assert with_diff.flops_per_token == plain.flops_per_token
    assert with_diff.parameters == plain.parameters + 2 * dims.d_head + dims.d_value


# refusals


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("QKV/window0", "at least the token itself; got /window0"),
        ("QKV/cap0", "1 or more; got /cap0"),
        ("QKV/diff0", "from 1; got /diff0"),
        ("QKV/sink/sink", "once; got QKV/sink/sink"),
        ("QKV/window3/window4", "once"),
        ("QKV/cap3/noself/cap4", "once"),
        ("QKV/diff/diff3", "once"),
    ],
)
def test_what_cannot_be_meant_is_refused(name, says):
    with pytest.raises(BadInput, match=says):
        parse(name)


def test_odd_heads_have_no_halves():
    with pytest.raises(Refusal, match="two halves; got heads of an odd number of channels, 5, at d_head=5"):
        Attention("QKV/diff", d_model=10, heads=2)


def test_trace_of_a_sink_and_a_difference_adds_up():
    for name in ("QKV/sink", "QKV/kv2/diff/sink/window3", "QKK/kv2/diff2/cap2"):
        layer = attention(parse(name))
        trace = layer.trace(tokens(layer.dims), causal=True)
        torch.testing.assert_close(trace.contributions().sum((1, 3)), trace.output, rtol=0, atol=1e-12)
