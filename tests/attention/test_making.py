"""q, k and v in the fewest passes: the same numbers as by the recipe, of the weights as they are at that moment."""

import pytest
import torch
from writing import assigned, given_other_data, loaded, optimised, written_in_place, written_through_data

from qkvlab.attention.direct import Cut, X, cut
from qkvlab.contracts import Dims
from qkvlab.designs import examples, parse
from qkvlab.designs.rotation import read
from qkvlab.designs.ways import PATTERNS
from qkvlab.testing import sizes
from qkvlab.testing.sizes import attention, tokens

DIMS = Dims(d_model=12, heads=2, d_head=6, d_value=6)


def test_what_is_cut():
    assert cut(parse("QKX"), DIMS) == Cut((("q", 2), ("k", 2), (X, 2)), ("q", "k"), "q")
    assert cut(parse("QKK/kv1"), DIMS) == Cut((("q", 2), ("k", 1), ("k", 1)), ("q", "k"), "q")
    assert all(cut(parse(name), DIMS) for name in (*PATTERNS, "QKV/kv1", "QKV/window3", "QKV/alibi", "frozen"))
    assert not any(cut(parse(name), DIMS) for name in ("QKV/rope", "QKV/rank3", "QKV/bias", "QKV/sin", "MLA5", "QMQ"))


@pytest.mark.parametrize("route", ["plain", "fused"])
@pytest.mark.parametrize("design", examples().values(), ids=str)
def test_nothing_but_numbers(design, route):
    """Without gradients q, k and v are made by other calls: the same numbers, also of one text and of turned axes."""
    dims = sizes(design)
    layer = attention(design, dims, route=route)
    x = tokens(dims, 13)
    for given in (x, x[0], x.swapaxes(0, 1).contiguous().swapaxes(0, 1), x[:, :0], x[None].repeat(3, 1, 1, 1)):
        wanted = layer(given, causal=True).detach()
        with torch.no_grad():
            torch.testing.assert_close(layer(given, causal=True), wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["QKV", "QKK", "QQV", "XKV", "XXX", "QKV/kv2", "QKV/sink", "MLA5"])
@pytest.mark.parametrize("count", [40, 200])
def test_nothing_but_numbers_in_bf16(name, count, monkeypatch):
    design = parse(name)
    layer = attention(design, DIMS).bfloat16()
    x = tokens(DIMS, count).bfloat16()
    other = layer(x, causal=True).detach().double()
    joined, original = [], torch.cat
    monkeypatch.setattr(torch, "cat", lambda *args: (joined.append(args), original(*args))[1])
    with torch.no_grad():
        got = layer(x, causal=True).double()
    found = cut(design, DIMS)
    several = found is not None and len(found.matrices) > 1
    wide = several and count * x.shape[0] > sum(layer.projections.weights[name].shape[1] for name in found.matrices)
    narrow = found is None and count * x.shape[0] >= DIMS.d_model  # whatever makes latents, from so many tokens on
    assert bool(joined) == (wide or narrow)
    exact = layer.double()(x.double(), causal=True)
    assert (got - exact).abs().max() <= 2 * (other - exact).abs().max()


@pytest.mark.parametrize("options", ["", "-first4", "-interleaved", "-interleaved-first4", "-interleaved-yarn-by4-of8"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_every_way_of_turning_is_one(options, dtype):
    """In place without gradients, as complex numbers where pairs lie at even places, as the plain formula elsewhere."""
    rotation, positions = read(options), torch.tensor([3, 0, 900, 7])
    odd = tokens(DIMS, 8).flatten()[: 2 * 3 * 4 * 7].reshape(2, 3, 4, 7).to(dtype)
    wanted = rotation.turn(odd[..., 1:].double().numpy(), positions.numpy())
    for heads in (odd[..., 1:], odd[..., 1:].clone(), odd.swapaxes(1, 2).contiguous().swapaxes(1, 2)[..., 1:]):
        before = heads.clone()
        for records in (False, True):
            with torch.set_grad_enabled(records):
                got = rotation.turn(heads, positions)
            assert got.dtype == dtype and (heads == before).all()
            rounding = 4 * torch.finfo(dtype).eps * abs(wanted).max()
            torch.testing.assert_close(got.double(), torch.as_tensor(wanted), rtol=0, atol=rounding)


@pytest.mark.parametrize(
    "change",
    [written_in_place, written_through_data, given_other_data, optimised, loaded, assigned],
    ids=lambda change: change.__name__,
)
def test_weights_are_read_at_every_call(change):
    layer, x = attention(parse("QKV"), DIMS), tokens(DIMS, 13)
    with torch.no_grad():
        before = layer(x)
        change(layer)
        after = layer(x)
        fresh = attention(parse("QKV"), DIMS)
        fresh.load_state_dict(layer.state_dict())
        torch.testing.assert_close(after, fresh(x), rtol=0, atol=0)
        assert not torch.allclose(before, after)


def test_weights_of_a_functional_call_are_read():
    layer, x = attention(parse("QKV"), DIMS), tokens(DIMS, 13)
    other = {name: 2 * weight for name, weight in layer.state_dict().items()}
    fresh = attention(parse("QKV"), DIMS)
    fresh.load_state_dict(other)
    with torch.no_grad():
        before = layer(x)
        torch.testing.assert_close(torch.func.functional_call(layer, other, (x,)), fresh(x), rtol=0, atol=0)
        torch.testing.assert_close(layer(x), before, rtol=0, atol=0)
