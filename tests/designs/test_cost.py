"""`qkvlab.cost`: equal to PyTorch's counter on real layers, to the published numbers, and unable to be wrong unseen."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import qkvlab
from qkvlab import Attention, Dims
from qkvlab.contracts import Words
from qkvlab.designs import Way, costing, examples, parse, work
from qkvlab.designs.counting import Tally
from qkvlab.designs.grammar import famous
from qkvlab.errors import BadInput, Refusal
from qkvlab.testing import CHECKS, sizes

LLAMA = Dims.of(4096, 32)
DEEPSEEK = Dims(d_model=5120, heads=128, d_head=128, d_value=128)
check = {each.__name__: each for each in CHECKS}["layer_equals_cost"]


def counted(layer, tokens, keys):
    """FLOPs by PyTorch of one step that brings a cache to so many keys."""
    cache = layer.new_cache(1, keys)
    if keys > tokens:
        cache.add(layer.remember(torch.zeros(1, keys - tokens, layer.dims.d_model)))
    with FlopCounterMode(display=False) as counter:
        layer.step(torch.zeros(1, tokens, layer.dims.d_model), cache)
    return counter.get_total_flops()


def layer_of(name, dims):
    sizes = {"d_model": dims.d_model, "heads": dims.heads, "d_head": dims.d_head, "d_value": dims.d_value}
    return Attention(name, **sizes, route="plain")


# equal to what is counted


@pytest.mark.parametrize("name", famous())
def test_famous_points_cost_what_their_layers_do(name):
    dims = Dims(d_model=128, heads=8, d_head=16, d_value=16)
    layer, says = layer_of(name, dims), qkvlab.cost(name, dims, 9)
    assert sum(p.numel() for p in layer.parameters()) == says.parameters
    with FlopCounterMode(display=False) as counter:
        layer(torch.zeros(1, 9, 128), causal=True)
    assert counter.get_total_flops() == says.forward_flops
    assert counted(layer, 1, 9) == says.decode_flops


@pytest.mark.parametrize(
    "name",
    [
        *("QKV", "QKK/kv2", "QKV/window7", "QQV/noself", "QQV/noself/window7", "QKV/sin", "QKV/learned400"),
        *("MLA", "MLA/rope", "MLA24q8/rope8", "MLA/window7", "QKV/diff", "QKV/bias", "QKK/kv2/rank4", "QMQ", "QKV/h8"),
    ],
)
@pytest.mark.parametrize("keys", [1, 2, 8, 300])
def test_decoding_costs_what_a_step_does(name, keys):
    dims = Dims.of(64, 4)
    layer = layer_of(name, dims)
    assert counted(layer, 1, keys) == qkvlab.cost(name, dims, keys).decode_flops


@pytest.mark.parametrize("name", ["MLA/rope", "MLA24"])
def test_the_form_that_decodes_with_less_work_is_the_one_that_counts(name):
    few, many = (qkvlab.cost(name, Dims.of(64, 4), keys) for keys in (1, 1000))
    assert many.absorbed
    plain = work.work(parse(name), Dims.of(64, 4)).of(1, 1000)
    assert many.decode_flops < plain and few.decode_flops < many.decode_flops


@pytest.mark.parametrize("design", examples().values(), ids=str)
def test_weights_that_are_read_are_those_that_are_there(design):
    dims = sizes(design)
    for size in (1, 2, 4):
        says = qkvlab.cost(design, dims, 16, bytes_per_number=size)
        table = design.matrices(dims).get("places")
        spared = 0 if table is None else (table.rows - 1) * table.columns
        assert says.read_weight_bytes == (says.parameters - spared) * size
        assert says.cache_bytes == says.cache_numbers * size
        assert says.read_bytes == says.read_weight_bytes + says.read_cache_bytes


@pytest.mark.parametrize(("name", "keys"), [("QKV", 100), ("QKV/window7", 7), ("QQV/noself", 99), ("QKK/window99", 99)])
def test_a_window_reads_no_more_of_the_cache(name, keys):
    says = qkvlab.cost(name, LLAMA, 100)
    assert says.read_cache_bytes == keys * says.cache_bytes


# numbers that others published or that a pencil gives


def test_a_layer_of_llama_2():
    says = qkvlab.cost("QKV/rope", LLAMA, 4096)
    assert says.parameters == 4 * 4096**2 == 67_108_864
    assert says.cache_numbers == 8192 and says.cache_bytes == 16 * 1024  # 512 KiB for the 32 layers of the 7B model
    assert says.forward_flops == 4096 * (2 * 4 * 4096**2 + 4 * 4096 * 4096)
    assert says.decode_flops * 4096 == says.forward_flops
    assert says.read_bytes == 2 * (says.parameters + 4096 * 8192)


def test_a_layer_of_deepseek_v2():
    says = qkvlab.cost("deepseek-v2", DEEPSEEK, 4096)
    assert says.cache_numbers == 576  # arXiv 2405.04434, against 32,768 of as many plain heads
    assert qkvlab.cost("QKV", DEEPSEEK, 4096).cache_numbers == 32768
    matrices = 5120 * 1536 + 1536 * 128 * 192 + 5120 * 576 + 512 * 128 * 256 + 128 * 128 * 5120
    assert says.parameters == matrices + 1536 + 512 and says.absorbed


def test_biases_and_gains_are_parameters_and_no_flops():
    plain, biased = (qkvlab.cost(name, Dims.of(64, 4), 10) for name in ("QKV", "QKV/bias"))
    assert biased.parameters - plain.parameters == 4 * 64
    assert biased.read_weight_bytes - plain.read_weight_bytes == 2 * 4 * 64
    assert (biased.forward_flops, biased.decode_flops) == (plain.forward_flops, plain.decode_flops)


def test_sharing_saves_what_is_shared():
    qkv, qqv, qkk, xxx = (qkvlab.cost(name, Dims.of(64, 4), 10) for name in ("QKV", "QQV", "QKK", "XXX"))
    assert qkv.parameters - qqv.parameters == qkv.parameters - qkk.parameters == 64 * 64
    assert qkv.forward_flops - qqv.forward_flops == 10 * 2 * 64 * 64
    assert (qqv.cache_numbers, qkk.cache_numbers) == (2 * 64, 64)
    assert xxx.parameters == 64 * 64, "W_O is left"


def test_names_and_designs_and_sizes_that_a_design_sets():
    assert qkvlab.cost("qkk", LLAMA, 5) == qkvlab.cost(Way("QKK"), LLAMA, 5)
    narrow = qkvlab.cost("QKV/h16", Dims.of(64, 2), 5)
    assert narrow.parameters == 4 * 64 * 32


# refusals


@pytest.mark.parametrize("number", [0, -1, 1.5, True, "8", None])
def test_numbers_that_cannot_be_meant(number):
    with pytest.raises(BadInput, match="tokens must be a positive whole number"):
        qkvlab.cost("QKV", LLAMA, number)
    with pytest.raises(BadInput, match="bytes_per_number must be a positive whole number"):
        qkvlab.cost("QKV", LLAMA, 8, bytes_per_number=number)


def test_designs_that_cannot_be():
    with pytest.raises(BadInput, match=r"such as Dims\.of\(4096, 32\); got 512"):
        qkvlab.cost("QKV", 512, 8)
    with pytest.raises(BadInput, match="got None"):
        qkvlab.cost(None, LLAMA, 8)
    with pytest.raises(BadInput, match="unknown design"):
        qkvlab.cost("QQW", LLAMA, 8)
    with pytest.raises(Refusal, match="kv_heads=3"):
        qkvlab.cost("QKV/kv3", LLAMA, 8)
    with pytest.raises(BadInput, match="knows positions 0 to 15"):
        qkvlab.cost("QKV/learned16", LLAMA, 17)
    assert qkvlab.cost("QKV/learned16", LLAMA, 16).decode_flops > 0


@dataclass(frozen=True)
class OnlyOnTensors(Way):
    @property
    def words(self):
        return Words("只用张量", "tensors only")

    def ask(self, weights, x, dims, positions):
        return super().ask(weights, x, dims, positions) + x.new_zeros(1)


def test_a_design_that_runs_on_tensors_only_is_told_so():
    with pytest.raises(BadInput, match=r"runs on tensors only.*new_zeros.*functions"):
        qkvlab.cost(OnlyOnTensors("QKV"), LLAMA, 8)


# the arrays that count


def test_products_have_the_shapes_and_flops_of_real_ones():
    for axes, a, b in (
        ("...htc,lhc->...htl", (2, 4, 3, 5), (7, 4, 5)),
        ("...htl,lhe->...hte", (4, 3, 7), (7, 4, 6)),
        ("...htc,hce->...hte", (2, 4, 3, 5), (4, 5, 6)),
    ):
        tally = Tally()
        made = np.einsum(axes, tally.zeros(*a), tally.zeros(*b))
        assert made.shape == np.einsum(axes, np.zeros(a), np.zeros(b)).shape
        with FlopCounterMode(display=False) as counter:
            torch.einsum(axes, torch.zeros(a), torch.zeros(b))
        assert tally.flops == counter.get_total_flops()
    tally = Tally()
    assert (tally.zeros(2, 3, 4) @ tally.zeros(4, 5)).shape == (2, 3, 5) and tally.flops == 2 * 2 * 3 * 4 * 5
    assert (np.ones((3, 4)) @ tally.zeros(4, 10**9)).shape == (3, 10**9), "no memory is needed"
    for wrong in ((3, 4), (5,)):
        with pytest.raises(ValueError, match="product of matrices"):
            tally.zeros(2, 5) @ tally.zeros(*wrong)
    for axes, arrays in (("ab,bc", 2), ("ab,bc,cd->ad", 3), ("ab->a", 1)):
        with pytest.raises(ValueError, match="einsum of two arrays"):
            np.einsum(axes, *[tally.zeros(2, 2)] * arrays)
    with pytest.raises(ValueError, match="two sizes"):
        np.einsum("ab,bc->ac", tally.zeros(2, 3), tally.zeros(4, 5))


def test_what_is_made_of_counting_arrays_counts_on():
    tally = Tally()
    x = tally.zeros(1, 4)
    for made in (np.sqrt(x + 1), np.concatenate([x, x]), (x * x).mean(-1)[..., None], x.reshape(2, 2), np.ones(4) * x):
        before = tally.flops
        product = made.reshape(-1, 1) @ tally.zeros(1, 3)
        assert product.shape == (made.size, 3) and tally.flops - before == 2 * made.size * 3


# planted bugs: the contract's check, or a test above, sees each


def shared_matrix_counted_twice(monkeypatch):
    plain = Way.cost

    def cost(self, dims):
        found, each = plain(self, dims), self.matrices(dims)
        letters = [letter.lower() for letter in self.pattern if letter != "X"]
        return replace(found, parameters=sum(each[letter].rows * each[letter].columns for letter in letters))

    monkeypatch.setattr(Way, "cost", cost)


def changed(monkeypatch, **fields):
    plain = costing.work
    made = lambda design, dims: replace(plain(design, dims), **{k: f(plain(design, dims)) for k, f in fields.items()})  # noqa: E731
    monkeypatch.setattr(costing, "work", made)


def causal_counted_half(monkeypatch):
    changed(monkeypatch, pair=lambda found: found.pair // 2)


def recall_forgotten(monkeypatch):
    changed(monkeypatch, key=lambda found: 0)


def finish_and_projections_forgotten(monkeypatch):
    changed(monkeypatch, token=lambda found: 0)


def own_token_forgotten(monkeypatch):
    monkeypatch.setattr(costing, "reach", lambda design, first, count: range(first))


def window_forgotten(monkeypatch):
    monkeypatch.setattr(costing, "reach", lambda design, first, count: range(first + count))


def never_absorbed(monkeypatch):
    monkeypatch.setattr(costing, "cheaper", lambda design, absorbed, dims, tokens, keys: design)


def out_forgotten(monkeypatch):
    plain = costing.LayerCost
    less = lambda **f: plain(**{**f, "forward_flops": f["forward_flops"] - 2 * 5 * 720})  # noqa: E731
    monkeypatch.setattr(costing, "LayerCost", less)


def bias_behind_out_forgotten(monkeypatch):
    monkeypatch.setattr(type(parse("QKV/bias")), "out_bias", property(lambda self: False))


@pytest.mark.parametrize(
    ("plant", "name"),
    [
        (shared_matrix_counted_twice, "QQV"),
        (causal_counted_half, "QKV"),
        (recall_forgotten, "MLA11"),
        (finish_and_projections_forgotten, "QKV"),
        (own_token_forgotten, "QKV"),
        (window_forgotten, "QKV/kv2/window3"),
        (never_absorbed, "MLA11"),
        (out_forgotten, "QKV"),
    ],
    ids=lambda part: getattr(part, "__name__", part),
)
def test_the_contract_sees_it(plant, name, monkeypatch):
    design = examples()[name]
    check(design)
    plant(monkeypatch)
    with pytest.raises(AssertionError, match=r"qkvlab\.cost says"):
        check(design)


def test_a_forgotten_bias_behind_out_is_seen(monkeypatch):
    with monkeypatch.context() as patch:
        bias_behind_out_forgotten(patch)
        with pytest.raises(AssertionError):
            test_biases_and_gains_are_parameters_and_no_flops()


def test_a_table_read_in_full_is_seen(monkeypatch):
    plain = costing.work
    monkeypatch.setattr(
        costing,
        "work",
        lambda d, dims: replace(
            plain(d, dims), read={name: m.rows * m.columns for name, m in d.matrices(dims).items()}
        ),
    )
    with pytest.raises(AssertionError):
        test_weights_that_are_read_are_those_that_are_there(examples()["QKV/learned16"])
