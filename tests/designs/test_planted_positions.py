"""A test must be able to fail: bugs planted in positions, and the judge that catches each."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch

from qkvlab import Attention, reference
from qkvlab.attention import layer
from qkvlab.designs import alibi, learned, parse, placed, rope, rotation, sinusoidal, speeds
from qkvlab.designs.turned import Turned
from qkvlab.testing import CHECKS

CONTRACT = {check.__name__: check for check in CHECKS}
HEADS, HEAD, MODEL = 6, 8, 20
ASKED = torch.tensor([[0, 7, 3, 30, 31], [12, 0, 9, 15, 14]])
KEPT = torch.arange(14).reshape(2, 7)

# the originals, before anything is planted
turn_of, speeds_of, falls_of, slopes_of = (
    rotation.Rotation.turn,
    speeds.plain_speeds,
    alibi.Alibi.bends,
    alibi.slopes,
)
kept_of, recall_of = Turned._kept, Turned.recall
table_of, waves_of = learned.Learned.place, sinusoidal.Sinusoidal.place
yarn_of, llama_of = speeds.Yarn.speeds, speeds.Llama3.speeds


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def built(name):
    torch.manual_seed(0)
    return Attention(name, d_model=MODEL, heads=HEADS, d_head=HEAD).double()


def same(got, wanted, tolerance=1e-9):
    np.testing.assert_allclose(got.detach().numpy(), wanted, rtol=0, atol=tolerance)


def equals_its_twin(name):
    """Cross-attention whose caller says where queries and keys stand, and self-attention, equal the NumPy twin."""
    attn, x, y = built(name), draw(2, 5, MODEL), draw(2, 7, MODEL, seed=1)
    weights = {n: w.detach().numpy() for n, w in attn.projections.weights.items()}
    weights["out"] = attn.out.weight.detach().numpy().T
    sizes = {"heads": HEADS, "d_head": HEAD, "kv_heads": attn.design.kv_heads(attn.dims)}
    across = reference.trace(name, weights, x.numpy(), y.numpy(), positions=(ASKED.numpy(), KEPT.numpy()), **sizes)
    same(attn(x, attn.remember(y, positions=KEPT), positions=ASKED), across.output)
    same(attn(x), reference.trace(name, weights, x.numpy(), **sizes).output)


def far_tokens_are_exact(name):
    """At positions of millions single precision is as near to double as it is at 0."""
    attn, x = built(name), draw(1, 5, MODEL)
    exact = attn(x)
    single = attn.float()(x.float(), positions=torch.arange(5) + 3_000_000)
    same(single, exact.detach().numpy(), 1e-5)


def half_precision_is_rounded_once(name):
    """In bfloat16 a turned query is the exact one to a rounding."""
    heads = draw(1, 1, 200, HEAD).bfloat16()
    turn = parse(name).rotation.turn
    exact = turn(heads.double(), None)
    assert ((turn(heads, None).double() - exact).abs() <= 0.51 * 2**-7 * exact.abs() + 1e-6).all()


def the_last_queries_stand_at_the_last_keys(name):
    """The last tokens alone, over a memory of all, give what they give among all."""
    attn, x = built(name), draw(2, 5, MODEL)
    whole = attn(x, causal=True)[:, 3:]
    same(attn(x[:, 3:], attn.remember(x), causal="bottom-right"), whole.detach().numpy())


JUDGES = (
    equals_its_twin,
    far_tokens_are_exact,
    half_precision_is_rounded_once,
    the_last_queries_stand_at_the_last_keys,
)
JUDGE = CONTRACT | {judge.__name__: judge for judge in JUDGES}


def pairs_mixed_up(self, heads, positions):
    other = "halves" if self.pairing == "interleaved" else "interleaved"
    return turn_of(replace(self, pairing=other), heads, positions)


class Swapped:
    """Functions whose cos is sin."""

    def __init__(self, of):
        self.of, self.cos, self.sin = of, of.sin, of.cos

    def __getattr__(self, name):
        return getattr(self.of, name)


functions_of = rotation.functions


def cos_is_sin(x):
    return Swapped(functions_of(x))


def turned_backwards(self, heads, positions):
    at = torch.arange(heads.shape[-2]) if positions is None else positions
    return turn_of(self, heads, -at)


def positions_are_forgotten(self, heads, positions):
    return turn_of(self, heads, None)


def a_batch_has_the_positions_of_its_first(self, heads, positions):
    return turn_of(self, heads, positions if positions is None or positions.ndim == 1 else positions[0])


def all_channels_turn(self, heads, positions):
    return turn_of(replace(self, first=None), heads, positions)


def the_last_channels_turn(self, heads, positions):
    if self.first is None:
        return turn_of(self, heads, positions)
    return turn_of(self, heads.flip(-1), positions).flip(-1)


def speeds_of_the_whole_head(pair, base, channels):
    return speeds_of(pair, base, HEAD)


def half_the_exponent(pair, base, channels):
    return base ** (-pair / channels)


def pairs_counted_from_1(pair, base, channels):
    return speeds_of(pair + 1, base, channels)


def angles_in_single(x):
    return x.float()


def tables_in_the_precision_of_x(x, like):
    return x.to(like.dtype)


def keys_stand_one_further(self, weights, memory, dims):
    if self.own_keys is None:
        return memory
    at = torch.arange(memory.kept[self.own_keys].shape[-2]) if memory.positions is None else memory.positions
    return replace(kept_of(self, weights, replace(memory, positions=at + 1), dims), positions=memory.positions)


def values_turn_too(self, weights, memory, dims):
    k, v = recall_of(self, weights, memory, dims)
    return k, self.turn(weights, v, dims, memory.positions, "k")


def keys_turn_again(self, weights, memory, dims):
    k, v = recall_of(self, weights, memory, dims)
    return self.turn(weights, k, dims, memory.positions, "k"), v


def keys_never_turn(self, weights, memory, dims):
    return memory


def only_the_key_turns(self, weights, memory, dims):
    v = self.inner.recall(weights, memory, dims)[1]
    return self.rotation.turn(v, memory.positions), v


def kept_unturned(self, memory, dims):
    return memory


def queries_never_turn(self, weights, x, dims, positions):
    return self.inner.ask(weights, x, dims, positions)


no_gain = 1.0


def ends_as_they_are(self, pair, base, channels):
    return yarn_of(replace(self, exact=1), pair, base, channels)


def slow_pairs_stay(self, pair, base, channels):
    plain = speeds_of(pair, base, channels)
    return plain + plain / self.by - llama_of(self, pair, base, channels)


def base_times_factor(self, pair, base, channels):
    return speeds_of(pair, base * self.by, channels)


def the_slowest_turn(self, pair, base, channels):
    return speeds_of(pair, base, channels) * (pair >= channels // 2 - int(self.keep * channels // 2))


def steepest_last(heads, like):
    return slopes_of(heads, like).flip(0)


def one_series_for_any_number(heads, like):
    return 2.0 ** (-8 * (torch.arange(heads, dtype=torch.float64) + 1) / heads)


def from_the_second_of_the_finer_series(heads, like):
    found = slopes_of(heads, like)
    found[4:] = 2.0 ** -(torch.arange(heads - 4, dtype=torch.float64) * 2 + 2)
    return found


def one_slope_per_key_head(heads, like):
    return slopes_of(2, like).repeat_interleave(heads // 2)


def ahead_gains(self, weights, dims):
    return (lambda scores, back: scores - slopes_of(HEADS, scores)[:, None, None] * back,)


def nearness_costs(self, weights, dims):
    (bend,) = falls_of(self, weights, dims)
    return (lambda scores, back: 2 * scores - bend(scores, back),)


def distances_by_place(self, weights, dims):
    (bend,) = falls_of(self, weights, dims)
    t, s = torch.arange(100)[:, None], torch.arange(100)
    return (lambda scores, back: bend(scores, (t - s)[: scores.shape[-2], : scores.shape[-1]]),)


def the_inner_bends_are_dropped(self, weights, dims):
    return falls_of(self, weights, dims)[-1:]


def one_row_further(self, weights, x, dims, positions):
    at = torch.arange(x.shape[-2]) if positions is None else positions
    return table_of(self, weights, x, dims, at - 1 + (at == 0).long())


def table_at_places(self, weights, x, dims, positions):
    return table_of(self, weights, x, dims, None)


def cosine_first(self, weights, x, dims, positions):
    wave = waves_of(self, weights, x, dims, positions)
    return wave.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)


def halves_as_in_fairseq(self, weights, x, dims, positions):
    wave = waves_of(self, weights, x, dims, positions)
    return torch.cat([wave[..., ::2], wave[..., 1::2]], -1)


def values_know_no_positions(self, weights, x, dims, positions):
    there = self.inner.remember(weights, self._there(weights, x, dims, positions), dims, positions)
    plain = self.inner.remember(weights, x, dims, positions)
    return replace(there, kept={**there.kept, "v": plain.kept["v"]})


def queries_are_not_placed(self, weights, x, dims, positions):
    return self.inner.ask(weights, x, dims, positions)


def projected_without_places(self, weights, x, dims, positions):
    return self.inner.project(weights, x, dims, positions)


def the_last_stand_first(queries, memory, causal):
    return None


ROTATION, TWIN = rotation.Rotation, "equals_its_twin"
BUGS = [
    (TWIN, "QKV/rope", (ROTATION, "turn"), pairs_mixed_up),
    (TWIN, "QKV/rope-interleaved", (ROTATION, "turn"), pairs_mixed_up),
    (TWIN, "QKV/rope", (rotation, "functions"), cos_is_sin),
    (TWIN, "QKV/rope", (ROTATION, "turn"), turned_backwards),
    (TWIN, "QKV/rope", (ROTATION, "turn"), positions_are_forgotten),
    (TWIN, "QKV/rope", (ROTATION, "turn"), a_batch_has_the_positions_of_its_first),
    (TWIN, "QKV/rope-first4", (ROTATION, "turn"), all_channels_turn),
    (TWIN, "QKV/rope-first4", (ROTATION, "turn"), the_last_channels_turn),
    (TWIN, "QKV/rope-first4", (rotation, "plain_speeds"), speeds_of_the_whole_head),
    (TWIN, "QKV/rope", (rotation, "plain_speeds"), half_the_exponent),
    (TWIN, "QKV/rope", (rotation, "plain_speeds"), pairs_counted_from_1),
    ("far_tokens_are_exact", "QKV/rope", (rotation, "finely"), angles_in_single),
    ("half_precision_is_rounded_once", "QKV/rope", (rotation, "at_least_single"), tables_in_the_precision_of_x),
    (TWIN, "QKV/rope", (Turned, "_kept"), keys_stand_one_further),
    (TWIN, "QKV/rope", (Turned, "_kept"), keys_never_turn),
    (TWIN, "QKV/rope", (Turned, "recall"), keys_turn_again),
    (TWIN, "QKV/rope", (Turned, "recall"), values_turn_too),
    (TWIN, "QKK/rope", (Turned, "recall"), values_turn_too),
    (TWIN, "QKK/rope", (Turned, "recall"), keys_turn_again),
    (TWIN, "QKK/ropekv", (rope.RopeKV, "_kept"), kept_unturned),
    (TWIN, "QKK/ropekv", (rope.RopeKV, "recall"), only_the_key_turns),
    (TWIN, "QKV/rope", (Turned, "ask"), queries_never_turn),
    ("project_equals_ask_and_remember", "QKV/rope", (Turned, "ask"), queries_never_turn),
    (TWIN, "QKV/rope-yarn-by4-of64", (speeds.Yarn, "amplitude"), no_gain),
    (TWIN, "QKV/rope-base50-yarn-by4-of200-fast8", (speeds.Yarn, "speeds"), ends_as_they_are),
    (TWIN, "QKV/rope-llama3-by8-of64", (speeds.Llama3, "speeds"), slow_pairs_stay),
    (TWIN, "QKV/rope-ntk-by4", (speeds.Ntk, "speeds"), base_times_factor),
    (TWIN, "QKV/rope-proportional-keep0.5", (speeds.Proportional, "speeds"), the_slowest_turn),
    (TWIN, "QKV/alibi", (alibi, "slopes"), steepest_last),
    (TWIN, "QKV/alibi", (alibi, "slopes"), one_series_for_any_number),
    (TWIN, "QKV/alibi", (alibi, "slopes"), from_the_second_of_the_finer_series),
    (TWIN, "QKV/kv2/alibi", (alibi, "slopes"), one_slope_per_key_head),
    (TWIN, "QKV/alibi", (alibi.Alibi, "bends"), ahead_gains),
    (TWIN, "QKV/alibi", (alibi.Alibi, "bends"), nearness_costs),
    (TWIN, "QKV/alibi", (alibi.Alibi, "bends"), distances_by_place),
    (TWIN, "QKV/cap1/alibi", (alibi.Alibi, "bends"), the_inner_bends_are_dropped),
    (TWIN, "QKV/learned32", (learned.Learned, "place"), one_row_further),
    (TWIN, "QKV/learned32", (learned.Learned, "place"), table_at_places),
    (TWIN, "QKV/sin", (sinusoidal.Sinusoidal, "place"), cosine_first),
    (TWIN, "QKV/sin", (sinusoidal.Sinusoidal, "place"), halves_as_in_fairseq),
    (TWIN, "QKV/sin", (placed.Placed, "remember"), values_know_no_positions),
    (TWIN, "QKV/learned32", (placed.Placed, "ask"), queries_are_not_placed),
    ("project_equals_ask_and_remember", "QKV/sin", (placed.Placed, "project"), projected_without_places),
    ("the_last_queries_stand_at_the_last_keys", "QKV/rope", (layer, "standing"), the_last_stand_first),
    ("the_last_queries_stand_at_the_last_keys", "QKK/ropekv", (layer, "standing"), the_last_stand_first),
    ("the_last_queries_stand_at_the_last_keys", "QKV/learned8", (layer, "standing"), the_last_stand_first),
]


def name_of(part):
    return part if isinstance(part, str) else getattr(part, "__name__", "")


@pytest.mark.parametrize(("judge", "design", "where", "bug"), BUGS, ids=name_of)
def test_it_is_caught(judge, design, where, bug, monkeypatch):
    JUDGE[judge](built(design).design if judge in CONTRACT else design)
    monkeypatch.setattr(*where, bug)
    monkeypatch.setattr(rotation, "_tables_of", lru_cache(rotation._tables_of.__wrapped__))  # none from before
    with pytest.raises(AssertionError) as caught:
        JUDGE[judge](parse(design) if judge in CONTRACT else design)
    assert str(caught.value)


def test_every_judge_has_caught_something():
    assert {judge.__name__ for judge in JUDGES} <= {judge for judge, *_ in BUGS}
