"""The KV cache: room, length, what it refuses, and that a step reads no more than it must."""

import copy
import gc

import pytest
import torch
import torch.nn.functional as F
from test_planted_decoding import Near

from qkvlab import Attention
from qkvlab.attention.visible import Span
from qkvlab.designs import examples, parse
from qkvlab.errors import BadInput


def layer_of(name="QKV", **options):
    return Attention(name, **{"d_model": 16, "heads": 4} | options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("name", ["QKV", "QKK", "QKV/kv2", "XXX", "uniform"])
def test_bytes_are_cost_times_tokens_times_itemsize(name, dtype):
    layer = layer_of(name).to(dtype)
    cache = layer.new_cache(3, 7)
    assert cache.nbytes == layer.design.cost(layer.dims).cache_per_token * 3 * 7 * dtype.itemsize
    assert (cache.dtype, cache.device, len(cache)) == (dtype, torch.device("cpu"), 0)


def test_a_cache_knows_its_design_its_layer_and_its_length():
    layer = layer_of("QKK")
    cache = layer.new_cache(2, 5)
    layer.step(torch.randn(2, 3, 16), cache)
    assert cache.design is layer.design and cache.dims == layer.dims
    assert repr(cache) == "Cache(QKK, 3 of 5 tokens, batch 2, torch.float32 on cpu, 640 bytes)"
    cache.truncate(1)
    assert len(cache) == 1
    cache.reset()
    assert len(cache) == 0


def test_the_lengths_go_on_and_no_gradient_is_kept():
    layer = layer_of().train()
    cache, x = layer.new_cache(2, 6), torch.randn(2, 2, 16, requires_grad=True)
    for done in (2, 4, 6):
        assert not layer.step(x, cache).requires_grad
        assert len(cache) == done
    assert not any(p.grad is not None for p in layer.parameters())


def test_a_step_has_no_dropout():
    layer, x = layer_of(dropout=0.5).train(), torch.randn(2, 6, 16)
    got = layer.step(x, layer.new_cache(2, 6))
    torch.testing.assert_close(got, layer.eval()(x, causal=True))


def test_a_step_of_no_tokens_is_empty():
    layer = layer_of()
    cache = layer.new_cache(2, 6)
    assert layer.step(torch.randn(2, 0, 16), cache).shape == (2, 0, 16)
    assert len(cache) == 0


def test_changed_weights_are_seen_at_the_next_step():
    layer, x = layer_of(), torch.randn(2, 6, 16)
    layer.step(x, layer.new_cache(2, 6))
    changes = [
        lambda: layer.projections.k.data.mul_(2),
        lambda: torch.nn.init.normal_(layer.projections.q),
        lambda: layer.load_state_dict(layer_of().state_dict()),
        lambda: setattr(layer.projections, "v", torch.nn.Parameter(torch.randn(16, 16))),
        lambda: layer.double(),
    ]
    for change in changes:
        change()
        x = x.to(layer.out.weight.dtype)
        torch.testing.assert_close(layer.step(x, layer.new_cache(2, 6)), layer(x, causal=True))


REFUSED = {
    "another design": (
        lambda layer: (torch.randn(2, 1, 16), layer_of("QQV").new_cache(2, 4)),
        r"made for QQV at .*; the layer is QKV at ",
    ),
    "other sizes": (
        lambda layer: (torch.randn(2, 1, 16), layer_of(heads=2).new_cache(2, 4)),
        r"QKV at Dims\(d_model=16, heads=2, .*; the layer is QKV at Dims\(d_model=16, heads=4",
    ),
    "another layer": (
        lambda layer: (torch.randn(2, 1, 16), copy.deepcopy(layer).new_cache(2, 4)),
        r"belongs to another layer of QKV",
    ),
    "another batch": (lambda layer: (torch.randn(3, 1, 16), layer.new_cache(2, 4)), r"batch=2.*got \(3, 1, 16\)"),
    "another width": (lambda layer: (torch.randn(2, 1, 8), layer.new_cache(2, 4)), r"d_model=16.*got \(2, 1, 8\)"),
    "no batch": (lambda layer: (torch.randn(1, 16), layer.new_cache(2, 4)), r"batch=2, tokens, .*got \(1, 16\)"),
    "another dtype": (
        lambda layer: (torch.randn(2, 1, 16, dtype=torch.float64), layer.new_cache(2, 4)),
        r"x is torch.float64 and the layer's weights torch.float32",
    ),
    "a cache of another dtype": (
        lambda layer: (torch.randn(2, 1, 16), layer.new_cache(2, 4, dtype=torch.bfloat16)),
        r"holds torch.bfloat16 on cpu; x is torch.float32 on cpu",
    ),
    "a cache elsewhere": (
        lambda layer: (torch.randn(2, 1, 16), layer.new_cache(2, 4, device="meta")),
        r"holds torch.float32 on meta; x is torch.float32 on cpu",
    ),
    "too many tokens": (
        lambda layer: (torch.randn(2, 5, 16), layer.new_cache(2, 4)),
        r"room for 4 tokens and holds 0; 5 more",
    ),
    "not a cache": (lambda layer: (torch.randn(2, 1, 16), {}), r"needs a cache from new_cache.*got dict"),
}


@pytest.mark.parametrize("made", REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(made):
    give, text = made
    layer = layer_of()
    with pytest.raises(BadInput, match=text) as caught:
        layer.step(*give(layer))
    assert "\n" not in str(caught.value)


def test_a_full_cache_is_refused_and_stays_as_it_was():
    layer = layer_of()
    cache = layer.new_cache(2, 4)
    layer.step(torch.randn(2, 3, 16), cache)
    with pytest.raises(BadInput, match=r"room for 4 tokens and holds 3; 2 more do not fit"):
        layer.step(torch.randn(2, 2, 16), cache)
    assert len(cache) == 3
    layer.step(torch.randn(2, 1, 16), cache)


@pytest.mark.parametrize("size", [0, -1, 2.0, True, None])
def test_sizes_that_cannot_be_meant(size):
    layer = layer_of()
    with pytest.raises(BadInput, match="batch of a cache must be"):
        layer.new_cache(size, 4)
    with pytest.raises(BadInput, match="max_tokens of a cache must be"):
        layer.new_cache(2, size)


@pytest.mark.parametrize("tokens", [-1, 3, 1.0, True])
def test_a_cache_cannot_be_cut_to_what_it_does_not_hold(tokens):
    layer = layer_of()
    cache = layer.new_cache(2, 4)
    layer.step(torch.randn(2, 2, 16), cache)
    with pytest.raises(BadInput, match=r"can be cut to 0\.\.2"):
        cache.truncate(tokens)


def test_a_cache_keeps_no_layer_alive():
    layer = layer_of()
    cache = layer.new_cache(2, 4)
    del layer
    gc.collect()
    other = layer_of()
    with pytest.raises(BadInput, match="another layer"):
        other.step(torch.randn(2, 1, 16), cache)


@pytest.mark.parametrize("name", ["QKV", "QKK", "XKX", "QKV/kv2", "XXX"])
def test_what_is_kept_as_keys_and_values_is_never_copied(name):
    layer = layer_of(name)
    cache = layer.new_cache(2, 4)
    x = torch.randn(2, 3, 16)
    layer.step(x, cache)
    k, v = cache.recall(layer, layer.design, Span(1, 3))
    held = {store.untyped_storage().data_ptr() for store in cache._stores.values()}
    assert {part.untyped_storage().data_ptr() for part in (k, v)} == held
    wanted = layer.projections.recall(layer.remember(x))
    torch.testing.assert_close((k, v), tuple(part[..., 1:, :] for part in wanted))


def test_one_token_reads_no_mask_and_a_window_reads_only_its_tokens(monkeypatch):
    seen, original = [], F.scaled_dot_product_attention

    def watched(q, k, v, **kwargs):
        seen.append((k.shape[-2], kwargs["attn_mask"]))
        return original(q, k, v, **kwargs)

    monkeypatch.setattr(F, "scaled_dot_product_attention", watched)
    layer = layer_of(Near(parse("QKV")))
    cache = layer.new_cache(2, 9)
    for _ in range(5):
        layer.step(torch.randn(2, 1, 16), cache)
    assert seen == [(n, None) for n in (1, 2, 3, 3, 3)]


@pytest.mark.parametrize("design", examples().values(), ids=str)
def test_bf16_decodes_near_its_own_forward(design):
    layer = Attention(design, d_model=32, heads=4).bfloat16()
    x = torch.randn(2, 6, 32, dtype=torch.bfloat16)
    cache = layer.new_cache(2, 6)
    got = torch.cat([layer.step(x[:, i : i + 1], cache) for i in range(6)], 1)
    torch.testing.assert_close(got, layer(x, causal=True), rtol=0.05, atol=0.05)
