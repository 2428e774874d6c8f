"""Products in bf16 where their steps are faster: measured once per machine, and never a reason to fail."""

from __future__ import annotations

import json

import platformdirs
import pytest

from qkvlab.training import layout, precision
from qkvlab.training.faults import Lost, OutOfMemory
from qkvlab.training.place import Here
from qkvlab.training.workers import Order, Speed

ORDER = Order("text", "plain", "QKV", ((0, 0.001),))
FACTS = {"d_model": 64, "steps": 600}
SHORT, LONG = layout.WORTH / 2, layout.WORTH * 2


class MockedWorkers:
    """One worker that takes as long as it is told, by precision and by whether steps are compiled."""

    def __init__(self, costs, fault=None):
        self.costs, self.fault, self.asked, self.closed = costs, fault, [], False

    def rate(self, order, threads, *, everywhere, seconds):
        assert not self.closed and threads == 1 and not everywhere
        self.asked.append((order.products, order.unit, len(order.runs)))
        if self.fault is not None:
            raise self.fault
        costs = self.costs[order.products]
        return Speed(1.0, cost=costs[min(sum(a[0] == order.products for a in self.asked), len(costs)) - 1])

    def close(self):
        self.closed = True


@pytest.fixture
def tried(monkeypatch, tmp_path):
    """Ask with workers of one's own, in an empty cache, on a processor that has units for bf16."""
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda *a, **k: str(tmp_path / "cache"))
    monkeypatch.setattr(precision, "_multiplied_here", lambda: True)

    def ask(costs=None, *, seconds=SHORT, fault=None, order=ORDER, facts=FACTS):
        told, made = [], []
        workers = MockedWorkers(costs, fault)

        def pool(self, processes, threads):
            assert (processes, threads) == (1, 1)
            made.append(workers)
            return workers

        monkeypatch.setattr(Here, "pool", pool)
        found = precision.faster(order, facts, Here(), seconds, told.append)
        assert all(each.closed for each in made)
        return found, workers.asked, told

    return ask


@pytest.mark.parametrize(
    ("fp32", "bf16", "found"),
    [((2.0,), (1.0,), "bf16"), ((1.0,), (2.0,), "fp32"), ((1.0,), (0.97,), "fp32"), ((1.0, 3.0), (9.0, 0.5), "bf16")],
    ids=["faster", "slower", "no faster to speak of", "the least of the rounds"],
)
def test_what_is_faster(tried, fp32, bf16, found):
    answer, asked, told = tried({"fp32": fp32, "bf16": bf16})
    assert answer == found
    assert asked == [("fp32", 0, layout.UNIT), ("bf16", 0, layout.UNIT)] * precision.ROUNDS
    assert told == ["text: products in fp32 and in bf16"]


def test_compiled_steps_where_the_study_has_time_for_them(tried):
    _, asked, told = tried({"fp32": (2.0,), "bf16": (1.0,)}, seconds=LONG)
    assert {unit for _, unit, _ in asked} == {layout.UNIT} and told[0].endswith("compiled steps")


def test_it_is_remembered_per_task_sizes_and_kind_of_step(tried):
    fast, slow = {"fp32": (2.0,), "bf16": (1.0,)}, {"fp32": (1.0,), "bf16": (2.0,)}
    assert tried(fast)[0] == "bf16"
    assert tried(slow) == ("bf16", [], []), "asked again"
    assert tried(slow, seconds=LONG)[0] == "fp32"
    assert tried(slow, facts={**FACTS, "d_model": 128})[0] == "fp32"
    assert tried(slow)[0] == "bf16"


@pytest.mark.parametrize("text", ["", "[]", '{"fp32": 1, "bf16": "much"}', '{"fp32": -1.0, "bf16": 1.0}'])
def test_what_nobody_can_have_meant_is_measured_again(tried, text, tmp_path):
    assert tried({"fp32": (2.0,), "bf16": (1.0,)})[0] == "bf16"
    (kept,) = (tmp_path / "cache").glob("products-*.json")
    assert json.loads(kept.read_text()) == {"fp32": 2.0, "bf16": 1.0}
    kept.write_text(text)
    assert tried({"fp32": (1.0,), "bf16": (2.0,)})[0] == "fp32"


@pytest.mark.parametrize("fault", [Lost("gone"), OutOfMemory("no room")])
def test_a_trial_that_fails_says_fp32_and_is_not_remembered(tried, fault):
    assert tried(fault=fault)[0] == "fp32"
    assert tried({"fp32": (2.0,), "bf16": (1.0,)})[0] == "bf16"


def test_a_processor_without_units_is_not_asked(tried, monkeypatch):
    monkeypatch.setattr(precision, "_multiplied_here", lambda: False)
    assert tried({"fp32": (2.0,), "bf16": (1.0,)}) == ("fp32", [], [])


@pytest.mark.parametrize(
    ("text", "there"),
    [("flags\t: fpu avx2 avx512f avx512_bf16", True), ("flags\t: fpu amx_tile amx_bf16 amx_int8", True),
     ("Features\t: asimd bf16 i8mm", True), ("flags\t: fpu sse2 avx2 avx512f avx512bw", False)],
)  # fmt: skip
def test_units_by_the_flags_of_the_processor(monkeypatch, tmp_path, text, there):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{text}\n")
    monkeypatch.setattr(precision, "Path", lambda name: tmp_path / "cpuinfo")
    assert precision._multiplied_here() is there


def test_a_real_trial(monkeypatch, tmp_path):
    """Through a real worker: both precisions train, and what is found is what they cost."""
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda *a, **k: str(tmp_path / "cache"))
    monkeypatch.setattr(precision, "_multiplied_here", lambda: True)
    found = precision.faster(ORDER, FACTS, Here(), SHORT, lambda text: None)
    (kept,) = (tmp_path / "cache").glob("products-*.json")
    costs = precision.Costs(**json.loads(kept.read_text()))
    assert found == costs.faster and costs.fp32 > 0 and costs.bf16 > 0
