"""To and from torch.nn.MultiheadAttention: equal outputs and gradients under every mask, and the same numbers back."""

import warnings

import pytest
import torch
from torch import nn

from qkvlab import Attention
from qkvlab.attention import interop
from qkvlab.designs import examples, parse
from qkvlab.errors import BadInput, Refusal
from qkvlab.testing.sizes import redrawn

D, HEADS, B, T, S = 32, 4, 2, 5, 7
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
UPPER = torch.ones(T, T, dtype=torch.bool).triu(1)
HIDDEN = torch.tensor([[False] * 5, [False, False, True, True, True]])
SOME = torch.rand(B * HEADS, T, T, generator=torch.Generator().manual_seed(3)) < 0.4
SOME[..., 0] = False
# torch's options and ours for the same masks
MASKS = {
    "all": ({}, {}),
    "causal": ({"attn_mask": UPPER, "is_causal": True}, {"causal": True}),
    "mask": ({"attn_mask": UPPER.mT}, {"mask": ~UPPER.mT}),
    "mask of each head": ({"attn_mask": SOME}, {"mask": ~SOME.unflatten(0, (B, HEADS))}),
    "padding": ({"key_padding_mask": HIDDEN}, {"padding": ~HIDDEN}),
    "both": ({"attn_mask": UPPER, "key_padding_mask": HIDDEN}, {"causal": True, "padding": ~HIDDEN}),
}


def draw(*shape, dtype=torch.float64, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def theirs(seed=0, **options):
    torch.manual_seed(seed)
    module = nn.MultiheadAttention(D, HEADS, **({"batch_first": True, "dtype": torch.float64} | options))
    with torch.no_grad():
        for bias in (module.in_proj_bias, module.out_proj.bias):
            if bias is not None:
                bias.normal_()  # they start at 0, where mistakes would not show
    return module


def run_theirs(module, x, y=None, **options):
    y = x if y is None else y
    if not module.batch_first:
        x, y = x.swapaxes(0, 1), y.swapaxes(0, 1)
    out = module(x, y, y, need_weights=False, **options)[0]
    return out if module.batch_first else out.swapaxes(0, 1)


def agree(module, layer, x, options, y=None, tolerance=1e-12):
    """Outputs, and gradients of tokens and of every matrix, are equal."""
    found = []
    for run, given, part in ((run_theirs, options[0], module), (run_ours, options[1], layer)):
        leaves = [x.clone().requires_grad_(), None if y is None else y.clone().requires_grad_()]
        part.zero_grad()
        out = run(part, *leaves, **given)
        out.backward(draw(*out.shape, dtype=out.dtype, seed=9))
        found.append([out.detach(), *(leaf.grad for leaf in leaves if leaf is not None), *gradients(part)])
    for got, wanted in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(got, wanted, rtol=2 * tolerance, atol=2 * tolerance)  # gradients sum over tokens
    torch.testing.assert_close(found[1][0], found[0][0], rtol=tolerance, atol=tolerance)


def run_ours(layer, x, y=None, **options):
    return layer(x, None if y is None else layer.remember(y), **options)


def gradients(part):
    if isinstance(part, nn.MultiheadAttention):
        biases = [] if part.in_proj_bias is None else part.in_proj_bias.grad[None].chunk(3, -1)
        return [*part.in_proj_weight.grad.mT.chunk(3, -1), *biases, *(p.grad for p in part.out_proj.parameters())]
    return [p.grad for p in (*part.projections.parameters(), *part.out.parameters())]


def same_module(a, b):
    assert a.state_dict().keys() == b.state_dict().keys()
    for (name, one), other in zip(a.named_parameters(), b.parameters(), strict=True):
        assert torch.equal(one, other) and one.requires_grad == other.requires_grad, name
        assert one.dtype == other.dtype and one.device == other.device, name
    for name in ("embed_dim", "num_heads", "dropout", "batch_first", "training", "add_zero_attn"):
        assert getattr(a, name) == getattr(b, name), name


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("route", ["fused", "plain"])
def test_from_torch_computes_the_same(route, dtype, bias, mask):
    module = theirs(dtype=dtype, bias=bias)
    assert list(dict(module.named_parameters())) == [
        "in_proj_weight",
        *["in_proj_bias"] * bias,
        "out_proj.weight",
        *["out_proj.bias"] * bias,
    ]
    layer = Attention.from_torch(module, route=route)
    agree(module, layer, draw(B, T, D, dtype=dtype), MASKS[mask], tolerance=TOLERANCE[dtype])


@pytest.mark.parametrize("route", ["fused", "plain"])
def test_cross_attention_computes_the_same(route):
    module = theirs()
    agree(module, Attention.from_torch(module, route), draw(B, T, D), ({}, {}), draw(B, S, D, seed=1))


def test_tokens_first_is_the_same_layer():
    module = theirs(batch_first=False)
    agree(module, Attention.from_torch(module), draw(B, T, D), MASKS["causal"])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bias": False},
        {"batch_first": False},
        {"dropout": 0.25},
        {"dtype": torch.float32},
        {"dtype": torch.bfloat16},
    ],
    ids=str,
)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("trained", [True, False])
def test_the_round_trip_is_the_identity(options, training, trained):
    module = theirs(**options).train(training).requires_grad_(trained)
    module.out_proj.weight.requires_grad_(not trained)
    if module.in_proj_bias is not None:
        module.in_proj_bias.requires_grad_(not trained)
    layer = Attention.from_torch(module)
    assert (layer.training, layer.dropout, layer.out.weight.dtype) == (
        training,
        module.dropout,
        module.in_proj_weight.dtype,
    )
    same_module(layer.to_torch(batch_first=module.batch_first), module)
    again = Attention.from_torch(layer.to_torch())
    for name, weight in layer.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight), name


def test_numbers_are_copied_and_no_noise_is_drawn():
    module = theirs()
    state = torch.get_rng_state()
    layer = Attention.from_torch(module)
    assert torch.equal(torch.get_rng_state(), state)
    before = module.in_proj_weight.clone()
    with torch.no_grad():
        layer.projections.q.zero_()
        layer.to_torch().in_proj_weight.zero_()
    assert torch.equal(module.in_proj_weight, before) and layer.projections.k.any()


def test_on_the_meta_device_it_stays_there():
    layer = Attention.from_torch(theirs(device="meta"))
    assert {p.device.type for p in layer.parameters()} == {"meta"}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"kdim": 16}, "d_model=32 wide, as queries are; got kdim=16, vdim=32"),
        ({"vdim": 30}, "got kdim=32, vdim=30"),
        ({"kdim": 16, "vdim": 30}, "got kdim=16, vdim=30"),
        ({"add_bias_kv": True}, "add_bias_kv=True adds a learned key and value"),
        ({"add_zero_attn": True}, "add_zero_attn=True adds a key and value of zeros"),
    ],
    ids=str,
)
def test_what_no_design_has_is_refused(options, text):
    with pytest.raises(BadInput, match=text):
        Attention.from_torch(theirs(**options))


def test_another_module_is_refused():
    with pytest.raises(BadInput, match=r"needs a torch.nn.MultiheadAttention; got Linear"):
        Attention.from_torch(nn.Linear(2, 2))


def ours(design, **sizes):
    torch.manual_seed(0)
    layer = Attention(design, **({"d_model": D, "heads": HEADS} | sizes)).double()
    redrawn(layer.projections)
    if layer.out.bias is not None:
        nn.init.normal_(layer.out.bias)
    return layer.requires_grad_()


def held_by_torch(design):
    """What each example becomes: a module and its warnings, or the refusal."""
    layer = ours(design)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            return layer, layer.to_torch(), [str(each.message) for each in said if each.category is UserWarning]
        except Refusal as refusal:
            return layer, refusal, []


@pytest.mark.parametrize("design", examples().values(), ids=str)
def test_every_example_becomes_torchs_layer_or_says_why_not(design):
    layer, made, said = held_by_torch(design)
    if isinstance(made, Refusal):
        assert str(made).startswith("torch.nn.MultiheadAttention cannot hold") and "got " in str(made)
        return
    x = draw(B, T, D)
    for mask in ("all", "causal", "both"):
        torch.testing.assert_close(
            run_theirs(made, x, **MASKS[mask][0]), layer(x, **MASKS[mask][1]), rtol=0, atol=1e-12
        )
    held, apart = (sum(p.numel() for p in part.parameters()) for part in (layer, made))
    assert bool(said) == (held < apart)
    assert all(f"holds {held} numbers" in text and str(apart) in text for text in said)


def test_the_fifteen_ways_are_held_and_what_torch_lacks_is_not():
    kept = {name for name, design in examples().items() if not isinstance(held_by_torch(design)[1], Refusal)}
    ways = {name for name in examples() if len(name) == 3 and "/" not in name}
    assert ways | {"QKV/kv1", "QKV/kv2", "QKK/kv2", "QDQ", "frozen", "uniform", "QKV/bias", "QQV/bias"} <= kept
    assert not {
        name for name in kept if any(part in name for part in ("rope", "alibi", "noself", "learned", "sin", "h16"))
    }


@pytest.mark.parametrize("name", ["QKV", "QQV", "QKK", "QQQ", "QKV/kv2"])
def test_what_is_shared_is_copied_bit_for_bit(name):
    layer, made, _ = held_by_torch(parse(name))
    weights, letters = layer.projections.weights, dict(zip("qkv", name[:3].lower(), strict=True))
    for role, matrix in zip("qkv", made.in_proj_weight.chunk(3), strict=True):
        wanted = weights[letters[role]]
        if wanted.shape[1] < D:
            wanted = wanted.unflatten(1, (-1, D // HEADS)).repeat_interleave(2, 1).flatten(1)
        assert torch.equal(matrix.mT, wanted), role


@pytest.mark.parametrize(
    ("design", "sizes", "text"),
    [
        ("QKV", {"d_head": 5}, "heads=4, d_head=5, d_value=5, d_model=32"),
        ("QKV", {"d_value": 9}, "d_head=8, d_value=9"),
        ("QKV/noself", {}, "tokens that do not see themselves; got QKV/noself"),
        ("QKV/window3", {}, "a window of 3 tokens; got QKV/window3"),
        ("QKV/sink", {}, "sinks; got QKV/sink"),
        ("QKV/alibi", {}, "scores that are changed before the softmax"),
        ("QKV/rope", {}, "norms or positions inside the layer; got QKV/rope"),
        ("QKV/learned9", {}, "positions inside the layer; got QKV/learned9"),
    ],
)
def test_what_torch_lacks_is_refused(design, sizes, text):
    with pytest.raises(Refusal, match=text):
        ours(design, **sizes).to_torch()


def test_what_is_trained_in_part_is_refused():
    with pytest.raises(BadInput, match=r"requires_grad \{'q': False, 'k': False, 'v': True\} of frozen"):
        Attention("frozen", d_model=D, heads=HEADS).to_torch()


qkv_of, affine_of = interop._qkv, interop._affine


def transposed(design, weights, dims, like):
    return {name: [matrix.mT, bias] for name, (matrix, bias) in affine_of(design, weights, dims, like).items()}


def k_and_v_swapped(design, weights, dims, like):
    made = affine_of(design, weights, dims, like)
    return {"q": made["q"], "k": made["v"], "v": made["k"]}


def heads_repeated_as_a_whole(design, weights, dims, x, positions):
    q, memory = design.project(weights, x, dims, positions)
    made = zip("qkv", (q, *design.recall(weights, memory, dims)), strict=True)
    whole = {name: torch.cat([part] * (dims.heads // part.shape[-3]), -3) for name, part in made}
    return {name: interop.join_heads(part) for name, part in whole.items()}


def biases_dropped(design, weights, dims, like):
    return {name: [matrix, 0 * bias] for name, (matrix, bias) in affine_of(design, weights, dims, like).items()}


@pytest.mark.parametrize(
    ("name", "bug"),
    [
        ("_affine", transposed),
        ("_affine", k_and_v_swapped),
        ("_affine", biases_dropped),
        ("_qkv", heads_repeated_as_a_whole),
    ],
)
def test_the_comparison_catches(name, bug, monkeypatch):
    monkeypatch.setattr(interop, name, bug)
    monkeypatch.setattr(interop, "_same", lambda a, b: True)  # its own probe sees it too
    with pytest.raises(AssertionError):
        test_every_example_becomes_torchs_layer_or_says_why_not(parse("QKV/kv2/bias"))


@pytest.mark.parametrize("bug", [("v", "k", "q"), ("k", "v", "q"), ("q", "v", "k")], ids=str)
def test_letters_mixed_up_on_the_way_in_are_caught(bug, monkeypatch):
    monkeypatch.setattr(interop, "_MATRICES", bug)
    with pytest.raises(AssertionError):
        test_from_torch_computes_the_same("fused", torch.float64, True, "all")


@pytest.mark.parametrize("bug", [("v_bias", "k_bias", "q_bias"), ("q_bias", "v_bias", "k_bias")], ids=str)
def test_biases_mixed_up_on_the_way_in_are_caught(bug, monkeypatch):
    monkeypatch.setattr(interop, "_BIASES", bug)
    with pytest.raises(AssertionError):
        test_from_torch_computes_the_same("fused", torch.float64, True, "all")


def test_the_warning_points_at_the_caller():
    with pytest.warns(UserWarning, match="QQV holds .* what is shared, missing or fixed here") as said:
        Attention("QQV", d_model=D, heads=HEADS).to_torch()
    assert said[0].filename == __file__


def test_biases_that_are_still_0_keep_their_place():
    with pytest.warns(UserWarning, match="written out"):
        made = Attention("QKV/biasqkv", d_model=D, heads=HEADS).to_torch()
    assert made.in_proj_bias is not None and made.out_proj.bias is not None
