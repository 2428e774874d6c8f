"""Positions that are added, to tokens or to scores: learned, sinusoidal, linear biases (ALiBi)."""

import math

import numpy as np
import pytest
import torch

from qkvlab import Attention, reference
from qkvlab.attention import core
from qkvlab.contracts import Dims, Memory
from qkvlab.designs import parse
from qkvlab.errors import BadInput

MODEL, HEADS, HEAD = 18, 2, 6


def layer(name, weights=None, dtype=torch.float64, route="fused", **sizes):
    torch.manual_seed(0)
    made = Attention(name, **({"d_model": MODEL, "heads": HEADS, "d_head": HEAD} | sizes), route=route).to(dtype)
    with torch.no_grad():
        for each, weight in (weights or {}).items():
            made.projections.weights[each].copy_(weight)
    return made


def draw(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def x():
    return draw(2, 5, MODEL, seed=2)


def near(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def inside(outer):
    """The layer of the inner design with the same weights."""
    inner = layer(outer.design.inner)
    inner.load_state_dict({n: w for n, w in outer.state_dict().items() if not n.endswith("places")})
    return inner


PLACES = {
    "0, 1, 2, ...": None,
    "given": torch.tensor([3, 4, 8, 15, 0]),
    "each sequence its own": torch.tensor([[0, 1, 2, 3, 4], [9, 3, 12, 15, 5]]),
}


@pytest.mark.parametrize("at", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("way", ["QKV", "QKV/kv1", "QKK", "QQV", "uniform"])
def test_learned_positions_are_x_plus_a_table_before_q_k_and_v(way, at, x):
    attn = layer(f"{way}/learned16")
    table = attn.projections.weights["places"]
    there = x + table[torch.arange(5) if at is None else at]
    for options in ({}, {"causal": True}):
        assert torch.equal(attn(x, positions=at, **options), inside(attn)(there, **options))
    memory = attn.remember(x, positions=at)
    assert torch.equal(attn(x, memory, positions=at), attn(x, positions=at))


@pytest.mark.parametrize("at", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("d_model", [18, 17])
def test_sinusoidal_positions_are_the_formula_of_the_paper(d_model, at, x):
    attn = layer("QKV/sin", d_model=d_model)
    x = x[..., :d_model]
    there = x.clone()
    for b in range(2):
        for t in range(5):
            m = t if at is None else int(at[t] if at.ndim == 1 else at[b, t])
            for channel in range(d_model):
                angle = m / 10000 ** (2 * (channel // 2) / d_model)
                there[b, t, channel] += math.sin(angle) if channel % 2 == 0 else math.cos(angle)
    inner = Attention("QKV", d_model=d_model, heads=HEADS, d_head=HEAD).double()
    inner.load_state_dict(attn.state_dict())
    near(attn(x, positions=at, causal=True), inner(there, causal=True))


def test_transformer_is_the_name_of_the_first():
    assert parse("transformer") == parse("QKV/sin")


def test_far_sinusoids_are_exact_and_half_precision_is_rounded_once():
    design, at = parse("QKV/sin"), torch.arange(5) + 1_000_000
    dims = Dims.of(MODEL, 2)
    exact = design.place({}, draw(1, 5, MODEL), dims, at)
    near(design.place({}, draw(1, 5, MODEL).float(), dims, at).double(), exact, 1e-7)
    assert torch.equal(design.place({}, draw(1, 5, MODEL).bfloat16(), dims, at), exact.bfloat16())


@pytest.mark.parametrize("name", ["QKV/learned16", "QKV/sin", "QQV/alibi"])
def test_order_matters_once_there_are_positions(name, x):
    order = torch.tensor([3, 0, 4, 1, 2])
    attn = layer(name)
    assert (attn(x)[:, order] - attn(x[:, order])).abs().max() > 1e-3
    near(attn(x)[:, order], attn(x[:, order], positions=order))


def test_a_table_of_zeros_adds_nothing(x):
    attn = layer("QKV/learned16", {"places": torch.zeros(16, MODEL)})
    assert torch.equal(attn(x, causal=True), inside(attn)(x, causal=True))


def test_learned_positions_cost_their_table_and_no_products():
    dims = Dims.of(MODEL, 2)
    plain, placed = parse("QKV").cost(dims), parse("QKV/learned512").cost(dims)
    assert placed.parameters == plain.parameters + 512 * MODEL
    assert (placed.flops_per_token, placed.cache_per_token) == (plain.flops_per_token, plain.cache_per_token)


def test_tokens_beyond_the_table_are_refused_with_the_numbers():
    attn = layer("QKV/learned4")
    attn(draw(1, 4, MODEL))
    with pytest.raises(BadInput, match=r"/learned4 knows positions 0 to 3; got 5 tokens. Use /learned5 or more"):
        attn(draw(1, 5, MODEL))
    with pytest.raises(BadInput, match="got 6 tokens"):
        attn.remember(draw(1, 6, MODEL))
    for at in ([0, 4], [-1, 2]):
        with pytest.raises(BadInput, match=f"knows positions 0 to 3; got positions from {at[0]} to {at[1]}"):
            attn(draw(1, 2, MODEL), positions=torch.tensor(at))
        with pytest.raises(BadInput, match=f"got positions from {at[0]} to {at[1]}"):
            parse("QKV/learned4").place({"places": np.zeros((4, 2))}, np.zeros((2, 2)), attn.dims, np.array(at))


def test_a_table_without_rows_is_refused():
    with pytest.raises(BadInput, match="at least 1 row; got /learned0"):
        parse("QKV/learned0")


SLOPES = {  # "starts at 2^(-8/n) and uses that same value as its ratio"; others as the authors' code interpolates
    1: [2**-8],
    2: [2**-4, 2**-8],
    4: [2**-2, 2**-4, 2**-6, 2**-8],
    8: [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256],
    16: [2 ** (-n / 2) for n in range(1, 17)],
    3: [2**-4, 2**-8, 2**-2],
    6: [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3],
    12: [*(2**-n for n in range(1, 9)), 2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5],
}


@pytest.mark.parametrize("heads", SLOPES)
def test_slopes_are_those_of_the_paper(heads):
    (bend,) = parse("QKV/alibi").bends({}, Dims.of(4 * heads, heads))
    bent = bend(torch.zeros(1, heads, 1, 1, dtype=torch.float64), torch.tensor([[1]]))
    near(-bent.flatten(), torch.tensor(SLOPES[heads], dtype=torch.float64), 1e-15)


def alibi_by_hand(attn, x, y, asked, kept, allowed):
    """The paper head by head, query by query; |distance| where keys stand ahead."""
    w, groups = attn.projections.weights, attn.design.kv_heads(attn.dims)
    v_of = w["v"] if "v" in w else w["k"]
    mixed = torch.zeros(*x.shape[:2], HEADS, HEAD, dtype=torch.float64)
    for b in range(len(x)):
        for h, slope in enumerate(SLOPES[HEADS]):
            g = h // (HEADS // groups)
            own, theirs = slice(h * HEAD, (h + 1) * HEAD), slice(g * HEAD, (g + 1) * HEAD)
            for t in range(x.shape[1]):
                q = x[b, t] @ w["q"][:, own]
                scores = (y[b] @ w["k"][:, theirs]) @ q / HEAD**0.5
                scores = scores - slope * (asked[b, t] - kept[b]).abs()
                scores[~allowed[t]] = -math.inf
                mixed[b, t, h] = scores.softmax(0) @ (y[b] @ v_of[:, theirs])
    return attn.out(mixed.flatten(-2))


@pytest.mark.parametrize("route", ["fused", "plain"])
@pytest.mark.parametrize("name", ["QKV/alibi", "QKV/kv1/alibi", "QKK/kv1/alibi"])
def test_alibi_is_the_paper_under_every_kind_of_positions(name, route, x):
    attn, y = layer(name, route=route), draw(2, 7, MODEL, seed=3)
    everyone, causal = torch.ones(5, 7, dtype=torch.bool), torch.ones(5, 5, dtype=torch.bool).tril()
    usual, keys = torch.arange(5).expand(2, 5), torch.arange(7).expand(2, 7)
    own, theirs = torch.tensor([[0, 2, 3, 9, 4], [5, 1, 0, 0, 8]]), torch.arange(14).reshape(2, 7) * 3
    near(attn(x), alibi_by_hand(attn, x, x, usual, usual, everyone[:, :5]))
    near(attn(x, causal=True), alibi_by_hand(attn, x, x, usual, usual, causal))
    near(attn(x, positions=own), alibi_by_hand(attn, x, x, own, own, everyone[:, :5]))
    same = own[:1].expand(2, 5)
    near(attn(x, positions=own[0]), alibi_by_hand(attn, x, x, same, same, everyone[:, :5]))
    near(attn(x, attn.remember(y)), alibi_by_hand(attn, x, y, usual, keys, everyone))
    memory = attn.remember(y, positions=theirs)
    near(attn(x, memory, positions=own), alibi_by_hand(attn, x, y, own, theirs, everyone))
    near(attn.trace(x, memory, positions=own[0]).output, attn(x, memory, positions=own[0].expand(2, 5)))


def test_without_causality_ahead_counts_as_behind(x):
    attn = layer("uniform/alibi")
    scores = attn.trace(x).scores
    assert torch.equal(scores, scores.mT)
    near(scores[0, :, 2], -torch.tensor(SLOPES[2], dtype=torch.float64)[:, None] * torch.tensor([2, 1, 0, 1, 2]))


@pytest.mark.parametrize("way", ["QKV", "QKV/kv1"])
def test_both_halves_of_a_difference_fall_as_their_head_does(way, x):
    before, after = layer(f"{way}/alibi/diff"), layer(f"{way}/diff/alibi")
    after.load_state_dict(before.state_dict())
    near(after(x, causal=True), before(x, causal=True))


def test_alibi_knows_only_distances(x):
    attn, at = layer("QKV/alibi"), torch.tensor([0, 4, 5, 9, 30])
    assert torch.equal(attn.trace(x, positions=at).scores, attn.trace(x, positions=at + 10**6).scores)


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"padding": torch.tensor([500, 600])}], ids=str)
def test_many_tokens_in_blocks_equal_all_at_once(options):
    fused, plain = layer("QKV/kv1/alibi"), layer("QKV/kv1/alibi", route="plain")
    x = draw(2, 2 * core.ROWS + 88, MODEL)
    near(fused(x, **options), plain(x, **options), 1e-11)


def test_distances_in_bfloat16_are_whole_numbers():
    (bend,) = parse("QKV/alibi").bends({}, Dims.of(8, 1))
    back = torch.tensor([[257, 1027]])
    assert torch.equal(bend(torch.ones(1, 1, 2).bfloat16(), back), (1 - back / 256)[None].bfloat16())


@pytest.mark.parametrize("name", ["QKK/kv1/alibi", "QKV/learned16", "QKV/sin"])
def test_compiled_in_one_graph_with_positions(name, x):
    torch.compiler.reset()
    attn = layer(name)
    compiled = torch.compile(attn, fullgraph=True, backend="aot_eager")
    for at in PLACES.values():
        near(compiled(x, causal=True, positions=at), attn(x, causal=True, positions=at))


def exported(attn, x, at):
    return torch.export.export(attn, (x,), {"positions": at}).module()(x, positions=at)


@pytest.mark.parametrize("name", ["QKV/rope", "QKK/ropekv", "QKV/alibi", "QKV/learned16", "QKV/sin"])
def test_exported_with_positions(name, x):
    attn, at = layer(name), PLACES["each sequence its own"]
    near(exported(attn, x, at), attn(x, positions=at))


@pytest.mark.parametrize("name", ["QKV/learned16", "QQV/sin", "QKK/alibi", "uniform/alibi", "QKV/sin/alibi/rope"])
def test_twins_agree_at_any_positions(name, x):
    attn, y = layer(name), draw(2, 7, MODEL, seed=3)
    weights = {n: w.detach().numpy() for n, w in attn.projections.weights.items()}
    weights["out"] = attn.out.weight.detach().numpy().T
    kept = torch.arange(14).reshape(2, 7)
    for asked in list(PLACES.values())[1:]:
        got = attn.trace(x, attn.remember(y, positions=kept), positions=asked)
        wanted = reference.trace(
            name,
            weights,
            x.numpy(),
            y.numpy(),
            heads=HEADS,
            d_head=HEAD,
            positions=(asked.numpy(), kept.numpy()),
        )
        for step in ("q", "k", "v", "scores", "weights", "output"):
            np.testing.assert_allclose(getattr(got, step).detach().numpy(), getattr(wanted, step), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["QKV", "QKV/rope", "QKV/alibi", "QKV/sin", "QKV/learned16"])
@pytest.mark.parametrize("at", [torch.arange(4), torch.arange(5.0), torch.zeros(3, 5).long(), torch.ones(5).bool()])
def test_positions_that_do_not_fit_are_refused_before_anything_is_computed(name, at, x):
    attn = layer(name)
    for act in (lambda: attn(x, positions=at), lambda: attn.remember(x, at), lambda: attn.trace(x, positions=at)):
        with pytest.raises(BadInput, match=r"positions of 5 tokens must be whole numbers \(5,\) or \(batch, 5\); got"):
            act()


def test_memory_says_where_its_tokens_stand(x):
    for name in ("QKV/rope", "QKK/rope", "QKV/alibi", "QKV/sin", "QKV/learned16"):
        attn, at = layer(name), PLACES["given"]
        memory = attn.remember(x, positions=at)
        assert isinstance(memory, Memory) and memory.positions is at
        near(attn(x, memory, positions=at), attn(x, positions=at))
        assert (attn(x, attn.remember(x), positions=at) - attn(x, positions=at)).abs().max() > 1e-4
