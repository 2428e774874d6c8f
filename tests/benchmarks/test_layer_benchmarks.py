"""The benchmarks of the layer compare what computes the same, count what they say, and stop where that fails."""

import json
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "benchmarks"))

import accuracy
import layer as bench
import naive
import peers
from qkvlab import Attention
from qkvlab.designs import examples, parse

SHORT = 40
HERE = bench.Place()


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(accuracy, "TOKENS", SHORT)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("design", accuracy.catalogue(), ids=str)
def test_the_naive_code_means_the_same(design):
    design = parse(design.name.replace("/learned288", f"/learned{SHORT}"))
    x, along = torch.randn(2, 2, SHORT, accuracy.D_MODEL, generator=torch.Generator().manual_seed(0)).double()
    layer = accuracy.built(design, 0)
    accuracy.same(design.name, accuracy.by_layer(layer, x, along), accuracy.by_naive(layer, x, along))


def test_every_example_is_judged():
    assert len(accuracy.catalogue()) == len(examples())


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("wrong", ["root", "mask", "groups"])
def test_naive_code_that_means_something_else_stops_it(wrong, monkeypatch):
    mixed = naive._mixed
    if wrong == "root":
        monkeypatch.setattr(naive, "_mixed", lambda q, k, v, root, *rest: mixed(q, k, v, 1.0, *rest))
    if wrong == "mask":
        monkeypatch.setattr(naive, "_mixed", lambda q, k, *rest: mixed(q, k.flip(-2), *rest))
    if wrong == "groups":
        monkeypatch.setattr(naive, "_mixed", lambda q, k, v, *rest: mixed(q, k.repeat(1, 2, 1, 1), v, *rest))
    with pytest.raises(AssertionError, match="means something else"):
        accuracy.judged(parse("QKV/kv2"), 1)


@pytest.mark.usefixtures("short")
def test_errors_are_those_of_the_layer(monkeypatch):
    rows = accuracy.judged(parse("QKV"), 2)
    assert {(row["route"], row["precision"]) for row in rows} == {
        (route, precision) for route in ("plain", "fused", "native") for precision in ("fp32", "bf16")
    }
    assert {row["of"] for row in rows} == {"output", "d x", "d out.weight", *(f"d projections.{n}" for n in "qkv")}
    sloppy = accuracy.by_layer
    monkeypatch.setattr(
        accuracy,
        "by_layer",
        lambda layer, x, along: {
            name: number if layer.out.weight.dtype == torch.float64 else number * (1 + 2**-6)
            for name, number in sloppy(layer, x, along).items()
        },
    )
    for before, after in zip(rows, accuracy.judged(parse("QKV"), 2), strict=True):
        assert before["ratio"] < 3 and after["ours"] > 3 * before["ours"] * (before["precision"] == "fp32")
        assert after["naive"] == before["naive"]


def test_no_ratio_to_nothing():
    assert accuracy.ratio(1e-3, 5e-4, 1.0, 1.0) == 2.0
    assert accuracy.ratio(1e-3, 0.0, 0.0, 1.0) is None
    assert accuracy.ratio(1e-3, 1e-9, 1e-17, 1.0) is None


@pytest.mark.parametrize("side", peers.peers(HERE.build("QKV", torch.float32)), ids=lambda side: side.name)
def test_peers_compute_what_the_layer_computes(side):
    layer, dtype = HERE.build("QKV", torch.float32), torch.float32
    x = HERE.draw(2, 9, bench.D_MODEL, dtype=dtype)
    for causal in (False, True):
        wanted = layer(x, causal=causal)
        bench.same(side.name, [side.forward(x, causal)], [wanted], dtype)
        given = [x.clone().requires_grad_() for _ in range(2)]
        ours, theirs = (
            bench.learning(s, g, causal, x)() for s, g in zip((peers.Ours(layer), side), given, strict=True)
        )
        bench.same(side.name, theirs, ours, dtype)
    with torch.no_grad():
        step = side.decode(x[:, :8].contiguous())
        for _ in range(2 if step else 0):  # every call is the same step
            bench.same(side.name, [step(x[:, 8:])], [layer(x, causal=True)[:, 8:]], dtype)


def test_other_numbers_stop_the_benchmark():
    wanted = [torch.ones(3)]
    bench.same("a peer", [torch.ones(3) * (1 + 1e-6)], wanted, torch.float32)
    for got in ([torch.ones(3) * 1.01], [torch.ones(1, 3)], [torch.tensor([1.0, 1.0, float("nan")])], []):
        with pytest.raises((AssertionError, ValueError)):
            bench.same("a peer", got, wanted, torch.float32)


def test_a_ratio_is_that_of_each_round():
    assert bench.ratio([1.0, 20.0, 3.0], [1.0, 10.0, 4.0]) == 1.0


def test_sides_take_turns():
    order = []
    found = bench.turns({name: (lambda name=name: order.append(name)) for name in "abc"}, 0.0)
    assert [len(times) for times in found.values()] == [5, 5, 5]
    assert all(order.count(name) > 5 for name in "abc")


@pytest.mark.parametrize("name", ["QKV", "QKK/kv2", "QKV/rank64", "MLA64", "MLA64/rope", "QKV/h32", "XXX", "QQQ"])
def test_flops_are_those_of_torch(name):
    # the plain route makes all pairs, causality halves them
    design, t = parse(name), 5
    layer = Attention(design, d_model=bench.D_MODEL, heads=bench.HEADS, route="plain")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        layer(torch.zeros(1, t, bench.D_MODEL))
    sizes = design.head_sizes(layer.dims)
    per_pair = 2 * sizes.queries * (sizes.channels + sizes.value_channels)
    unseen = t * (t - 1) // 2
    assert bench._flops(layer, t) == counter.get_total_flops() - unseen * per_pair


def test_windows_read_less():
    whole, near = (HERE.build(name, torch.float32) for name in ("QKV", "QKV/window64"))
    assert bench._flops(near, 64) == bench._flops(whole, 64)
    assert bench._flops(near, 65) == bench._flops(whole, 65) - 2 * 8 * 128
    weights = 4 * 4 * 512 * 512
    assert bench._bytes(whole, HERE) == weights + 4 * 8 * 4096 * 1024
    assert bench._bytes(whole, bench.Place(scale=3)) == weights + 3 * 4 * 8 * 4096 * 1024
    assert bench._bytes(near, HERE) == weights + 4 * 8 * 64 * 1024


def test_results_say_where_they_come_from(tmp_path, monkeypatch):
    path = tmp_path / "found.json"
    monkeypatch.setattr(accuracy, "TOKENS", SHORT)
    monkeypatch.setattr(sys, "argv", ["accuracy.py", "--designs", "QKV,QKV/bias", "--draws", "1", "--json", str(path)])
    accuracy.main()
    document = json.loads(path.read_text("utf-8"))
    assert document["torch"] == torch.__version__ and document["threads"] == torch.get_num_threads()
    assert {"machine", "processor", "commit", "time", "draws", "goal"} <= set(document)
    assert {row["of"] for row in document["zeros"]} == {"d projections.k_bias"}
    assert document["rows"] == sorted(document["rows"], key=lambda row: -row["ratio"])
