"""Packed and nested texts: what they cost, what else they take, what is refused, and bugs that the contract catches."""

import pytest
import torch
from torch.func import functional_call, stack_module_state, vmap
from torch.utils.flop_counter import FlopCounterMode

from qkvlab import Attention
from qkvlab.attention import layer as layer_file
from qkvlab.attention import packed
from qkvlab.designs import examples, parse
from qkvlab.errors import BadInput
from qkvlab.testing import CHECKS
from qkvlab.testing.sizes import attention, distance

JUDGES = {check.__name__: check for check in CHECKS}
LENGTHS = (3, 0, 5, 1, 3)
ROUTES = ("fused", "plain")


def texts_of(layer, lengths=LENGTHS, dtype=torch.float64):
    generator = torch.Generator().manual_seed(5)
    return torch.randn(sum(lengths), layer.dims.d_model, generator=generator, dtype=torch.float64).to(dtype)


def alone(layer, x, lengths=LENGTHS, **options):
    return torch.cat([layer(text, **options) for text in x.split(lengths)])


def nested(x, lengths=LENGTHS):
    return torch.nested.as_nested_tensor(list(x.split(lengths)), layout=torch.jagged)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("lengths", [(12,), (12, 0), (0, 12), (6, 6), (1,) * 12, (1, 11), (11, 1), (4, 3, 3, 2), ()])
def test_any_lengths(route, lengths):
    layer = attention(parse("QKV/kv2/sin"), route=route)
    x = texts_of(layer, lengths)
    wanted = alone(layer, x, lengths, causal=True) if lengths else x.new_zeros(0, layer.dims.d_model)
    for given in (lengths, list(lengths), torch.tensor(lengths, dtype=torch.int32)):
        assert distance(layer(x, causal=True, packed=given), wanted) < 1e-12
        assert distance(layer(x[None], causal=True, packed=given), wanted[None]) < 1e-12


@pytest.mark.parametrize("causal", [False, True, "top-left", "bottom-right"])
def test_every_alignment_is_one_where_queries_are_keys(causal):
    layer = attention(parse("QKV/rope"), route="fused")
    x = texts_of(layer)
    assert distance(layer(x, causal=causal, packed=LENGTHS), alone(layer, x, causal=causal)) < 1e-12


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("name", ["QKV/sin", "QKV/learned16", "QKK/kv2/rope", "QKV/kv2/window3", "QKV/alibi"])
def test_positions_may_be_given(name, route):
    layer = attention(parse(name), route=route)
    x, positions = texts_of(layer), torch.tensor([7, 8, 11, 0, 3, 4, 5, 9, 2, 5, 6, 9])
    parts = zip(x.split(LENGTHS), positions.split(LENGTHS), strict=True)
    wanted = torch.cat([layer(text, causal=True, positions=at) for text, at in parts])
    assert distance(layer(x, causal=True, packed=LENGTHS, positions=positions), wanted) < 1e-12
    assert distance(layer(nested(x), causal=True, positions=positions).values(), wanted) < 1e-12


def test_a_text_within_the_learned_positions_may_stand_anywhere():
    layer = attention(parse("QKV/learned16"))
    x = texts_of(layer, (10, 10, 10))
    assert distance(layer(x, packed=(10, 10, 10)), alone(layer, x, (10, 10, 10))) < 1e-12


@pytest.mark.parametrize("name", ["QKV", "QKK/kv2", "QKV/diff", "QKV/kv2/cap2", "MLA/rope"])
def test_the_work_is_that_of_the_texts_alone(name):
    layer = attention(parse(name))
    x = texts_of(layer)
    counts = []
    for run in (lambda: alone(layer, x), lambda: layer(x, packed=LENGTHS)):
        with FlopCounterMode(display=False) as counter:
            run()
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("design", examples().values(), ids=str)
def test_nothing_of_all_tokens_by_all_tokens_is_made(design, route, largest_tensor):
    layer = attention(design, route=route)
    lengths = (7,) * 150  # all x all would be 1,102,500 per head
    x = texts_of(layer, lengths).requires_grad_()
    with largest_tensor as seen:
        layer(x, causal=True, packed=lengths).sum().backward()
    assert seen.numbers < sum(lengths) ** 2 / 2


@pytest.fixture
def largest_tensor():
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Largest(TorchDispatchMode):
        numbers = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            made = [t.numel() for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
            self.numbers = max([self.numbers, *made])
            return out

    return Largest()


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("name", ["QKV", "QKV/kv2/window3", "QKK/kv2/diff1"])
def test_dropout_drops_weights_and_only_while_training(name, route):
    layer = attention(parse(name), route=route)
    layer.dropout = 0.5
    x = texts_of(layer)
    assert not torch.equal(layer(x, packed=LENGTHS), layer(x, packed=LENGTHS))
    torch.manual_seed(0)
    mean = torch.stack([layer(x, packed=LENGTHS) for _ in range(1000)]).mean(0) if name == "QKV" else None
    layer.eval()
    wanted = alone(layer, x)
    assert distance(layer(x, packed=LENGTHS), wanted) < 1e-12
    if mean is not None:
        torch.testing.assert_close(mean, wanted, rtol=0, atol=0.2)


def test_many_models_at_once():
    layers = [attention(parse("QKK/kv2/sin"), seed=seed) for seed in (1, 2, 3)]
    x = texts_of(layers[0])
    together = vmap(lambda state: functional_call(layers[0], state, (x,), {"packed": LENGTHS}))(
        stack_module_state(layers)
    )
    for layer, got in zip(layers, together, strict=True):
        assert distance(got, layer(x, packed=LENGTHS)) < 1e-12


@pytest.mark.parametrize("route", ROUTES)
def test_compiled_in_one_graph_and_exported(route):
    torch.compiler.reset()
    layer = attention(parse("QKK/kv2/rope"), route=route)
    x = texts_of(layer)
    wanted = layer(x, causal=True, packed=LENGTHS)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert distance(compiled(x, causal=True, packed=LENGTHS), wanted) < 1e-12
    program = torch.export.export(layer, (x,), {"causal": True, "packed": LENGTHS}).module()
    assert distance(program(x, causal=True, packed=LENGTHS), wanted) < 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_precisions(dtype):
    layer = attention(parse("QKV/rope"), route="fused", dtype=dtype)
    x = texts_of(layer, dtype=dtype)
    out = layer(x, causal=True, packed=LENGTHS)
    assert out.dtype == dtype
    assert distance(out, alone(layer, x, causal=True)) < (1e-5 if dtype == torch.float32 else 2e-2)


def test_nested_stays_nested_and_adds_to_x():
    layer = Attention("QKV/rope", d_model=16, heads=2)
    x = nested(texts_of(layer, dtype=torch.float32))
    out = layer(x, causal=True)
    assert out.layout == torch.jagged and (x + out).shape == x.shape
    for text, got in zip(x.unbind(), out.unbind(), strict=True):
        torch.testing.assert_close(got, layer(text, causal=True), rtol=0, atol=1e-5)


REFUSED = {
    "too few": ((3, 5), r"sum to the 12 tokens of x; got 3, 5, in all 8\."),
    "too many": (torch.tensor([12, 1]), r"sum to the 12 tokens of x; got 12, 1, in all 13\."),
    "none": ((), r"sum to the 12 tokens of x"),
    "negative": ((13, -1), r"0 or more and sum to the 12 tokens of x; got 13, -1"),
    "fractions": (torch.tensor([6.0, 6.0]), r"whole numbers \(texts,\); got torch\.float32 \(2,\)"),
    "flags": (torch.ones(12, dtype=torch.bool), r"whole numbers \(texts,\); got torch\.bool \(12,\)"),
    "two axes": (torch.tensor([[6, 6]]), r"whole numbers \(texts,\); got torch\.int64 \(1, 2\)"),
    "one number": (12, r"whole numbers \(texts,\); got 12"),
    "no numbers": (torch.tensor([6, 6], device="meta"), r"got torch\.int64 \(2,\) on meta"),
    "no axis": (torch.tensor(12), r"got torch\.int64 \(\)"),
    "fractions in a list": ([6.0, 6.0], r"got \[6\.0, 6\.0\]"),
    "truth": ([True] * 12, r"got \[True, True"),
    "text": ("66", r"got '66'"),
}


@pytest.mark.parametrize(("lengths", "says"), REFUSED.values(), ids=REFUSED)
def test_lengths_that_do_not_fit_are_refused(lengths, says):
    layer = Attention("QKV", d_model=8)
    with pytest.raises(BadInput, match=says) as caught:
        layer(torch.zeros(12, 8), packed=lengths)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


def test_what_packed_texts_cannot_mean_is_refused():
    layer = Attention("QKV", d_model=8)
    x = torch.zeros(12, 8)
    others = {
        "memory": layer.remember(x),
        "padding": torch.tensor([12]),
        "mask": torch.ones(12, 12, dtype=torch.bool),
    }
    for name, value in others.items():
        with pytest.raises(BadInput, match=f"packed takes no {name}: its texts attend to themselves"):
            layer(x, packed=LENGTHS, **{name: value})
        with pytest.raises(BadInput, match=f"a nested x takes no {name}"):
            layer(nested(x), **{name: value})
    with pytest.raises(BadInput, match="pass it without packed"):
        layer(nested(x), packed=LENGTHS)
    with pytest.raises(BadInput, match=r"packed x must be \(total, d_model=8\).*got \(2, 6, 8\)"):
        layer(x.unflatten(0, (2, 6)), packed=LENGTHS)
    with pytest.raises(BadInput, match="causal must be True"):
        layer(x, packed=LENGTHS, causal="up")
    for wrong in (torch.arange(11), torch.arange(12.0)):
        with pytest.raises(BadInput, match=r"positions of 12 tokens must be whole numbers"):
            layer(x, packed=LENGTHS, positions=wrong)
    with pytest.raises(BadInput, match=r"positions of packed tokens must be \(12,\); got \(1, 12\)"):
        layer(x, packed=LENGTHS, positions=torch.arange(12)[None])


def test_nested_tensors_that_do_not_fit_are_refused():
    layer = Attention("QKV", d_model=8)
    x = torch.zeros(12, 8)
    with pytest.raises(BadInput, match=r"d_model=8\), its tokens jagged; got \(5, j\d+, 7\)"):
        layer(nested(x[:, :7]))
    with pytest.raises(BadInput, match=r"its tokens jagged; got \(5, 8, j\d+\)"):
        layer(nested(x).transpose(1, 2))
    with pytest.raises(BadInput, match=r"pass x\.contiguous\(\)"):
        layer(torch.nested.narrow(torch.zeros(2, 7, 8), 1, torch.tensor([0, 2]), torch.tensor([3, 4]), torch.jagged))
    with pytest.raises(BadInput, match=r"jagged layout: torch\.nested\.nested_tensor\(texts, layout=torch\.jagged\)"):
        layer(torch.nested.nested_tensor([x, x[:3]], layout=torch.strided))
    with pytest.raises(BadInput, match=r"x is torch\.float64 and the layer's weights torch\.float32"):
        layer(nested(x.double()))
    for act in (layer.trace, layer.remember, lambda x: layer.step(x, layer.new_cache(2, 9))):
        with pytest.raises(BadInput, match="Only forward takes nested ones"):
            act(nested(x))


# the originals, before anything is planted
sorted_of, attend_of, restarting_of = packed._sorted, packed._attend, packed._restarting


def sees_the_neighbouring_text(lengths):
    return [packed.Run(0, 1, sum(lengths))], None


def order_is_not_undone(lengths):
    return sorted_of(lengths)[0], None


def positions_continue(runs, device):
    return torch.arange(runs[-1].span.stop, device=device)


def the_last_text_is_lost(layer, x, lengths, causal, positions):
    out = attend_of(layer, x, lengths, causal, positions)
    return torch.cat([out[: -lengths[-1]], torch.zeros_like(out[-lengths[-1] :])])


def causality_is_lost(layer, x, lengths, causal, positions):
    return attend_of(layer, x, lengths, False, positions)


def texts_learn_nothing(layer, x, lengths, causal, positions):
    return attend_of(layer, x.detach(), lengths, causal, positions)


BUGS = [
    ("QKV", "_sorted", sees_the_neighbouring_text),
    ("QKV", "_sorted", order_is_not_undone),
    ("QKV/sin", "_restarting", positions_continue),
    ("QKV/learned16", "_restarting", positions_continue),
    ("QKV", "_attend", the_last_text_is_lost),
    ("QKV", "_attend", causality_is_lost),
    ("QKV", "_attend", texts_learn_nothing),
]


@pytest.mark.parametrize("judge", ["packed_texts_are_alone", "nested_texts_are_alone"])
@pytest.mark.parametrize(("design", "name", "bug"), BUGS, ids=lambda part: getattr(part, "__name__", part))
def test_the_contract_catches_it(judge, design, name, bug, monkeypatch):
    monkeypatch.setattr(packed, name, bug)
    with pytest.raises(AssertionError, match="from each text alone"):
        JUDGES[judge](parse(design))


def test_a_layer_that_forgets_the_lengths_is_caught(monkeypatch):
    monkeypatch.setattr(layer_file, "attend_packed", lambda layer, x, lengths, *rest: layer(x))
    with pytest.raises(AssertionError, match="packed texts"):
        JUDGES["packed_texts_are_alone"](parse("QKV"))
