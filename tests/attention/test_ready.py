"""A prepared layer: the same numbers from fewer products, of the weights as they are, and nothing else changes."""

import copy
import io

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from writing import assigned, given_other_data, loaded, optimised, replaced, written_in_place, written_through_data

from qkvlab import Attention
from qkvlab.attention import following, ready
from qkvlab.contracts import Dims
from qkvlab.designs import examples, parse
from qkvlab.testing import sizes
from qkvlab.testing.sizes import attention, tokens

DIMS = Dims(d_model=12, heads=2, d_head=6, d_value=6)


@pytest.fixture
def taken(monkeypatch):
    """How often a prepared layer made q, k and v."""
    seen, original = [], ready.Ready.make
    monkeypatch.setattr(ready.Ready, "make", lambda self, x, at: (seen.append(x.shape), original(self, x, at))[1])
    return seen


@pytest.mark.parametrize("route", ["plain", "fused"])
@pytest.mark.parametrize("design", examples().values(), ids=str)
def test_the_same_numbers(design, route, taken):
    dims = sizes(design)
    layer = attention(design, dims, route=route)
    x = tokens(dims, 13)
    for given in (x, x[0], x.swapaxes(0, 1).contiguous().swapaxes(0, 1), x[:, :0], x[None].repeat(3, 1, 1, 1)):
        at = torch.arange(given.shape[-2]).flip(0)
        for options in ({"causal": True}, {"positions": at}, {"causal": "top-left", "positions": at}):
            wanted = layer(given, **options).detach()
            with torch.no_grad():
                got = copy.deepcopy(layer).prepare()(given, **options)
            torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)
    assert len(taken) == 15


@pytest.mark.parametrize("name", ["QKV", "QQV", "QKK", "XKV", "XXX", "QKV/kv1", "QKV/rank3", "MLA5/rope2", "QKK/rope"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_as_exact_in_other_precisions(name, dtype):
    layer = attention(parse(name), DIMS).to(dtype)
    x = tokens(DIMS, 300).to(dtype)
    with torch.no_grad():
        other, got = layer(x, causal=True).double(), layer.prepare()(x, causal=True).double()
    exact = layer.double()(x.double(), causal=True)
    assert (got - exact).square().mean() <= 1.2 * (other - exact).square().mean()


class Products(TorchDispatchMode):
    """Counts products of matrices."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("name", "count"), [("QKV", 1), ("QQQ", 1), ("XXX", 0), ("QKV/rank3", 4), ("QKV/rope", 1), ("MLA5/rope2", 3)]
)
def test_x_is_multiplied_once(name, count):
    layer, x = attention(parse(name), DIMS).prepare(), tokens(DIMS, 13)
    with torch.no_grad(), Products() as products:
        layer(x, causal=True)
    assert products.count == count + 1, "and once more by W_O"


def test_rows_of_products_do_not_stand_whole_kilobytes_apart():
    layer, x = Attention("QKV", d_model=128, heads=2).double(), torch.randn(2, 7, 128, dtype=torch.float64)
    with torch.no_grad():
        q, k, v, _ = ready.Ready(layer).make(x, None)
        assert {part.stride() for part in (q, k, v)} == {(7 * 392, 64, 392, 1)}
        torch.testing.assert_close(v.transpose(1, 2).flatten(2), x @ layer.projections.v)
        wanted = layer(x)
        torch.testing.assert_close(layer.prepare()(x), wanted)


def written_through_data_and_prepared(layer):
    written_through_data(layer)
    layer.prepare()


CHANGES = (
    *(written_in_place, given_other_data, optimised, loaded, assigned, replaced),
    written_through_data_and_prepared,
)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_weights_are_read_anew(change):
    layer, x = attention(parse("QKV"), DIMS).prepare(), tokens(DIMS, 13)
    with torch.no_grad():
        before = layer(x)
        change(layer)
        after = layer(x)
        fresh = attention(parse("QKV"), DIMS)
        fresh.load_state_dict(layer.state_dict())
        torch.testing.assert_close(after, fresh(x), rtol=1e-10, atol=1e-10)
        assert not torch.allclose(before, after)


@pytest.mark.parametrize("change", CHANGES[:-1], ids=lambda change: change.__name__)
def test_a_layer_that_does_not_look_is_caught(change, monkeypatch):
    monkeypatch.setattr(following.Followed, "stands", lambda self, layer: True)
    with pytest.raises(AssertionError):
        test_weights_are_read_anew(change)


def test_weights_of_a_functional_call_are_read():
    layer, x = attention(parse("QKV"), DIMS).prepare(), tokens(DIMS, 13)
    other = {name: 2 * weight for name, weight in layer.state_dict().items()}
    fresh = attention(parse("QKV"), DIMS)
    fresh.load_state_dict(other)
    with torch.no_grad():
        before = layer(x)
        got = torch.func.functional_call(layer, other, (x,))
        torch.testing.assert_close(got, fresh(x), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(layer(x), before, rtol=0, atol=0)


def test_only_where_numbers_are_all_that_is_asked_for(taken):
    layer, x = attention(parse("QKV"), DIMS).prepare(), tokens(DIMS, 13)
    wanted = attention(parse("QKV"), DIMS)(x)
    assert torch.equal(layer(x), wanted) and layer(x).requires_grad
    layer.trace(x)
    with torch.no_grad():
        torch.compile(layer, fullgraph=True, backend="eager")(x)
        torch.func.vmap(layer)(x[None])
        layer.trace(x), layer(x, layer.remember(x))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            layer(x)
        layer.dropout = 0.5
        layer(x)
        assert taken == []
        layer.eval()(x)
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), wanted, rtol=1e-10, atol=1e-10)
    assert len(taken) == 2


def test_weights_made_in_inference_mode_cannot_be_followed(taken):
    with torch.inference_mode():
        layer, x = attention(parse("QKV"), DIMS).prepare(), tokens(DIMS, 13)
        before = layer(x)
        layer.projections.v.mul_(2)
        torch.testing.assert_close(layer(x), 2 * before)
    assert taken == []


def test_copies_and_files_hold_no_more():
    layer, x = attention(parse("QKV"), DIMS), tokens(DIMS, 13)
    files = [io.BytesIO(), io.BytesIO()]
    torch.save(layer, files[0])
    names = list(layer.prepare().state_dict())
    with torch.no_grad():
        wanted = layer(x)
        torch.save(layer, files[1])
        assert list(layer.state_dict()) == names
        assert files[1].tell() < files[0].tell() + 1000
        other = copy.deepcopy(layer)
        other.projections.q.mul_(2)
        assert torch.equal(layer(x), wanted) and not torch.allclose(other(x), wanted)
        files[1].seek(0)
        assert torch.equal(torch.load(files[1], weights_only=False)(x), wanted)
