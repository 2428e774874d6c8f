"""Rotary positions: the paper in plain float64, identities, what is kept."""

import itertools
import math

import numpy as np
import pytest
import torch

from qkvlab import Attention, reference
from qkvlab.designs import parse, turning
from qkvlab.designs import rotation as rotation_module
from qkvlab.designs.rope import Rope
from qkvlab.designs.rotation import Rotation, read
from qkvlab.designs.speeds import Llama3, Ntk, Yarn
from qkvlab.designs.ways import Way

MODEL, HEADS, HEAD = 18, 2, 8
OPTIONS = (
    "",
    "-interleaved",
    "-first4",
    "-interleaved-first6-base500",
    "-linear-by4",
    "-ntk-by4",
    "-llama3-by8-of64",
    "-base500-llama3-by8-of64-low0.5-high8",
    "-yarn-by4-of64",
    "-interleaved-first6-yarn-by4-of64-fast8-slow2-gain1-exact1",
    "-proportional-keep0.5",
)


def layer(name, weights=None, dtype=torch.float64, **sizes):
    torch.manual_seed(0)
    made = Attention(name, **({"d_model": MODEL, "heads": HEADS, "d_head": HEAD} | sizes)).to(dtype)
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


def turning_matrix(place, channels, base, pairs):
    """R of equation 15 of the paper, d x d, for one position; ``pairs`` says which two channels belong together."""
    matrix = torch.eye(channels, dtype=torch.float64)
    for i, (one, two) in enumerate(pairs):
        angle = place * base ** (-2 * i / channels)
        matrix[one, one] = matrix[two, two] = math.cos(angle)
        matrix[one, two], matrix[two, one] = -math.sin(angle), math.sin(angle)
    return matrix


PAIRS = {
    "QKV/rope-interleaved": [(2 * i, 2 * i + 1) for i in range(HEAD // 2)],
    "QKV/rope": [(i, i + HEAD // 2) for i in range(HEAD // 2)],
}


@pytest.mark.parametrize("name", PAIRS)
def test_it_is_the_paper_with_its_dense_matrices(name, x):
    y, asked, kept = draw(2, 7, MODEL, seed=3), torch.tensor([3, 0, 9, 4, 4]), torch.arange(7) * 2
    attn = layer(name)
    w = attn.projections.weights
    mixed = torch.zeros(2, 5, HEADS, HEAD, dtype=torch.float64)
    for h in range(HEADS):
        own = slice(h * HEAD, (h + 1) * HEAD)
        for b in range(2):
            for m in range(5):
                q = turning_matrix(int(asked[m]), HEAD, 10000, PAIRS[name]) @ (x[b, m] @ w["q"][:, own])
                scores = torch.stack(
                    [
                        q @ turning_matrix(int(kept[n]), HEAD, 10000, PAIRS[name]) @ (y[b, n] @ w["k"][:, own])
                        for n in range(7)
                    ]
                )
                mixed[b, m, h] = (scores / HEAD**0.5).softmax(0) @ (y[b] @ w["v"][:, own])
    wanted = attn.out(mixed.flatten(-2))
    near(attn(x, attn.remember(y, positions=kept), positions=asked), wanted)
    near(attn.trace(x, attn.remember(y, positions=kept), positions=asked).output, wanted)


def test_roformer_is_the_neighbours():
    assert parse("roformer") == Rope(Way("QKV"), Rotation(pairing="interleaved"))


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("way", ["QKV/rope", "QKK/kv1/rope", "QKK/ropekv", "QQV/rope"])
def test_it_agrees_with_its_twin_at_any_positions(way, options, x):
    attn = layer(f"{way}{options}")
    weights = {n: w.detach().numpy() for n, w in attn.projections.weights.items()}
    weights["out"] = attn.out.weight.detach().numpy().T
    y = draw(2, 7, MODEL, seed=3)
    for asked, kept in (
        (torch.arange(5) * 300, torch.arange(7) * 211),
        (torch.tensor([[0, 7, 9, 2, 2], [100, 80, 1000, 999, 31]]), torch.arange(14).reshape(2, 7) * 17),
        (torch.tensor([5, 4, 3, 2, 1]), torch.arange(14).reshape(2, 7)),
        (torch.arange(10).reshape(2, 5), torch.arange(7)),
    ):
        got = attn.trace(x, attn.remember(y, positions=kept), positions=asked)
        wanted = reference.trace(
            attn.design.name,
            weights,
            x.numpy(),
            y.numpy(),
            heads=HEADS,
            d_head=HEAD,
            kv_heads=attn.design.kv_heads(attn.dims),
            positions=(asked.numpy(), kept.numpy()),
        )
        for step in ("q", "k", "v", "scores", "weights", "output"):
            np.testing.assert_allclose(
                getattr(got, step).detach().numpy(), getattr(wanted, step), rtol=0, atol=1e-10, err_msg=step
            )


@pytest.mark.parametrize("options", OPTIONS)
def test_only_distances_matter(options, x):
    attn, at = layer(f"QKV/rope{options}"), torch.tensor([0, 1, 5, 6, 30])
    here, there = attn.trace(x, positions=at), attn.trace(x, positions=at + 1000)
    near(here.scores, there.scores, 1e-11)
    if "yarn" not in options:
        near(attn(x, positions=at), attn(x, positions=at + 1000), 1e-11)
    assert (here.q - there.q).abs().max() > 0.1
    with pytest.raises(AssertionError):
        near(here.scores, attn.trace(x, positions=2 * at).scores, 1e-3)


@pytest.mark.parametrize("options", OPTIONS)
def test_position_0_is_no_turn_and_no_turn_changes_a_length(options):
    rotation, heads = read(options), draw(2, 3, 5, HEAD)
    gain = 1.0 if rotation.scaling is None else rotation.scaling.amplitude
    n = rotation.first or HEAD
    still = torch.cat([gain * heads[..., :n], heads[..., n:]], -1)
    assert torch.equal(rotation.turn(heads, torch.zeros(5, dtype=torch.long)), still)
    turned = rotation.turn(heads, torch.arange(5) + 7)
    near(turned.norm(dim=-1), still.norm(dim=-1))
    assert torch.equal(turned[..., n:], heads[..., n:])
    near(rotation.turn(turned / gain, -torch.arange(5) - 7)[..., :n], heads[..., :n] * gain)


@pytest.mark.parametrize(("name", "order_matters"), [("QQV", False), ("QQV/rope", True), ("QQQ/ropekv", True)])
def test_tied_scores_stay_symmetric_yet_order_matters(name, order_matters, x):
    attn = layer(name)
    first, second = (attn.trace(tokens).scores for tokens in (x, x[:, [3, 1, 2, 0, 4]]))
    near(first, first.mT)
    near(second, second.mT)
    change = (first[..., 0, 3] - second[..., 0, 3]).abs().max()
    assert (change > 1e-2) if order_matters else (change < 1e-12)


@pytest.mark.parametrize(
    ("other", "usual"),
    [
        (f"/rope-first{HEAD}", "/rope"),
        (f"/rope-interleaved-first{HEAD}", "/rope-interleaved"),
        *((f"/rope-{scaling}", "/rope") for scaling in ("linear-by1", "ntk-by1", "proportional-keep1")),
        *((f"/rope-{scaling}", "/rope") for scaling in ("llama3-by1-of64", "yarn-by1-of64", "base10000")),
        ("/rope-proportional-keep0.5-first4", "/rope-proportional-keep0.5-first4-base10000"),
    ],
)
def test_a_setting_that_changes_nothing_changes_nothing(other, usual, x):
    at = torch.arange(5) * 40
    near(layer(f"QKV{other}")(x, positions=at), layer(f"QKV{usual}")(x, positions=at))


def test_pairings_are_the_same_after_the_columns_are_permuted(x):
    halves = layer("QKV/rope-first6")
    order = torch.tensor([0, 3, 1, 4, 2, 5, 6, 7])  # channel i beside its partner i + 3
    columns = torch.cat([order + h * HEAD for h in range(HEADS)])
    weights = {n: w[:, columns] if n in "qk" else w for n, w in halves.projections.weights.items()}
    neighbours = layer("QKV/rope-interleaved-first6", weights)
    near(neighbours.trace(x).q, halves.trace(x).q[..., order])
    near(neighbours(x, causal=True), halves(x, causal=True))


def test_interpolation_is_the_same_text_in_a_quarter_of_the_angles(x):
    near(layer("QKV/rope-linear-by4").trace(x, positions=4 * torch.arange(5)).q, layer("QKV/rope").trace(x).q)


@pytest.mark.parametrize("scaling", [Ntk(by=4), Yarn(by=4, of=8000, gain=1), Llama3(by=4, of=8000)])
def test_scalings_keep_the_fastest_pair_and_slow_the_slowest(scaling):
    speeds = scaling.speeds(np.arange(32.0), 10000.0, 64)
    assert speeds[0] == 1
    np.testing.assert_allclose(speeds[-1], 10000 ** (-62 / 64) / 4)
    assert (np.diff(speeds) < 0).all()


def test_ntk_of_a_single_pair_has_nothing_to_slow():
    assert Ntk(by=4).speeds(np.arange(1.0), 10000.0, 2).tolist() == [1.0]


def test_yarn_grows_scores_by_the_square_of_its_factor(x):
    factor = 0.1 * math.log(4) + 1
    grown, same = (layer(f"QKV/rope-yarn-by4-of64{gain}").trace(x).scores for gain in ("", "-gain1"))
    near(grown, factor**2 * same)


def test_proportional_turns_the_fastest_pairs_only():
    heads, at = draw(1, 1, 3, 8), torch.tensor([0, 5, 90])
    turned = read("-proportional-keep0.5").turn(heads, at)
    assert torch.equal(turned[..., [2, 3, 6, 7]], heads[..., [2, 3, 6, 7]])
    whole = read("").turn(heads, at)
    near(turned[..., [0, 1, 4, 5]], whole[..., [0, 1, 4, 5]])


def test_keys_of_their_own_are_kept_turned_and_never_turned_again(x, monkeypatch):
    attn = layer("QKV/rope")
    memory = attn.remember(x)
    raw = (x @ attn.projections.weights["k"]).unflatten(-1, (HEADS, HEAD)).transpose(1, 2)
    k, v = attn.projections.recall(memory)
    near(k, read("").turn(raw, None))
    near(v.transpose(1, 2).flatten(-2), x @ attn.projections.weights["v"])
    monkeypatch.setattr(Rotation, "turn", None)
    assert torch.equal(attn.projections.recall(memory)[0], k)
    assert k.transpose(1, 2).flatten(-2).equal(memory.kept["k"])


def test_a_shared_array_is_kept_as_it_is_and_turned_when_it_is_a_key(x):
    attn = layer("QKK/rope")
    memory = attn.remember(x)
    assert torch.equal(memory.kept["k"], x @ attn.projections.weights["k"])
    k, v = attn.projections.recall(memory)
    near(k, read("").turn(v, None))
    assert torch.equal(v.transpose(1, 2).flatten(-2), memory.kept["k"])


def test_values_may_be_turned_too_and_then_nothing_is_turned_again(x, monkeypatch):
    attn = layer("QKK/ropekv")
    memory = attn.remember(x)
    raw = (x @ attn.projections.weights["k"]).unflatten(-1, (HEADS, HEAD)).transpose(1, 2)
    near(memory.kept["k"].unflatten(-1, (HEADS, HEAD)).transpose(1, 2), read("").turn(raw, None))
    near(attn.trace(x).scores, layer("QKK/rope").trace(x).scores)
    assert attn.design.cost(attn.dims).cache_per_token == HEADS * HEAD
    assert (attn(x) - layer("QKK/rope")(x)).abs().max() > 1e-3
    monkeypatch.setattr(Rotation, "turn", None)
    k, v = attn.projections.recall(memory)
    assert torch.equal(k, v)


def test_positions_may_differ_in_each_sequence(x):
    attn, at = layer("QKV/rope"), torch.tensor([[0, 1, 2, 3, 4], [9, 3, 30, 31, 5]])
    for b in range(2):
        near(attn(x, positions=at)[b], attn(x[b : b + 1], positions=at[b])[0])
    near(attn(x), attn(x, positions=torch.arange(5)))


@pytest.mark.parametrize("name", ["QKV/rope", "QKK/rope", "QKK/ropekv", "QKV/alibi", "QKV/learned16", "QKV/sin"])
def test_the_last_of_a_few_queries_stands_at_the_last_key(name, x):
    attn = layer(name)
    whole = attn(x, causal=True)
    near(attn(x[:, 3:], attn.remember(x), causal="bottom-right"), whole[:, 3:])
    at = torch.tensor([1, 2, 6, 7, 9])
    memory = attn.remember(x, positions=at)
    near(
        attn(x[:, 3:], memory, causal="bottom-right"),
        attn(x, causal=True, positions=at)[:, 3:],
    )


def test_far_positions_are_as_exact_as_near_ones(x):
    exact, single = layer("QKV/rope"), layer("QKV/rope", dtype=torch.float32)
    single.load_state_dict(exact.state_dict())
    at = torch.arange(5) + 1_000_000
    near(single.trace(x.float(), positions=at).scores.double(), exact.trace(x).scores, 1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_turned_in_single_and_rounded_once(dtype):
    heads, at = draw(2, 3, 50, HEAD).to(dtype), torch.arange(50) * 37
    turned, exact = read("").turn(heads, at), read("").turn(heads.double(), at)
    assert turned.dtype == dtype
    unit = torch.finfo(dtype).eps
    # one rounding of the result and the noise of float32, no more
    assert bool(((turned.double() - exact).abs() <= 0.51 * unit * exact.abs() + 1e-6).all())


@pytest.mark.parametrize("options", OPTIONS)
def test_compiled_in_one_graph_with_positions(options, x):
    torch.compiler.reset()
    attn = layer(f"QKK/rope{options}")
    compiled = torch.compile(attn, fullgraph=True, backend="aot_eager")
    for at in (None, torch.arange(5) + 3, torch.arange(10).reshape(2, 5)):
        near(compiled(x, causal=True, positions=at), attn(x, causal=True, positions=at))


def test_some_channels_of_an_odd_head_may_turn(x):
    assert layer("QKV/rope-first8", d_head=9)(x).shape == x.shape


KEPT = [Rotation(), Rotation(base=500.0), Rotation(first=4), Rotation(pairing="interleaved"), read("-linear-by4")]


def turned_as_where_each_sequence_says_its_positions(dtypes):
    """Turning by angles that are kept from call to call is turning by angles that are made anew."""
    for rotation, (first, count), dtype in itertools.product(KEPT, [(0, 1), (7, 1), (7, 1), (0, 5), (0, 4)], dtypes):
        heads = torch.randn(1, 3, count, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
        with torch.no_grad():
            anew = rotation.turn(heads, torch.arange(first, first + count)[None])
            positions = torch.tensor([first]) if first else None
            assert torch.equal(rotation.turn(heads, positions), anew), (rotation, first, count, dtype)


@pytest.fixture
def made(monkeypatch):
    """How often angles are made, from an empty memory on."""
    calls, tables = [], Rotation._tables

    def watched(self, channels, like, places):
        calls.append(places)
        return tables(self, channels, like, places)

    monkeypatch.setattr(Rotation, "_tables", watched)
    rotation_module._tables_of.cache_clear()
    return calls


def test_angles_of_a_place_are_made_once(made):
    turned_as_where_each_sequence_says_its_positions([torch.float32])
    assert len(made) == (4 + 5) * len(KEPT)
    layer = Attention("QKV/rope", d_model=16, heads=2)
    cache = layer.new_cache(1, 9)
    made.clear()
    for place in range(9):
        layer.step(torch.randn(1, 1, 16), cache)
        layer(torch.randn(1, 9, 16), causal=True)
        assert len(made) == place + 2, "q and k of a step turn by the same angles, and so do texts of one length"


def test_angles_of_long_texts_are_not_kept(made):
    for _ in range(2):
        Rotation().turn(torch.zeros(1, rotation_module.REMEMBERED + 1, 2), None)
    assert len(made) == 2 and not rotation_module._tables_of.cache_info().currsize


@pytest.mark.parametrize("forgotten", ["rotation", "channels", "places", "dtype"])
def test_angles_of_another_are_caught(forgotten, monkeypatch):
    tables_of = rotation_module._tables_of.__wrapped__
    found = {}

    def careless(rotation, channels, places, dtype):
        key = {"rotation": rotation, "channels": channels, "places": places, "dtype": dtype}
        if forgotten == "channels":
            key["rotation"] = rotation.base  # which knows them otherwise
        key = tuple(value for name, value in key.items() if name != forgotten)
        if key not in found:
            found[key] = tables_of(rotation, channels, places, dtype)
        return found[key]

    monkeypatch.setattr(rotation_module, "_tables_of", careless)
    with pytest.raises((AssertionError, RuntimeError)):
        turned_as_where_each_sequence_says_its_positions([torch.float32, torch.float64])


def test_one_place_is_made_anew_where_more_than_numbers_is_asked_for(made):
    heads, place = torch.randn(1, 2, 1, 8), torch.tensor([5])
    want = Rotation().turn(heads, place)
    near(torch.vmap(Rotation().turn, in_dims=(0, None))(heads, place), want, 1e-6)
    with torch.no_grad():
        near(torch.vmap(Rotation().turn, in_dims=(0, None))(heads, place), want, 1e-6)
        assert torch.export.export(Turn(), (heads, place)).module()(heads, torch.tensor([6])).ne(want).any()
    with torch.inference_mode():
        Rotation().turn(heads, place)
    near(Rotation().turn(heads.requires_grad_(), place), want, 1e-6)


class Turn(torch.nn.Module):
    def forward(self, heads, place):
        return Rotation().turn(heads, place)


@pytest.mark.parametrize("options", ["", "-interleaved", "-interleaved-first4", "-first6-yarn-by4-of64"])
def test_gradients_of_turning_are_those_of_its_formulas(options):
    turning_has_the_gradients_of_its_formulas(options)


def turning_has_the_gradients_of_its_formulas(options):
    rotation, places = read(options), torch.tensor([3, 1, 100])
    heads, along = draw(2, 3, 3, 8, seed=1).requires_grad_(), draw(2, 3, 3, 8, seed=2)
    turned = lambda x: rotation.turn(x, places)  # noqa: E731
    _, formulas = torch.func.vjp(turned, heads.detach())
    near(torch.autograd.grad(turned(heads), heads, along)[0], formulas(along)[0])
    assert torch.autograd.gradcheck(turned, heads) and torch.autograd.gradgradcheck(turned, heads)
    with torch.autograd.forward_ad.dual_level():
        dual = turned(torch.autograd.forward_ad.make_dual(heads, along))
        near(torch.autograd.forward_ad.unpack_dual(dual).tangent, turned(along))


def test_a_gradient_that_turns_on_is_caught(monkeypatch):
    def onward(ctx, slope):
        return turning.Turning.apply(slope, *ctx.saved_tensors, ctx.turn), None, None, None

    monkeypatch.setattr(turning.Turning, "backward", staticmethod(onward))
    with pytest.raises(AssertionError):
        turning_has_the_gradients_of_its_formulas("")


def test_turning_keeps_nothing_but_angles():
    heads, kept = torch.randn(2, 3, 50, 8, requires_grad=True), []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        read("").turn(heads, None).sum().backward()
    assert sum(kept) == 2 * 50 * 4
