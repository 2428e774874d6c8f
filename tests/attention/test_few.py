"""Few rows times a matrix by the layer's own kernel, and a prepared layer's steps by it: as with the matrix itself."""

import copy
import functools

import pytest
import torch
from torch import nn

from qkvlab import Attention
from qkvlab.attention import few, prepared
from qkvlab.kernels import kernel


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def gap(rows, depth, columns):
    """The error by that of a product in float32."""
    x, matrix = draw(rows, depth), draw(depth, columns, seed=1)
    exact = x.double() @ matrix.double()
    torch.use_deterministic_algorithms(True)  # what nobody writes is NaN, not what lay there before
    try:
        made = few.Few(matrix).times(x)
    finally:
        torch.use_deterministic_algorithms(False)
    assert made.shape == exact.shape and made.dtype == torch.float32
    return ((made - exact).square().mean() / ((x @ matrix) - exact).square().mean()).sqrt().item()


ROWS = [1, 2, 3, 4, 7, 8, 9, 16, few.MOST]


@pytest.mark.parametrize("columns", [1, 47, 48, 49, 300])
@pytest.mark.parametrize("rows", ROWS)
def test_products_are_those_of_the_matrix(rows, columns):
    assert gap(rows, 700, columns) < 2


def test_long_sums_stay_exact():
    assert gap(8, 20000, 48) < 2


def test_more_rows_and_other_types_are_left_to_pytorch():
    x, matrix = draw(few.MOST + 1, 300), draw(300, 128, seed=1)
    made = few.Few(matrix)
    torch.testing.assert_close(made.times(x), x @ matrix)
    with torch.autocast("cpu", torch.bfloat16):
        assert made.times(x[:3]).dtype == torch.bfloat16
    assert not few.pays(matrix.bfloat16()) and not few.pays(matrix.double()) and not few.pays(matrix[:, :8])
    assert not few.pays(torch.empty(512, 512, device="meta"))


@pytest.mark.parametrize("threads", [1, 3])
def test_strided_rows_and_many_threads(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        x, matrix = draw(400, 5).T, draw(100, 400, seed=1).T
        torch.testing.assert_close(few.Few(matrix).times(x), x @ matrix, rtol=1e-4, atol=1e-4)
    finally:
        torch.set_num_threads(before)


PLANTED = {
    "the last columns are left out": ("(columns + COLUMNS - 1) / COLUMNS", "columns / COLUMNS"),
    "the last rows are left out": ("for (; r < rows; r++)", "for (; false;)"),
    "sums end early": ("std::min(begin + DEPTH, depth)", "std::min(DEPTH, depth)"),
    "rows are mixed up": ("x + r * depth", "x + (r ? r - 1 : 0) * depth"),  # none beyond the first or last
    "one long sum": ("constexpr int64_t DEPTH = 128", "constexpr int64_t DEPTH = 1 << 30"),
}


@pytest.mark.parametrize("bug", PLANTED)
def test_planted_bugs_are_seen(bug, monkeypatch, tmp_path):
    right, wrong = PLANTED[bug]
    source = (kernel._FOLDER / "rows.cpp").read_text()
    assert right in source
    (tmp_path / "rows.cpp").write_text(source.replace(right, wrong))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kernel, "compiled", functools.cache(kernel.compiled.__wrapped__))
    monkeypatch.setattr(kernel, "_FOLDER", tmp_path)
    assert not all(each < 2 for each in (gap(9, 700, 300), gap(3, 700, 49), gap(8, 200000, 24)))  # NaN is caught, too


def test_shorter_vectors_compute_the_same(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kernel, "compiled", functools.cache(kernel.compiled.__wrapped__))
    monkeypatch.setattr(kernel, "_FLAGS", (*(flag for flag in kernel._FLAGS if "march" not in flag), "-march=haswell"))
    assert few.Few(draw(300, 100)).times(draw(7, 300)).shape == (7, 100)
    assert max(gap(7, 700, 100), gap(few.MOST, 300, 25)) < 2


@pytest.fixture
def taken(monkeypatch):
    """Every product of the kernel: rows and columns."""
    calls, times = [], few.Few.times

    def watched(self, x):
        made = times(self, x)
        calls.append(tuple(made.shape))
        return made

    monkeypatch.setattr(few.Few, "times", watched)
    return calls


def stepped(layer, x, cache, begin):
    return torch.cat([layer.step(x[:, at : at + 1], cache) for at in range(begin, x.shape[1])], 1)


@pytest.mark.parametrize("name", ["QKV", "QQQ", "QKV/kv2/rope", "QKV/rank64", "QKV/bias", "MLA64/rope32", "XXV", "XXX"])
def test_steps_take_it(name, taken):
    torch.manual_seed(0)
    layer = Attention(name, d_model=256, heads=4)
    x = draw(2, 9, 256)
    want = layer(x, causal=True)
    cache = layer.prepare().new_cache(2, 9)
    layer.step(x[:, :4], cache)
    assert not taken, "the first tokens of a text are many"
    torch.testing.assert_close(stepped(layer, x, cache, 4), want[:, 4:], rtol=1e-5, atol=2e-6)
    assert len(taken) == 5 * (1 if name == "XXX" else 2) and {rows for rows, _ in taken} == {2}
    cache.truncate(4)
    torch.testing.assert_close(layer.step(x[:, 4:], cache), want[:, 4:], rtol=1e-5, atol=2e-6)


def test_layers_as_they_come_and_other_processors_do_not(taken, monkeypatch):
    x = draw(2, 4, 256)
    layer = Attention("QKV", d_model=256, heads=4)
    want = stepped(layer, x, cache := layer.new_cache(2, 4), 0)
    assert not taken
    cache.truncate(1)  # what is prepared is made anew when the layer is prepared
    torch.testing.assert_close(stepped(layer.prepare(), x, cache, 1), want[:, 1:], rtol=1e-5, atol=2e-6)
    assert len(taken) == 6
    monkeypatch.setattr(kernel, "is_known", lambda: False)
    torch.testing.assert_close(stepped(layer, x, layer.new_cache(2, 4), 0), want, rtol=1e-5, atol=2e-6)
    assert len(taken) == 6


def write_in_place(layer):
    with torch.no_grad():
        layer.out.weight.mul_(2)


def take_another(layer):
    layer.out.weight = nn.Parameter(2 * layer.out.weight.detach())


def take_another_module(layer):
    out = nn.Linear(256, 256, bias=False)
    out.weight = nn.Parameter(2 * layer.out.weight.detach())
    layer.out = out


def watch(layer):
    layer.out.register_forward_hook(lambda module, given, made: 2 * made)


def compute_it(layer):
    nn.utils.parametrize.register_parametrization(layer.out, "weight", Twice())


class Twice(nn.Module):
    def forward(self, x):
        return 2 * x


CHANGES = [write_in_place, take_another, take_another_module, watch, compute_it]


def outputs_follow(change, name):
    """What is done to W_O between two steps is seen."""
    torch.manual_seed(0)
    layer = Attention(name, d_model=256, heads=4).prepare()
    x = draw(2, 3, 256)
    cache = layer.new_cache(2, 3)
    want = stepped(layer, x, cache, 0)[:, 2:]
    cache.truncate(2)
    change(layer)
    torch.testing.assert_close(layer.step(x[:, 2:], cache), 2 * want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["QKV", "MLA64/rope32"])
def test_changes_of_the_last_matrix_are_seen(name, change):
    outputs_follow(change, name)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["QKV", "MLA64/rope32"])
def test_a_layer_that_looks_at_nothing_is_caught(name, change, monkeypatch):
    monkeypatch.setattr(prepared.Prepared, "stands", lambda self, layer, design: True)
    with pytest.raises(AssertionError):
        outputs_follow(change, name)


def test_a_cache_can_be_copied_between_steps():
    layer = Attention("QKV", d_model=256, heads=4).prepare()
    x = draw(2, 4, 256)
    cache = layer.new_cache(2, 4)
    stepped(layer, x[:, :3], cache, 0)
    other = copy.deepcopy(cache)
    assert torch.equal(layer.step(x[:, 3:], other), layer.step(x[:, 3:], cache)) and len(other) == len(cache) == 4


def test_a_bias_is_added():
    layer = Attention("QKV/bias", d_model=256, heads=4).prepare()
    nn.init.normal_(layer.out.bias)
    x = draw(1, 3, 256)
    torch.testing.assert_close(
        stepped(layer, x, layer.new_cache(1, 3), 0), layer(x, causal=True).detach(), rtol=1e-5, atol=2e-6
    )
