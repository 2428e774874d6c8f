"""What must be equal: designs that are the same mathematics are the same numbers."""

import pytest
import torch

from qkvlab import Attention
from qkvlab.designs import PATTERNS, Way, parse

HEADS, HEAD, MODEL = 4, 6, 24
SIZES = {"d_model": MODEL, "heads": HEADS}


def layer(design, weights=None, **sizes):
    """A float64 layer of seed 0, some of whose matrices are given."""
    torch.manual_seed(0)
    made = Attention(design, **(SIZES | sizes)).double()
    with torch.no_grad():
        for name, weight in (weights or {}).items():
            made.projections.weights[name].copy_(weight)
    return made


def draw(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def x():
    return draw(2, 5, MODEL, seed=2)


def same(first, second, x):
    second.out.load_state_dict(first.out.state_dict())
    ours, theirs = first.trace(x, causal=True), second.trace(x, causal=True)
    for name in ("q", "k", "v", "scores", "weights", "output"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
    assert torch.equal(first(x, causal=True), second(x, causal=True))


def partitions(items):
    """All ways to put items into unlabelled boxes."""
    if not items:
        return [[]]
    first, rest = items[0], partitions(items[1:])
    alone = [[[first], *boxes] for boxes in rest]
    joined = [[*boxes[:i], [first, *box], *boxes[i + 1 :]] for boxes in rest for i, box in enumerate(boxes)]
    return alone + joined


def test_the_fifteen_ways_are_exactly_the_set_partitions():
    def boxes_of(pattern):
        boxes = {"X": {"x"}}
        for role, letter in zip("qkv", pattern, strict=True):
            boxes.setdefault(letter, set()).add(role)
        return frozenset(frozenset(box) for box in boxes.values())

    wanted = {frozenset(frozenset(box) for box in boxes) for boxes in partitions(list("qkvx"))}
    assert len(wanted) == len(PATTERNS) == 15
    assert {boxes_of(pattern) for pattern in PATTERNS} == wanted


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_way_is_qkv_with_tied_or_identity_matrices_bit_for_bit(pattern, x):
    given = {letter: draw(MODEL, MODEL, seed=ord(letter)) for letter in "qkv"}
    way = layer(pattern, {name: given[name] for name in parse(pattern).matrices(layer("QKV").dims)})
    letters = dict(zip("qkv", pattern.lower(), strict=True))
    eye = torch.eye(MODEL, dtype=torch.float64)
    qkv = layer("QKV", {role: given.get(letter, eye) for role, letter in letters.items()})
    same(way, qkv, x)


def test_an_orthogonal_turn_of_q_and_k_leaves_the_scores(x):
    before = layer("QKV")
    turns = [torch.linalg.qr(draw(HEAD, HEAD, seed=seed)).Q for seed in range(HEADS)]
    turn = torch.block_diag(*turns)
    weights = before.projections.weights
    after = layer("QKV", {"q": weights["q"] @ turn, "k": weights["k"] @ turn})
    assert not torch.allclose(after.trace(x).q, before.trace(x).q)
    torch.testing.assert_close(after.trace(x).scores, before.trace(x).scores, rtol=0, atol=1e-12)


def test_uniform_is_the_mean(x):
    uniform = layer("uniform", d_value=7)
    v = x @ uniform.projections.weights["v"]
    so_far = torch.arange(1, 6, dtype=torch.float64)[:, None]
    torch.testing.assert_close(uniform(x), uniform.out(v.mean(1, keepdim=True)).expand(-1, 5, -1))
    torch.testing.assert_close(uniform(x, causal=True), uniform.out(v.cumsum(1) / so_far))


def test_frozen_computes_as_qkv_at_equal_weights(x):
    frozen = layer("frozen")
    same(frozen, layer("QKV", frozen.projections.weights), x)
    assert {n: p.requires_grad for n, p in frozen.projections.named_parameters()} == {
        "q": False,
        "k": False,
        "v": True,
    }


def test_signed_with_only_plus_channels_is_qqv_bit_for_bit(x):
    plus = draw(MODEL, MODEL)
    plus[:, 1::2] = 0  # where the signature is -1 there is nothing
    v = draw(MODEL, MODEL, seed=3)
    signed, tied = layer("QDQ", {"q": plus, "v": v}), layer("QQV", {"q": plus, "v": v})
    same(signed, tied, x)


def test_signed_is_qkv_whose_query_matrix_has_signs(x):
    signed = layer("QDQ")
    w = signed.projections.weights
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(MODEL // 2)
    same(signed, layer("QKV", {"q": w["q"] * signs, "k": w["q"], "v": w["v"]}), x)


@pytest.mark.parametrize("name", ["QQV", "QQX", "QQQ", "XXV", "XXX", "QDQ"])
def test_tied_scores_are_symmetric(name, x):
    scores = layer(name).trace(x).scores
    torch.testing.assert_close(scores, scores.mT, rtol=0, atol=1e-12)
    own = scores.diagonal(dim1=-2, dim2=-1)
    assert bool((own >= 0).all()) is (name != "QDQ"), "only a mixed signature lets a token dislike itself"


def test_untied_scores_are_not_symmetric(x):
    scores = layer("QKV").trace(x).scores
    assert (scores - scores.mT).abs().max() > 0.1


@pytest.mark.parametrize("pattern", ["QKV", "QKK"])
def test_one_group_per_query_head_is_multi_head_attention(pattern, x):
    plain = layer(pattern)
    same(plain, layer(Way(pattern, HEADS), plain.projections.weights), x)


@pytest.mark.parametrize("groups", [1, 2])
def test_grouped_heads_are_multi_head_attention_with_repeated_key_heads(groups, x):
    grouped = layer(Way("QKV", groups))
    weights = dict(grouped.projections.weights)
    for name in "kv":
        heads = weights[name].reshape(MODEL, groups, HEAD)
        weights[name] = heads.repeat_interleave(HEADS // groups, dim=1).reshape(MODEL, MODEL)
    whole = layer("QKV", weights)
    whole.out.load_state_dict(grouped.out.state_dict())
    for other in (grouped(x, causal=True), grouped.trace(x, causal=True).output):
        torch.testing.assert_close(other, whole(x, causal=True), rtol=0, atol=1e-12)


def test_without_a_mask_the_order_of_tokens_means_nothing(x):
    order = torch.tensor([3, 0, 4, 1, 2])
    attn = layer("QKV")
    torch.testing.assert_close(attn(x)[:, order], attn(x[:, order]), rtol=0, atol=1e-12)
