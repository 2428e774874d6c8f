"""Multi-head latent attention: the paper, what it must equal, what it costs, its absorbed form, what it refuses."""

import math

import pytest
import torch
from plain_mla import EXACT, absorbed_equals_plain, draw, equals_the_paper, layer_of
from torch.utils.flop_counter import FlopCounterMode

from qkvlab.attention import decoding
from qkvlab.contracts import Dims
from qkvlab.designs import parse
from qkvlab.designs.absorbed import Absorbed
from qkvlab.errors import BadInput, Refusal
from qkvlab.testing import CHECKS

DEEPSEEK = Dims(d_model=5120, heads=128, d_head=128, d_value=128)
DESIGNS = ("MLA", "MLA11", "MLA11q7", "MLA/rope", "MLA11/rope", "MLA11/rope6", "MLA11q7/rope4")
SIZES = {"d_model": 18, "heads": 4, "d_head": 8, "d_value": 10}


@pytest.mark.parametrize("name", DESIGNS)
def test_it_is_what_the_paper_writes(name):
    equals_the_paper(name)


@pytest.mark.parametrize("name", [*DESIGNS, "MLA11q7/rope4-yarn-by4-of16", "MLA11/rope/noself", "MLA11/rope/h16"])
def test_absorbed_equals_plain(name):
    absorbed_equals_plain(name)


OTHERWISE = ("flops_equal_cost", "each_matrix_is_used_once", "name_parses_back")
"""The absorbed form uses W_UK with queries and W_UV behind the sum, not for every key; and nobody names it."""


@pytest.mark.parametrize("check", [c for c in CHECKS if c.__name__ not in OTHERWISE], ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", ["MLA11", "MLA11q7/rope4"])
def test_the_absorbed_form_keeps_the_contract(name, check):
    check(parse(name).absorbed())


# identities


def test_of_a_latent_that_is_x_it_is_qkv():
    mla, qkv = layer_of("MLA18", **SIZES), layer_of("QKV", **SIZES)
    w = mla.projections.weights
    with torch.no_grad():
        w["dkv"].copy_(torch.eye(18))
        w["dkv_gain"].fill_(1)
        qkv.out.load_state_dict(mla.out.state_dict())
        for ours, theirs in (("q", "q"), ("k", "uk"), ("v", "uv")):
            qkv.projections.weights[ours].copy_(w[theirs])
    x = draw(2, 5, 18)
    x = x * torch.sqrt((1 - 1e-6) / x.pow(2).mean(-1, keepdim=True))  # which the norm leaves as it is
    torch.testing.assert_close(mla(x, causal=True), qkv(x, causal=True), **EXACT)


def test_with_keys_of_no_latent_it_has_one_rotary_key_head():
    mla = layer_of("MLA11/rope6", **SIZES)
    mqa = layer_of("QKV/kv1/rope-interleaved", **(SIZES | {"d_head": 6}))
    with torch.no_grad():
        mla.projections.weights["q"].zero_()
        mqa.projections.weights["q"].copy_(mla.projections.weights["qr"])
        mqa.projections.weights["k"].copy_(mla.projections.weights["kr"])
    x = draw(2, 5, 18)
    ours, theirs = mla.trace(x).scores * math.sqrt(8 + 6), mqa.trace(x).scores * math.sqrt(6)
    torch.testing.assert_close(ours, theirs, **EXACT)


def test_a_rotary_part_of_zeros_only_widens_the_root():
    with_part, without = layer_of("MLA11/rope6", **SIZES), layer_of("MLA11", **SIZES)
    with torch.no_grad():
        with_part.projections.weights["kr"].zero_()
        for name, weight in without.projections.weights.items():
            weight.copy_(with_part.projections.weights[name])
    x = draw(2, 5, 18)
    torch.testing.assert_close(with_part.trace(x).scores * math.sqrt(14 / 8), without.trace(x).scores, **EXACT)


def test_only_distances_matter():
    layer, x = layer_of("MLA11q7/rope4"), draw(2, 5, 18)
    at = torch.tensor([0, 1, 2, 3, 9])
    torch.testing.assert_close(layer(x, positions=at), layer(x, positions=at + 1000), rtol=0, atol=1e-10)
    assert (layer(x, positions=at) - layer(x)).abs().max() > 1e-3


def test_the_size_of_x_means_nothing_to_latents():
    layer, x = layer_of("MLA11q7"), draw(2, 5, 18)
    torch.testing.assert_close(layer(1e4 * x), layer(1e3 * x), rtol=0, atol=1e-6)


def test_yarn_lets_scores_grow_as_a_whole():
    grown, plain = layer_of("MLA11/rope4-yarn-by4-of16"), layer_of("MLA11/rope4-yarn-by4-of16-gain1")
    plain.load_state_dict(grown.state_dict())
    x, factor = draw(2, 5, 18), (0.1 * math.log(4) + 1) ** 2
    ours, theirs = grown.trace(x), plain.trace(x)
    torch.testing.assert_close(ours.scores, factor * theirs.scores, **EXACT)
    assert torch.equal(ours.k, theirs.k) and torch.equal(ours.q, theirs.q), "what is kept does not grow"


# costs


@pytest.mark.parametrize("name", ["MLA/rope", "MLA512q1536/rope64", "deepseek-v2", "deepseek-v2-lite", "deepseek-v3"])
def test_the_numbers_of_deepseek(name):
    assert parse(name).cost(DEEPSEEK).cache_per_token == 512 + 64 == 576
    assert parse("QKV").cost(DEEPSEEK).cache_per_token == 32768


def test_the_parameters_of_deepseek_v2():
    """Shapes of its checkpoint: q_a 1536 x 5120, q_b 24576 x 1536, kv_a 576 x 5120, kv_b 32768 x 512, two gains."""
    products = 1536 * 5120 + 24576 * 1536 + 576 * 5120 + 32768 * 512
    cost = parse("deepseek-v2").cost(DEEPSEEK)
    assert cost.parameters == products + 1536 + 512
    assert cost.flops_per_token == 2 * products


def test_what_is_not_said_is_as_the_paper_chooses_it():
    dims = Dims(d_model=64, heads=4, d_head=16, d_value=16)
    assert parse("mla/rope").cost(dims) == parse("MLA64/rope8").cost(dims)
    assert parse("mla").cost(dims).cache_per_token == 4 * 16


def flops(design, tokens, keys, chosen=decoding.cheaper):
    """Counted by PyTorch in one step of so many tokens that brings the cache to so many keys."""
    layer = layer_of(design, d_model=64, heads=4, d_head=16, d_value=16)
    cache = layer.new_cache(1, keys)
    for part in draw(1, keys - tokens, 64).split(512, 1):
        cache.add(layer.remember(part))
    with pytest.MonkeyPatch.context() as patch, FlopCounterMode(display=False) as counter:
        patch.setattr(decoding, "cheaper", chosen)
        layer.step(draw(1, tokens, 64), cache)
    return counter.get_total_flops()


def never(design, absorbed, dims, tokens, keys):
    return design


def always(design, absorbed, dims, tokens, keys):
    return absorbed


def test_decoding_at_4096_tokens_takes_less_work_absorbed():
    plain, absorbed = (flops("MLA/rope", 1, 4096, chosen) for chosen in (never, always))
    assert flops("MLA/rope", 1, 4096) == absorbed < plain / 10
    assert plain > 4096 * 2 * 64 * 4 * (16 + 16), "keys and values of all heads are made again of every latent"


@pytest.mark.parametrize("name", ["MLA/rope", "MLA24", "MLA128q5/rope4", "MLA/rope/noself", "MLA/window7", "MLA/alibi"])
def test_a_step_takes_the_form_with_less_work(name):
    taken = set()
    for tokens, keys in ((1, 1), (1, 2), (1, 500), (4, 500), (60, 60), (60, 500), (300, 300)):
        plain, absorbed = (flops(name, tokens, keys, chosen) for chosen in (never, always))
        assert flops(name, tokens, keys) == min(plain, absorbed), (tokens, keys)
        taken.add(plain < absorbed)
    assert taken == {False, True}, "both forms are the better one somewhere"


@pytest.mark.parametrize(
    "name", ["MLA/rope", "MLA11q7/rope4", "MLA/rope/noself", "MLA/window7", "MLA11/cap5", "MLA/sink"]
)
@pytest.mark.parametrize("route", ["plain", "fused"])
def test_steps_of_both_forms_on_one_cache_equal_all_at_once(name, route):
    layer = layer_of(name, route=route, d_model=18, heads=4, d_head=8, d_value=10)
    x, cache, steps = draw(2, 60, 18), layer.new_cache(2, 60), []
    for count, part in enumerate(x.split((30, 3, 1, 25, 1), 1)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(decoding, "cheaper", (never, always)[count % 2])
            steps.append(layer.step(part, cache))
    torch.testing.assert_close(torch.cat(steps, 1), layer(x, causal=True), rtol=0, atol=1e-11)


# refusals


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("MLA0", "at least 1 number in its latent; got 0"),
        ("MLA4q0", "at least 1 number in the query's latent; got 0"),
        ("MLA4/rope3", "even number from 2 on; got /rope3"),
        ("MLA4/rope0", "even number from 2 on; got /rope0"),
        ("MLA4/rope-first2", "all channels of the shared part.*MLA64/rope32"),
        ("MLA4/rope2/rope", "MLA4/rope2/rope turns whole keys.*write MLA4/rope"),
        ("MLA4/noself/rope", "MLA4/noself/rope turns whole keys.*write MLA4/rope"),
        ("MLA4/noself/ropekv", "write MLA4/rope"),
        ("MLA4/rope2-yarn", "yarn needs by and of"),
    ],
)
def test_what_cannot_be_is_refused_in_words(name, said):
    with pytest.raises(BadInput, match=said):
        parse(name)


def test_half_a_head_must_be_pairs():
    with pytest.raises(Refusal, match=r"multiple of 4; got d_head=6.*MLA/rope2"):
        parse("MLA/rope").cost(Dims.of(18, 3))
    assert parse("MLA/rope2").cost(Dims.of(18, 3)).cache_per_token == 4 * 6 + 2


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("mla", "MLA"),
        ("mla064Q8", "MLA64q8"),
        ("MLA64/ROPE-interleaved", "MLA64/rope"),
        ("mlaq8/rope4-yarn-of16-by4", "MLAq8/rope4-yarn-by4-of16"),
        ("deepseek-v3/noself", "MLA512q1536/rope64-yarn-by40-of4096/noself"),
    ],
)
def test_names_are_printed_in_one_way(text, name):
    assert parse(text).name == name
    assert parse(name) == parse(text)


def test_what_changes_keys_behind_the_latent_is_not_absorbed():
    assert isinstance(parse("MLA11/rope").absorbed(), Absorbed)
    assert parse("MLA11/rope/noself").absorbed().name == "MLA11/rope-absorbed/noself"
