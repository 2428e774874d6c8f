"""The fast route in blocks of three queries: the same contract, and no tensor of queries x keys."""

import pytest
import torch
from torch.func import functional_call, grad, vmap
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from qkvlab import Attention
from qkvlab.attention import core
from qkvlab.attention.visible import Span, Visible
from qkvlab.contracts import Dims
from qkvlab.designs import examples, parse
from qkvlab.errors import Refusal
from qkvlab.testing import CHECKS
from qkvlab.testing.attending import every_mask
from qkvlab.testing.sizes import attention, distance, sizes, tokens

EXAMPLES = examples().values()
JUDGED = (
    "attends_as_defined",
    "routes_agree",
    "the_future_changes_nothing",
    "padding_may_hold_anything",
    "seeing_nothing_gives_zero",
    "packed_texts_are_alone",
    "gradients_reach_every_trained_matrix",
    "many_at_once_equal_each_alone",
    "other_precisions",
)
HARD = ("QKV", "QKV/kv2", "QQV/noself", "QKV/kv2/window3", "QKV/kv2/cap2", "QKV/kv2/sink", "QKK/kv2/diff1", "QKV/alibi")


@pytest.fixture
def blocks_of_three(monkeypatch):
    monkeypatch.setattr(core, "ROWS", 3)


@pytest.mark.usefixtures("blocks_of_three")
@pytest.mark.parametrize("check", [c for c in CHECKS if c.__name__ in JUDGED], ids=lambda check: check.__name__)
@pytest.mark.parametrize("design", EXAMPLES, ids=str)
def test_every_example_keeps_the_contract_in_blocks(design, check):
    check(design)


def test_the_judges_exist():
    assert set(JUDGED) <= {check.__name__ for check in CHECKS}


def values_and_gradients(layer, x, memory_x=None, run=None, **options):
    layer.zero_grad()
    x = x.clone().requires_grad_()
    memory = None if memory_x is None else layer.remember(memory_x)
    out = (layer if run is None else run)(x, memory, **options)
    (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).reshape(out.shape)).sum().backward()
    return [out.detach(), x.grad, *(p.grad.clone() for p in layer.parameters() if p.grad is not None)]


def agree(design, t, s=None, *, dtype=torch.float64, **options):
    dims = sizes(design)
    plain, fused = (attention(design, dims, route=route, dtype=dtype) for route in ("plain", "fused"))
    memory_x = None if s is None else tokens(dims, s, seed=3, dtype=dtype)
    x = tokens(dims, t, dtype=dtype)
    both = [values_and_gradients(layer, x, memory_x, **options) for layer in (plain, fused)]
    for wanted, got in zip(*both, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-10 if dtype == torch.float64 else 1e-4)


@pytest.mark.usefixtures("blocks_of_three")
@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize(("t", "s"), [(7, None), (7, 5), (10, 2), (4, 9), (7, 0), (0, 4), (6, 1)])
def test_gradients_of_both_routes_agree_in_blocks(name, t, s):
    design = parse(name)
    lengths = torch.tensor([(t if s is None else s) // 2, t if s is None else s])
    for causal in (False, "top-left", "bottom-right"):
        agree(design, t, s, causal=causal)
        agree(design, t, s, causal=causal, padding=lengths)


@pytest.mark.usefixtures("blocks_of_three")
@pytest.mark.parametrize("name", ["QKV", "QKV/kv2", "QKV/kv2/window3", "QKV/kv2/sink", "QKK/kv2/diff1"])
def test_masks_of_every_shape_are_cut_into_blocks(name):
    design = parse(name)
    dims = sizes(design)
    plain, fused = (attention(design, dims, route=route) for route in ("plain", "fused"))
    x, memory_x = tokens(dims, 7), tokens(dims, 8, seed=3)
    for mask in every_mask((2, dims.heads, 7, 8)):
        for other in ({}, {"causal": "bottom-right"}, {"padding": torch.tensor([3, 8])}):
            memory = plain.remember(memory_x)
            gap = distance(fused(x, memory, mask=mask, **other), plain(x, memory, mask=mask, **other))
            assert gap < 1e-12, (tuple(mask.shape), other)


@pytest.mark.usefixtures("blocks_of_three")
@pytest.mark.parametrize("name", ["QKV/kv2/window3", "QKV/alibi", "QQV/noself/window2"])
@pytest.mark.parametrize("asked", [None, (7,), (2, 7)], ids=str)
@pytest.mark.parametrize("kept", [None, (5,), (2, 5)], ids=str)
def test_positions_of_every_shape_are_cut_into_blocks(name, asked, kept):
    design = parse(name)
    dims = sizes(design)
    plain, fused = (attention(design, dims, route=route) for route in ("plain", "fused"))
    draw = torch.Generator().manual_seed(4)
    asked, kept = (None if at is None else torch.randint(0, 9, at, generator=draw) for at in (asked, kept))
    x, memory = tokens(dims, 7), plain.remember(tokens(dims, 5, seed=3), kept)
    for causal in (False, "top-left", "bottom-right"):
        wanted = plain(x, memory, causal=causal, positions=asked)
        torch.testing.assert_close(fused(x, memory, causal=causal, positions=asked), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("t", [0, 1, 2, 3, 31, 97, 128, 255, 256, 257, 513, 1025])
@pytest.mark.parametrize("name", ["QKV/kv2/window5", "QKK/kv2/diff1", "QQV/noself", "QKV/kv2/cap2", "QKV/kv2/sink"])
def test_lengths_around_the_blocks(name, t):
    design = parse(name)
    dims = Dims(d_model=12, heads=2, d_head=6, d_value=6)
    torch.manual_seed(0)
    fused = Attention(design, d_model=12, heads=2, d_head=6)
    plain = Attention(design, d_model=12, heads=2, d_head=6, route="plain")
    plain.load_state_dict(fused.state_dict())
    x = tokens(dims, t, dtype=torch.float32)[:1]
    for options in ({"causal": True}, {"padding": torch.tensor([t // 2])}):
        with torch.no_grad():
            torch.testing.assert_close(fused(x, **options), plain(x, **options), rtol=0, atol=1e-5)


@pytest.mark.usefixtures("blocks_of_three")
@pytest.mark.parametrize("name", HARD)
def test_empty_batches_and_single_sentences(name):
    layer = attention(parse(name), route="fused")
    dims = layer.dims
    for options in ({}, {"causal": True}):
        assert layer(torch.zeros(0, 7, dims.d_model, dtype=torch.float64), **options).shape == (0, 7, dims.d_model)
        x = tokens(dims, 7)
        torch.testing.assert_close(layer(x[0], **options), layer(x, **options)[0], rtol=0, atol=1e-12)


def test_blocks_read_only_the_keys_they_need():
    def reach(first, last, **limits):
        keys = Visible(**({"shape": (1, 1, 100, 100), "device": torch.device("cpu")} | limits)).reach(Span(first, last))
        return keys.start, keys.stop

    assert reach(30, 40) == (0, 100)
    assert reach(30, 40, causal=True) == (0, 40)
    assert reach(30, 40, causal=True, window=5) == (26, 40)
    assert reach(30, 40, window=5) == (26, 44)
    assert reach(0, 10, window=5) == (0, 14)
    assert reach(90, 100, window=5) == (86, 100)
    assert reach(30, 40, window=1) == (30, 40)
    assert reach(0, 10, causal="bottom-right", shape=(1, 1, 20, 100)) == (0, 90)
    assert reach(0, 10, causal="bottom-right", window=5, shape=(1, 1, 20, 100)) == (76, 90)
    assert reach(0, 10, causal="bottom-right", shape=(1, 1, 100, 20)) == (0, 1), (
        "nobody is seen; one key for the shapes"
    )
    assert reach(50, 60, window=5, shape=(1, 1, 100, 20)) == (19, 20)
    assert reach(3, 6, causal="top-left", shape=(1, 1, 9, 0)) == (0, 0)
    at = torch.arange(100).flip(0)
    assert reach(30, 40, causal=True, window=5, asked=at, kept=at) == (0, 40), "positions may stand in any order"


def test_window_blocks_are_really_that_small(monkeypatch):
    monkeypatch.setattr(core, "ROWS", 8)
    seen, original = [], core._block
    monkeypatch.setattr(core, "_block", lambda q, k, *rest: (seen.append(k.shape[-2]), original(q, k, *rest))[1])
    layer = attention(parse("QKV/kv2/window3"), route="fused")
    layer(tokens(layer.dims, 80), causal=True)
    assert len(seen) == 20 and max(seen) == 4 + 3 - 1, "of a narrow window, half as many queries at once"


@pytest.mark.usefixtures("blocks_of_three")
@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize(
    "options", [{"causal": True}, {"causal": True, "padding": torch.tensor([3, 7])}], ids=["c", "cp"]
)
def test_blocks_compile_in_one_graph(name, options):
    torch.compiler.reset()
    layer = attention(parse(name), route="fused")
    x = tokens(layer.dims, 7)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    both = [values_and_gradients(layer, x, run=run, **options) for run in (None, compiled)]
    for wanted, got in zip(*both, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-10)
    program = torch.export.export(layer, (x,), options)
    torch.testing.assert_close(program.module()(x, **options), both[0][0], rtol=0, atol=1e-12)


@pytest.mark.usefixtures("blocks_of_three")
@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("name", HARD)
def test_blocks_have_the_gradient_of_torch_func(name):
    layer = attention(parse(name), route="fused")
    state = {key: p.detach() for key, p in layer.named_parameters()}
    x = tokens(layer.dims, 7)

    def loss(state, x):
        return functional_call(layer, state, (x[None],), {"causal": True}).square().sum()

    each = vmap(grad(loss), in_dims=(None, 0))(state, x)
    for b in range(2):
        layer.zero_grad()
        layer(x[b : b + 1], causal=True).square().sum().backward()
        for key, p in layer.named_parameters():
            if p.requires_grad:
                torch.testing.assert_close(each[key][b], p.grad, rtol=0, atol=1e-10)


T = 1024


class Watched(TorchDispatchMode):
    """Every operation that makes a tensor of T x T numbers or more."""

    def __init__(self):
        super().__init__()
        self.large = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for made in tree_leaves(out):
            if isinstance(made, torch.Tensor) and made.untyped_storage().nbytes() >= made.element_size() * T * T:
                self.large.add(str(func))
        return out


def smallest(design):
    """Sizes with more heads than one where the design has them."""
    for d_model, heads, c in ((8, 4, 4), (8, 2, 4), (16, 4, 4), (12, 3, 4), (4, 1, 4), (8, 1, 8)):
        for e in (6, c):
            dims = Dims(d_model=d_model, heads=heads, d_head=c, d_value=e)
            try:
                design.matrices(dims)
            except Refusal:
                continue
            return dims
    raise AssertionError(f"{design} refuses every size")


def kept_for_the_gradient(layer, t, **options):
    """Bytes of all tensors that one call keeps; what it and its gradient make is watched."""
    x = torch.randn(1, t, layer.dims.d_model, requires_grad=True)
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with Watched() as watched:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            out = layer(x, **options)
        out.sum().backward()
    assert not watched.large, f"{options}: queries x keys are made by {sorted(watched.large)}"
    return sum(kept.values())


def long(design):
    return parse(design.name.replace("/learned16", f"/learned{T}"))


@pytest.mark.parametrize("design", [long(design) for design in EXAMPLES], ids=str)
def test_the_fast_route_makes_nothing_of_queries_x_keys(design, monkeypatch):
    monkeypatch.setattr(core, "ROWS", 32)  # 32 x 1024 numbers times 8 heads are less than 1024 x 1024
    dims = smallest(design)
    torch.manual_seed(0)
    layer = Attention(design, d_model=dims.d_model, heads=dims.heads, d_head=dims.d_head, d_value=dims.d_value)
    for causal in (False, True):
        for padding in (None, (T // 2,)):
            for heads in (None, dims.heads):
                kept = [
                    kept_for_the_gradient(
                        layer,
                        t,
                        causal=causal,
                        padding=None if padding is None else torch.tensor([n * t // T for n in padding]),
                        mask=None if heads is None else torch.rand(heads, 1, t) < 0.5,
                    )
                    for t in (T // 2, T)
                ]
                assert kept[1] < 2.2 * kept[0], f"twice as many tokens keep {kept[1] / kept[0]:.1f} times as much"
