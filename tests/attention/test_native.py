"""The route of the layer's own kernel does what the explaining one does, for every design, and is really taken."""

from __future__ import annotations

import dataclasses
import functools
import math
import shutil

import pytest
import torch
from torch.func import functional_call, grad, vmap

from qkvlab import Attention
from qkvlab.attention import core, native
from qkvlab.attention.scoring import Scoring
from qkvlab.attention.visible import Visible
from qkvlab.designs import examples
from qkvlab.kernels import kernel
from qkvlab.testing.sizes import attention, sizes, tokens

COUNT = 15
"""Tokens: a multiple of nothing that the kernel is built of."""
LENGTHS = torch.tensor([7, COUNT])
OPTIONS = {
    "all": {},
    "causal": {"causal": True},
    "lengths": {"padding": LENGTHS},
    "flags": {"causal": True, "padding": torch.arange(COUNT) >= torch.tensor([[3], [0]])},
    "mask": {"mask": torch.ones(COUNT, COUNT, dtype=torch.bool).triu(-1)},
}


@pytest.fixture
def from_one(monkeypatch):
    """Sequences of any length are long enough."""
    monkeypatch.setattr(native, "SHORTEST", 1)


@pytest.fixture
def taken(monkeypatch):
    """Every call of the kernel, forward."""
    calls, forward = [], native.attend

    def watched(*args, **kwargs):
        calls.append(kwargs)
        return forward(*args, **kwargs)

    monkeypatch.setattr(native, "attend", watched)
    return calls


def values_and_gradients(layer, x, options):
    layer.zero_grad()
    x = x.clone().requires_grad_()
    out = layer(x, **options)
    out.square().sum().backward()
    named = {name: p.grad.clone() for name, p in layer.named_parameters() if p.grad is not None}
    return {"output": out.detach(), "x": x.grad, **named}


def gap(design, options, dtype=torch.float32, route="native"):
    """Return the largest difference from the explaining route, by the largest number of a tensor."""
    dims, found = sizes(design), []
    for name in (route, "plain"):
        layer = attention(design, dims, dtype=dtype)
        layer.route = name
        found.append(values_and_gradients(layer, tokens(dims, COUNT, dtype=dtype), options))
    assert found[0].keys() == found[1].keys()
    largest = max(float(w.abs().max()) for name, w in found[1].items() if name != "output")
    gaps = [
        float((found[0][name] - w).abs().max() / w.abs().max().clamp(min=0.01 * largest))
        for name, w in found[1].items()
    ]  # some gradients are 0 in truth, such as that of a key's bias
    return math.inf if any(map(math.isnan, gaps)) else max(gaps)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("design", examples().values(), ids=str)
def test_every_design_under_every_mask(design, options, from_one, taken):
    assert gap(design, options) < 2e-5
    fusible = attention(design).scoring().fusible
    assert bool(taken) == fusible, "what the kernel cannot do goes the explaining way, and nothing else"


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def seen(t, s, causal=False, shift=0, window=None):
    """Booleans (t, s): what the arguments of the kernel mean."""
    back = torch.arange(t)[:, None] + shift - torch.arange(s)
    near = torch.ones(t, s, dtype=torch.bool) if window is None else back.abs() < window
    return near & (back >= 0) if causal else near


def naive(q, k, v, allowed, root):
    k, v = (x.repeat_interleave(q.shape[-3] // x.shape[-3], -3) for x in (k, v))
    weights = (q @ k.mT / root).masked_fill(~allowed, -math.inf).softmax(-1).nan_to_num(0.0)
    return weights @ v


def errors(shapes, dtype, *, allowed=None, attend=None, **reach):
    """Errors of the kernel and of naive code, against float64: of the output and the gradients of q, k, v."""
    b, h, g, u, t, s, c, e = shapes
    given = [draw(b, *shape, seed=i) for i, shape in enumerate([(h, t, c), (g, s, c), (u, s, e), (h, t, e)])]
    found = []
    for kind in (torch.float64, dtype, None):
        q, k, v, slope = (x.to(dtype).to(kind or dtype).requires_grad_() for x in given)
        if kind is None:
            out = (attend or native.attend)(q, k, v, allowed, root=2.0, **reach)
        else:
            out = naive(q, k, v, seen(t, s, **reach) & (True if allowed is None else allowed), 2.0)
        found.append([x.double().detach() for x in (out, *torch.autograd.grad(out, (q, k, v), slope))])
    truth, plain, kernel = found
    scale = [float(x.abs().max()) for x in truth]
    return [[float((a - b).abs().max()) / s for a, b, s in zip(x, truth, scale, strict=True)] for x in (kernel, plain)]


SHAPES = {
    "square": (3, 4, 4, 4, 64, 64, 16, 16),
    "odd": (2, 4, 2, 4, 33, 33, 5, 7),
    "groups": (2, 4, 2, 1, 32, 32, 24, 40),
    "one head each": (1, 6, 1, 1, 25, 25, 8, 16),
    "long": (1, 2, 1, 2, 256, 256, 64, 32),
    "wide": (1, 2, 2, 2, 24, 24, 128, 128),
    "blocks": (1, 2, 2, 1, 600, 600, 16, 24),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
def test_errors_are_those_of_naive_code(shapes, causal, dtype):
    kernel, plain = errors(shapes, dtype, causal=causal)
    # naive code rounds the weights to bf16 as well; in fp32 single roundings of a few numbers decide
    limit = 1.5 if dtype == torch.bfloat16 else 4.0
    assert all(a <= max(limit * b, 1e-6) for a, b in zip(kernel, plain, strict=True)), (kernel, plain)


# lengths around what vectors, tiles, panels and blocks hold
EDGES = sorted(n + d for n in (8, 16, 32, 64, 256, 512) for d in (-1, 0, 1))


@pytest.mark.parametrize("count", [2, *EDGES, 1100])
@pytest.mark.parametrize("reach", [{}, {"causal": True}, {"causal": True, "window": 37}, {"window": 20}], ids=str)
def test_lengths_around_the_edges_of_blocks(count, reach):
    kernel, _ = errors((1, 2, 1, 2, count, count, 8, 8), torch.float32, **reach)
    assert max(kernel) < 5e-6


@pytest.mark.parametrize("counts", [(29, 40), (40, 29), (3, 700), (700, 3), (300, 530)], ids=str)
@pytest.mark.parametrize("reach", [{}, {"causal": True}, {"causal": True, "window": 50}, {"window": 9}], ids=str)
@pytest.mark.parametrize("aligned", [False, True])
def test_queries_and_keys_may_differ_in_number_and_place(counts, reach, aligned):
    shift = counts[1] - counts[0] if aligned else 0  # below 0 the first queries see nothing under causality
    kernel, _ = errors((2, 2, 2, 2, *counts, 8, 8), torch.float32, shift=shift, **reach)
    assert max(kernel) < 5e-6


@pytest.mark.parametrize("shapes", [(2, 6, 2, 3, 70, 70, 8, 8), (1, 1, 1, 1, 600, 600, 8, 8)], ids=["many", "one head"])
def test_threads_share_heads_and_change_nothing(shapes, threads):
    alone = []
    for count in (1, threads):
        torch.set_num_threads(count)
        found = []

        def kept(*args, found=found, **how):
            found.append(native.attend(*args, **how))
            return found[0]

        kernel, _ = errors(shapes, torch.float32, causal=True, attend=kept)
        assert max(kernel) < 5e-6
        alone.append(found[0])
    assert torch.equal(*alone)


def test_long_texts_keep_nothing_of_queries_times_keys():
    watching = torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU])
    layer, x = Attention("QKV/window64", d_model=16, heads=2, route="native"), draw(1, 2048, 16).requires_grad_()
    with watching as seen:
        layer(x, causal=True).sum().backward()
    largest = max(event.cpu_memory_usage for event in seen.events())
    assert 2048 * 16 * 4 <= largest < 2048 * 2048


def test_masks_of_any_shape_and_rows_that_see_nothing():
    t = 31
    for shape in [(t,), (t, t), (2, 1, t, t), (2, 4, t, t), (4, 1, t), (1, 1, t, 1)]:
        allowed = draw(*shape, seed=5) > 0.3
        kernel, _ = errors((2, 4, 2, 4, t, t, 8, 8), torch.float32, allowed=allowed)
        assert max(kernel) < 5e-6, shape


def test_huge_scores_are_finite_and_nan_stays_where_it_is():
    q, k, v = (draw(1, 2, 32, 8, seed=i) for i in range(3))
    out = native.attend(q * 1e18, k * 1e18, v, None, causal=True, root=1.0)
    assert bool(out.isfinite().all())
    q[0, 1, 5] = math.nan
    out = native.attend(q, k, v, None, causal=True, root=1.0)
    assert bool(out[0, 1, 5].isnan().all()) and int(out.isnan().sum()) == 8
    v[0, 0, 31, 0] = math.nan
    out = native.attend(q, k, v, None, causal=True, root=1.0)
    assert not out[0, 0, :, 1:].isnan().any() and int(out[0, 1].isnan().sum()) == 8, "in its own head and channel"


def test_models_at_once_and_heads_where_they_lie():
    layer = Attention("QKV/kv2", d_model=24, heads=4, route="native")
    weights = {name: draw(3, *p.shape, seed=i) for i, (name, p) in enumerate(layer.named_parameters())}
    x = draw(3, 2, 32, 24, seed=9)

    def loss(weights, x):
        return functional_call(layer, weights, (x,), {"causal": True}).square().sum()

    many = vmap(grad(loss))(weights, x)
    for i in range(3):
        alone = grad(loss)({name: w[i] for name, w in weights.items()}, x[i])
        for name in alone:
            torch.testing.assert_close(many[name][i], alone[name], rtol=1e-6, atol=1e-5)


def test_second_derivatives_are_refused():
    q = draw(1, 1, 32, 8).requires_grad_()
    out = native.attend(q, q, q, causal=True, root=2.0)
    (slope,) = torch.autograd.grad(out.sin().sum(), q, create_graph=True)
    with pytest.raises(NotImplementedError, match="plain"):
        slope.sum().backward()


def test_few_tokens_and_float64_go_the_explaining_way(taken):
    layer = Attention("QKV", d_model=8, heads=2, route="native")
    layer(draw(1, native.SHORTEST - 1, 8), causal=True)
    layer.double()(draw(1, 32, 8).double(), causal=True)
    assert not taken


BOTH = {"padding": torch.tensor([300, 299]), "mask": torch.ones(300, 300, dtype=torch.bool).triu(-9)}


@pytest.mark.parametrize("name", ["QKV/window40", "QKV/kv1/rope", "QKV/noself", "QKV/sink"])
@pytest.mark.parametrize("options", [{"causal": True}, {}, BOTH], ids=["causal", "all", "padding and mask"])
def test_long_texts(name, options, taken):
    found = []
    for route in ("native", "plain"):
        torch.manual_seed(0)
        layer = Attention(name, d_model=16, heads=2, route=route)
        found.append(values_and_gradients(layer, draw(2, 300, 16), options))
    for part, want in found[1].items():
        torch.testing.assert_close(found[0][part], want, rtol=1e-4, atol=1e-4)
    native_does = name in ("QKV/window40", "QKV/kv1/rope") and "padding" not in options
    assert bool(taken) == native_does, "what would need a mask for each sequence goes the fast way, in blocks"


@pytest.mark.parametrize("name", ["QKV", "QKV/kv1/window20"])
def test_packed_texts_and_chunks_of_steps(name, taken):
    layer = Attention(name, d_model=16, heads=2, route="native")
    x = draw(2, 60, 16)
    want = layer(x, causal=True)
    taken.clear()
    torch.testing.assert_close(layer(x.flatten(0, 1), packed=(60, 60), causal=True).reshape(want.shape), want)
    cache = layer.new_cache(2, 60)
    torch.testing.assert_close(torch.cat([layer.step(x[:, :30], cache), layer.step(x[:, 30:], cache)], 1), want)
    assert len(taken) == 3


@pytest.fixture
def steps(monkeypatch):
    """Shapes of the keys of every call of the kernel by one query of each head."""
    calls, once = [], native.attend_once

    def watched(q, k, v, root):
        calls.append(tuple(k.shape))
        return once(q, k, v, root)

    monkeypatch.setattr(native, "attend_once", watched)
    return calls


DECODED = ("QKV", "QKK", "QKV/kv1", "QKV/kv2/rope", "QKV/window150", "XXV", "MLA16/rope16", "QKV/qknorm")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", DECODED)
def test_steps_of_prepared_layers(name, dtype, steps):
    torch.manual_seed(0)
    layer = Attention(name, d_model=64, heads=4).to(dtype)
    x = draw(2, 300, 64).to(dtype)
    want = layer(x, causal=True)[:, -3:]
    cache = layer.prepare().new_cache(2, 300)
    layer.step(x[:, :297], cache)
    found = torch.cat([layer.step(x[:, at : at + 1], cache) for at in range(297, 300)], 1)
    torch.testing.assert_close(found, want, rtol=0, atol=2e-6 if dtype == torch.float32 else 2e-2)
    seen = [150] * 3 if "window" in name else [298, 299, 300]
    assert [shape[-2] for shape in steps] == seen


@pytest.mark.parametrize("sizes", [(16, 16), (48, 80)], ids=str)
@pytest.mark.parametrize("groups", [1, 2, 3, 6, 12])
@pytest.mark.parametrize("count", [1, 15, 16, 127, 128, 129, 700])
def test_one_query_of_each_head(count, groups, sizes, threads):
    c, e = sizes
    q, k, v = draw(2, 12, 1, c), draw(2, groups, count, c, seed=1), draw(2, groups, count, e + 16, seed=2)
    k, v = k.transpose(1, 2).contiguous().transpose(1, 2), v[..., :e]  # heads lie anyhow
    want = naive(q.double(), k.double(), v.double(), torch.ones(1, count, dtype=torch.bool), 3.0)
    torch.testing.assert_close(native.attend_once(q, k, v, 3.0).double(), want, rtol=0, atol=2e-6)


def test_one_query_with_huge_scores_or_nan():
    q, k, v = (draw(1, 2, n, 16, seed=i) for i, n in enumerate((1, 200, 200)))
    assert native.attend_once(q * 1e18, k * 1e18, v, 1.0).isfinite().all()
    v[0, 1, 150, 3] = math.nan
    out = native.attend_once(q, k, v, 1.0)
    assert int(out.isnan().sum()) == 1 and out[0, 1, 0, 3].isnan()
    k[0, 0, 5, 5] = math.nan
    assert native.attend_once(q, k, v, 1.0)[0, 0].isnan().all()


@pytest.mark.parametrize(
    "shapes", [{"c": 8}, {"e": 24}, {"c": 272, "e": 272}, {"u": 1}, {"t": 2}, {"dtype": torch.float64}]
)
def test_what_does_not_fit_one_query_goes_elsewhere(shapes):
    sizes = {"c": 16, "e": 16, "g": 2, "u": 2, "t": 1, "dtype": torch.float32} | shapes
    q, k, v = (
        torch.zeros(1, sizes.get(h, 4), sizes["t"] if h == "h" else 9, sizes[c], dtype=sizes["dtype"])
        for h, c in (("h", "c"), ("g", "c"), ("u", "e"))
    )
    assert not native.fits_once(q, k, v)


@pytest.fixture
def nothing_compiled(monkeypatch, tmp_path):
    """As in a process that begins, of a user who begins; returns the folder of kernels."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("compiled", "works"):  # each keeps what it found, which is no longer so
        monkeypatch.setattr(kernel, name, functools.cache(getattr(kernel, name).__wrapped__))
    return tmp_path / "qkvlab" / "kernels"


def test_without_a_compiler_the_message_says_so(monkeypatch, nothing_compiled):
    monkeypatch.setattr(kernel, "compiler", lambda: None)
    with pytest.raises(kernel.NoCompiler, match="CXX"):
        Attention("QKV", d_model=8, route="native")(draw(1, 32, 8))
    monkeypatch.setattr(kernel, "compiler", lambda: shutil.which("false"))
    with pytest.raises(kernel.NoCompiler, match="false"):
        Attention("QKV", d_model=8, route="native")(draw(1, 32, 8))
    assert not nothing_compiled.exists()


def test_kernels_are_kept_on_disk_and_what_is_spoilt_is_made_again(monkeypatch, nothing_compiled):
    q = draw(1, 2, 32, 8)
    want = native.attend(q, q, q)
    (kept,) = nothing_compiled.iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(kernel, "_compile", None)  # it may not be asked
        kernel.compiled.cache_clear()
        assert torch.equal(native.attend(q, q, q), want)
    kernel.compiled.cache_clear()
    kept.unlink()  # the loaded one stays as it is
    kept.write_bytes(b"half a file")
    assert torch.equal(native.attend(q, q, q), want) and [*nothing_compiled.iterdir()] == [kept]
    for change in ({}, {"C": 9}, {"HALF": 1}):
        said = [f"-D{name}={value}" for name, value in ({"C": 8, "E": 8, "MASKED": 0, "HALF": 0} | change).items()]
        source = kernel._FOLDER / "native.cpp"
        assert (kernel._mark(source, kernel.compiler(), said) == kept.stem) == (not change)
    changed = nothing_compiled / "vectors.h"
    changed.write_text(kernel._SHARED.read_text() + "\n")
    monkeypatch.setattr(kernel, "_SHARED", changed)  # what all share is part of each
    said = ["-DC=8", "-DE=8", "-DMASKED=0", "-DHALF=0"]
    assert kernel._mark(source, kernel.compiler(), said) != kept.stem


def test_a_full_disk_leaves_no_part_of_a_kernel(monkeypatch, nothing_compiled):
    def full(made, part):
        part.write_bytes(b"half a file")
        raise OSError("No space left on device")

    monkeypatch.setattr(kernel.shutil, "copyfile", full)
    q = draw(1, 2, 32, 8)
    assert native.attend(q, q, q).isfinite().all() and not [*nothing_compiled.iterdir()]


def test_where_nothing_can_be_kept_it_is_compiled_each_time(monkeypatch, nothing_compiled, tmp_path):
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "taken"))
    q = draw(1, 2, 32, 8)
    assert native.attend(q, q, q).isfinite().all() and not nothing_compiled.exists()


def lose_the_mask(q, k, v, allowed, *, root):
    return native.attend(q, k, v, None, root=root)


def mix_up_heads(q, k, v, allowed, *, root):
    return native.attend(q, k.flip(1), v, allowed, root=root)


def forget_the_root(q, k, v, allowed, *, root):
    return native.attend(q, k, v, allowed, root=1.0)


@pytest.mark.parametrize("reach", [{"causal": True}, {"window": 70}, {"causal": True, "window": 300, "shift": 20}])
@pytest.mark.parametrize("shape", [(2, 1, 1, 600), (1, 1, 580, 600), (1, 4, 580, 600), (2, 4, 1, 600)], ids=str)
def test_masks_beside_what_follows_from_sizes(shape, reach):
    allowed = draw(*shape, seed=5) > 0.3
    allowed[..., :40] = False  # some see nothing
    kernel, plain = errors((2, 4, 2, 4, 580, 600, 8, 24), torch.float32, allowed=allowed, **reach)
    assert all(a < 2 * b + 2e-7 for a, b in zip(kernel, plain, strict=True)), (kernel, plain)


@pytest.mark.parametrize("bug", [lose_the_mask, mix_up_heads, forget_the_root])
def test_planted_bugs_are_seen(bug):
    allowed = draw(2, 1, 31, 31, seed=5) > 0.3
    kernel, _ = errors((2, 4, 2, 4, 31, 31, 8, 8), torch.float32, allowed=allowed, attend=bug)
    assert max(kernel) > 1e-2


PLANTED = {
    "heads share keys in another order": ("h / call.per_key()", "h % call.key_heads"),
    "softmax's mean is forgotten": ("(at(d + s) - middle[row + r])", "at(d + s)"),
    "only the last head of a group counts": ("if (h % call.per_value() == 0)", "if (true)"),
    "the future is seen": ("causal ? query + shift :", "causal ? query + shift + 1 :"),
    "the root counts twice": ("ones, 1 / root, queries_to", "ones, 1 / root / root, queries_to"),
    "a block in the middle is left out": ("block += KEYS)", "block += 2 * KEYS)"),
    "what earlier blocks brought keeps its scale": ("y = y * keep[r] +", "y = y +"),
    "the sum of earlier blocks keeps its scale": ("whole[r0 + r] * keep[r]", "whole[r0 + r]"),
    "a window is one key too wide": ("query + shift - window + 1)", "query + shift - window)"),
    "keys of a block start too late": ("block + s - call.shift)", "block + s - call.shift + R)"),
    "what is too far back stays from before": ("std::fill(x, x + std::min(tile.begin, here), 0.0f)", "(void)end"),
    "what is too far ahead stays from before": ("std::fill(x + end, x + here, 0.0f)", "(void)end"),
}


PLANTED_ONCE = {
    "only the first block is seen": (
        "block < asked.count; block += KEYS_ONCE",
        "block < KEYS_ONCE; block += KEYS_ONCE",
    ),
    "what earlier blocks brought keeps its scale": ("i * L) * keep[r];", "i * L);"),
    "the sum of earlier blocks keeps its scale": ("whole = whole * keep + sum", "whole = whole + sum"),
    "channels of a query are mixed up": ("r * G + c % G]", "c % G * HEADS + r]"),
    "sums of other heads are added": ("shuffled<2 * i + 1 ...>", "shuffled<(2 * i + 3) % (2 * L)...>"),
    "every other key has a largest score of its own": ("alike<Larger, HEADS>(high)", "high"),
    "half of the sum is forgotten": ("alike<Sum, HEADS>(found[i].whole)", "found[i].whole"),
    "later channels of values are left out": ("if constexpr (c + VECTORS * L < E)", "if constexpr (false)"),
    "the last queries of a group are left out": ("up(asked.heads, HEADS) / HEADS", "asked.heads / HEADS"),
    "keys beyond the last of few heads are seen": (
        "std::fill(row + count, row + up(count, L), NONE);",
        "std::fill(row + count, row + up(count, L), 0.0f);",
    ),
    "keys beyond the last of many heads are seen": (
        "up(count, ABREAST) * HEADS, NONE)",
        "up(count, ABREAST) * HEADS, 0)",
    ),
    "heads of a group are mixed up": ("asked.q + (i * HEADS + r)", "asked.q + (i * HEADS + r ^ 1)"),
}


@pytest.fixture
def plant(monkeypatch, nothing_compiled, tmp_path):
    """Change a place of the kernel's source."""

    def planted(right, wrong):
        source = (kernel._FOLDER / "native.cpp").read_text()
        changed = tmp_path / "native.cpp"
        changed.write_text(source.replace(right, wrong))
        assert changed.read_text() != source
        monkeypatch.setattr(kernel, "_FOLDER", tmp_path)

    return planted


def few_and_many_queries_of_a_group():
    for groups in (6, 3, 1):
        test_one_query_of_each_head(697, groups, (16, 80), 1)


@pytest.mark.parametrize("bug", PLANTED_ONCE)
def test_planted_bugs_of_one_query_are_seen(bug, plant):
    plant(*PLANTED_ONCE[bug])
    with pytest.raises(AssertionError):
        few_and_many_queries_of_a_group()


@pytest.mark.parametrize("bug", PLANTED)
def test_planted_bugs_in_the_kernel_are_seen(bug, plant):
    plant(*PLANTED[bug])
    causal, _ = errors((1, 4, 2, 2, 1100, 1100, 5, 7), torch.float32, causal=True, window=1030)
    near, _ = errors((1, 4, 2, 2, 600, 600, 5, 7), torch.float32, window=300)
    assert not all(each < 1e-4 for each in (*causal, *near))  # NaN is caught, too


def test_core_says_what_is_causal():
    q, k, v = (draw(1, 2, 32, 8, seed=i) for i in range(3))
    visible = Visible(shape=(1, 2, 32, 32), device=q.device, causal=True)
    want = core.attend(q, k, v, visible, Scoring(root=2.0))
    torch.testing.assert_close(core.attend_native(q, k, v, visible, Scoring(root=2.0)), want)
    assert torch.equal(
        core.attend_native(q, k, v, visible, Scoring(root=2.0)), native.attend(q, k, v, None, causal=True, root=2.0)
    )


def test_prepared_layers_take_it_where_it_pays(taken, monkeypatch):
    x = draw(2, 40, 16)
    layer = Attention("QKV", d_model=16, heads=2)
    want = values_and_gradients(layer, x, {"causal": True})
    assert not taken
    layer.prepare()
    for part, found in values_and_gradients(layer, x, {"causal": True}).items():
        torch.testing.assert_close(found, want[part], rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(layer(x, causal=True), want["output"])
    assert len(taken) == 2
    lengths, mask = torch.tensor([40, 3]), torch.ones(40, 40, dtype=torch.bool)
    for options in ({"padding": lengths}, {"mask": mask}, {"padding": lengths, "mask": mask[0]}):
        layer(x, **options)
    assert len(taken) == 5
    taken.clear()
    layer(x, padding=lengths, mask=mask)  # a mask for each sequence would have to be made
    Attention("QKV", d_model=16, heads=2, dropout=0.1).prepare()(x)
    Attention("QKV/sink", d_model=16, heads=2).prepare()(x)
    torch.export.export(layer, (x,))
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    half = x.bfloat16()
    with torch.no_grad():
        layer.bfloat16()(half)
    monkeypatch.setattr(native, "LONG", 40 * 8 - 1)
    layer(half)
    assert not taken, "what it does slower or not at all is PyTorch's"
    layer(half, causal=True)
    assert len(taken) == 1, "half of the keys are seen"


UNITS = {"all": {}, "causal": {"causal": True}, "root": {"causal": True, "root": 3.0}}


def by_units(options):
    """Errors of output and gradients by PyTorch's forward and the kernel's gradient, by the largest number of each."""
    q, k, v, slope = (draw(2, 4, 600, 32, seed=i).bfloat16() for i in range(4))
    found = []
    for dtype in (torch.bfloat16, torch.float64):
        parts = [x.to(dtype).requires_grad_() for x in (q, k, v)]
        if dtype == torch.bfloat16:
            out = native.attend(*parts, **options)
        else:
            hidden = torch.ones(600, 600, dtype=torch.bool).tril() if options.get("causal") else None
            out = core.mix(
                core.softmax_allowed(core.scaled_scores(*parts[:2], options.get("root", 1.0)), hidden), parts[2]
            )
        found.append([out, *torch.autograd.grad(out, parts, slope.to(dtype))])
    return [float((a.double() - b).abs().max() / b.abs().max()) for a, b in zip(*found, strict=True)]


@pytest.fixture
def units(monkeypatch):
    """A processor that has units for bf16; returns the calls that PyTorch's forward took."""
    calls, forward = [], native._by_units
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    monkeypatch.setattr(native, "_by_units", lambda *given: calls.append(given) or forward(*given))
    return calls


@pytest.mark.parametrize("options", UNITS.values(), ids=UNITS)
def test_the_forward_of_processors_with_units_and_the_gradient_of_the_kernel(units, options):
    assert max(by_units(options)) < 0.02 and len(units) == 1


@pytest.mark.parametrize("bug", ["logs are of base 2", "no root", "all keys"])
def test_planted_bugs_between_the_two_are_seen(units, bug, monkeypatch):
    forward = native._by_units

    def wrong(q, k, v, causal, shift, window, root):
        out, logs = forward(q, k, v, causal and bug != "all keys", shift, window, 1.0 if bug == "no root" else root)
        return out, logs * math.log2(math.e) if "logs" in bug else logs

    monkeypatch.setattr(native, "_by_units", wrong)
    assert not max(by_units(UNITS["root"])) < 0.02


def test_what_units_do_not_do_is_the_kernels(units):
    q, narrow = draw(1, 4, 40, 32).bfloat16(), draw(1, 4, 40, 31).bfloat16()
    for k, v, options in (
        (q[:, :2], q, {}), (q, q[:, :2], {}), (q, narrow, {}), (q[:, :, :30], q[:, :, :30], {"causal": True}),
        (q, q, {"window": 9}), (q, q, {"causal": True, "shift": -1}), (q.float(), q.float(), {}),
        (q, q, {"allowed": torch.ones(40, 40, dtype=torch.bool)}),
    ):  # fmt: skip
        native.attend(q.to(k.dtype), k, v, **options)
    native.attend(narrow, narrow, narrow)
    assert not units


def compiled_in_one_graph(name, options):
    torch.compiler.reset()
    torch.manual_seed(0)
    layer = Attention(name, d_model=16, heads=2, route="native")
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)
    for length in (40, 50):
        x = draw(2, length, 16)
        want, found = (values_and_gradients(each, x, options) for each in (layer, compiled))
        assert want.keys() == {name.removeprefix("_orig_mod.") for name in found}
        for part, value in found.items():
            torch.testing.assert_close(value, want[part.removeprefix("_orig_mod.")], rtol=1e-4, atol=1e-4)
        with torch.no_grad():
            torch.testing.assert_close(compiled(x, **options), want["output"])


@pytest.mark.parametrize("options", [{"causal": True}, {"padding": torch.tensor([9, 3])}], ids=["causal", "padding"])
@pytest.mark.parametrize("name", ["QKV", "QKV/kv1/rope/window8"])
def test_compiled_in_one_graph(name, options, taken):
    compiled_in_one_graph(name, options)
    assert len(taken) == 2 + 4, "the layer and its graph both take it"


def as_autograd_has_it(q, k, v, allowed, *, causal, shift, window, root):
    return native._Attend.apply(q[None], k[None], v[None], None, causal, shift, native.EVERYWHERE, root)[0][0]


def test_a_graph_that_cannot_be_made_is_seen(monkeypatch):
    monkeypatch.setattr(native, "attend", as_autograd_has_it)
    with pytest.raises(Exception, match="proxy"):
        compiled_in_one_graph("QKV", {"causal": True})


LONG = 300
SAID = {
    "lengths": {"padding": torch.tensor([LONG, 140])},
    "left": {"padding": torch.arange(LONG) >= torch.tensor([[0], [100]])},
    "mask": {"mask": torch.rand(LONG, LONG, generator=torch.Generator().manual_seed(3)) < 0.7},
    "mask of each head": {"mask": torch.rand(1, 4, LONG, LONG, generator=torch.Generator().manual_seed(3)) < 0.7},
    "mask of each sequence": {"mask": torch.rand(2, 1, LONG, LONG, generator=torch.Generator().manual_seed(3)) < 0.7},
    "keys and lengths": {"mask": torch.arange(LONG) % 3 > 0, "padding": torch.tensor([LONG, 140])},
}


def long_texts_with_hidden_keys(name, options, causal):
    torch.manual_seed(0)
    layer = Attention(name, d_model=64, heads=4)
    x = draw(2, LONG, 64)
    layer.route = "plain"
    want = values_and_gradients(layer, x, {"causal": causal, **options})
    layer.route = "fused"
    for part, found in values_and_gradients(layer.prepare(), x, {"causal": causal, **options}).items():
        scale = float(want[part].abs().max())
        torch.testing.assert_close(found / scale, want[part] / scale, rtol=0, atol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("options", SAID.values(), ids=SAID)
@pytest.mark.parametrize("name", ["QKV", "QKV/kv2/rope/window150", "QKK/kv1"])
def test_long_texts_with_hidden_keys(name, options, causal, taken):
    long_texts_with_hidden_keys(name, options, causal)
    assert len(taken) == 1


@pytest.mark.parametrize("lost", ["padding", "mask"])
def test_hidden_keys_that_are_lost_are_caught(lost, monkeypatch):
    said_of = Visible.said
    monkeypatch.setattr(
        Visible, "said", lambda self, rows, keys: said_of(dataclasses.replace(self, **{lost: None}), rows, keys)
    )
    with pytest.raises(AssertionError):
        long_texts_with_hidden_keys("QKV", SAID["lengths" if lost == "padding" else "mask"], True)


def test_padding_makes_no_tensor_of_queries_and_keys(monkeypatch):
    sizes, run = [], native._run

    def watched(name, q, k, v, allowed, *rest):
        sizes.append(allowed.untyped_storage().nbytes())
        return run(name, q, k, v, allowed, *rest)

    monkeypatch.setattr(native, "_run", watched)
    layer = Attention("QKV", d_model=64, heads=4).prepare()
    values_and_gradients(layer, draw(2, LONG, 64), {"causal": True, **SAID["lengths"]})
    assert sizes == [2 * LONG] * 2


def test_processors_on_which_it_was_not_measured_keep_pytorchs_kernel(monkeypatch, taken, steps):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    layer = Attention("QKV", d_model=32, heads=2).prepare()
    layer(draw(1, 40, 32), causal=True)
    cache = layer.new_cache(1, 3)
    for _ in range(3):
        layer.step(draw(1, 1, 32), cache)
    assert not taken and not steps


def test_shorter_vectors_compute_the_same(monkeypatch, nothing_compiled):
    monkeypatch.setattr(kernel, "_FLAGS", (*(flag for flag in kernel._FLAGS if "march" not in flag), "-march=haswell"))
    for dtype, limit in ((torch.float32, 5e-6), (torch.bfloat16, 2e-2)):
        found, _ = errors((1, 4, 2, 2, 600, 600, 16, 24), dtype, causal=True, window=530)
        assert max(found) < limit
    for groups in (1, 3, 6):
        test_one_query_of_each_head(129, groups, (16, 80), 1)


def test_prepared_layers_need_no_compiler(monkeypatch, nothing_compiled, taken):
    monkeypatch.setattr(kernel, "compiler", lambda: None)
    monkeypatch.setattr(kernel, "works", functools.cache(kernel.works.__wrapped__))
    layer = Attention("QKV", d_model=16, heads=2).prepare()
    assert layer(draw(1, 40, 16), causal=True).isfinite().all() and not taken
