"""The trial picks what was fastest, remembers it, and survives whatever lies in the cache."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import platformdirs
import pytest

from qkvlab.training import layout, place
from qkvlab.training.device import CPU, Devices
from qkvlab.training.faults import Lost, OutOfMemory
from qkvlab.training.layout import CARD_GROUPS, CARD_UNIT, GROUPS, Compiled, Layout
from qkvlab.training.place import Here
from qkvlab.training.workers import Order, Speed

ORDER = Order("library", "synonym/fixed", "QKV", ((0, 0.001), (1, 0.003)))
FACTS = {"d_model": 96, "steps": 200}
LONG = {"model_steps": 3000.0 * layout.WORTH}


class MockedWorkers:
    """Workers whose speed is a function."""

    speed: Callable[[int, int, int], float]
    compiled: Speed
    made: list[MockedWorkers]

    def __init__(self, processes: int, threads: int) -> None:
        self.processes, self.threads, self.closed = processes, threads, False
        self.asked: list[tuple[int, int, int]] = []
        MockedWorkers.made.append(self)

    def rate(self, order: Order, threads: int, *, everywhere: bool, seconds: float) -> Speed:
        assert not self.closed
        shape = (self.processes if everywhere else 1, threads, len(order.runs))
        self.asked.append(shape)
        assert {lr for _, lr in order.runs} <= {lr for _, lr in ORDER.runs}
        if order.unit:
            assert len(order.runs) == order.unit and threads == self.threads
            return MockedWorkers.compiled
        return Speed(MockedWorkers.speed(*shape), cost=0.002)

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """Two cores, an empty cache, and workers that measure nothing."""
    monkeypatch.setattr(Here, "pool", lambda self, processes, threads: MockedWorkers(processes, threads))
    monkeypatch.setattr(place, "cores", lambda: 2)
    monkeypatch.setattr(layout, "cores", lambda: 2)
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda *a, **k: str(tmp_path / "cache"))
    MockedWorkers.made = []
    MockedWorkers.compiled = Speed(10.0, cost=0.001, ready=20.0)
    MockedWorkers.speed = lambda processes, threads, group: processes * 1000 + group
    return tmp_path / "cache"


def cached(machine):
    (path,) = machine.iterdir()
    return path


@pytest.mark.parametrize(
    "best", [(processes, threads, size) for processes, threads in ((2, 1), (1, 2)) for size in GROUPS]
)
def test_the_fastest_is_taken(best):
    MockedWorkers.speed = lambda *shape: 1200.0 if shape == best else 1000.0 - shape[2]
    told: list[str] = []
    found, workers = layout.find(ORDER, FACTS, told.append)
    assert found == Layout(*best, rate=1200.0)
    assert (workers.processes, workers.threads, workers.closed) == (*best[:2], False)
    assert all(w.closed for w in MockedWorkers.made if w is not workers)
    assert len(told) == 2 * len(GROUPS) == len(MockedWorkers.made[0].asked)
    assert sorted(MockedWorkers.made[0].asked) == sorted((p, t, g) for p, t in ((2, 1), (1, 2)) for g in GROUPS)


def test_a_card_is_tried_with_more_models_at_once():
    order, place = replace(ORDER, device="cuda"), Here(Devices("cuda"))
    found, workers = layout.find(order, FACTS, place=place, **LONG)
    tried = [size for _, _, size in workers.asked]
    assert tuple(tried[: len(CARD_GROUPS)]) == CARD_GROUPS and found.group == max(CARD_GROUPS)
    assert found.compiled == Compiled(CARD_UNIT, gain=2.0, seconds=20.0)


def test_groups_that_have_left_the_caches_end_the_trial():
    MockedWorkers.speed = lambda processes, threads, group: {4: 900.0, 8: 1000.0, 12: 850.0, 16: 700.0}[group]
    found, _ = layout.find(ORDER, FACTS)
    assert found.group == 8
    assert [group for _, _, group in MockedWorkers.made[0].asked] == [4, 8, 12, 16] * 2


@pytest.mark.parametrize(("best", "kept"), [((2, 1, 8), True), ((1, 2, 8), False)])
def test_idle_workers_of_another_task_serve_again_where_they_fit(best, kept):
    MockedWorkers.speed = lambda *shape: 2000.0 if shape == best else 1000.0
    idle = MockedWorkers(2, 1)
    _, workers = layout.find(ORDER, FACTS, workers=idle)
    assert (workers is idle) is kept and idle.closed is not kept and not workers.closed


def test_the_answer_is_remembered(machine):
    found, _ = layout.find(ORDER, FACTS)
    again, workers = layout.find(ORDER, FACTS)
    assert found.measured and not again.measured
    assert (again.processes, again.threads, again.group, again.rate) == (2, 1, max(GROUPS), found.rate)
    assert workers.asked == [] and len(list(machine.iterdir())) == 1


@pytest.mark.parametrize("other", [{**FACTS, "d_model": 64}, {}])
def test_other_sizes_are_tried_for_themselves(other):
    layout.find(ORDER, FACTS)
    found, workers = layout.find(ORDER, other)
    assert found.measured and workers.asked


def test_another_torch_is_tried_for_itself(monkeypatch):
    layout.find(ORDER, FACTS)
    monkeypatch.setattr(layout, "version", lambda package: "99")
    assert layout.find(ORDER, FACTS)[0].measured


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "[]", "17", '"x"', "{}", '{"processes": 2}', '{"cores": 2, "rate": 1}', "\0\0\0", "\udcff\udcfe"],
)
def test_a_broken_cache_is_measured_anew_and_mended(machine, text):
    layout.find(ORDER, FACTS)
    cached(machine).write_bytes(text.encode(errors="surrogateescape"))
    found, _ = layout.find(ORDER, FACTS)
    assert found.measured and json.loads(cached(machine).read_text())["group"] == found.group
    assert not layout.find(ORDER, FACTS)[0].measured


@pytest.mark.parametrize(
    ("field", "value"),
    [("processes", 0), ("threads", "1"), ("group", -8), ("group", None), ("rate", 0.0), ("compiled", {"unit": 4})],
)
def test_a_cache_that_nobody_can_mean(machine, field, value):
    layout.find(ORDER, FACTS)
    path = cached(machine)
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    assert layout.find(ORDER, FACTS)[0].measured


def test_a_cache_of_a_larger_machine_is_not_used(machine, monkeypatch):
    layout.find(ORDER, FACTS)
    path = cached(machine)
    path.write_text(json.dumps({**json.loads(path.read_text()), "processes": 64}))
    found, workers = layout.find(ORDER, FACTS)
    assert found.measured and workers.processes <= 2


def test_without_a_place_for_the_cache_it_tries_every_time(machine):
    machine.parent.mkdir(exist_ok=True)
    machine.write_text("a file where the folder should be")
    for _ in range(2):
        assert layout.find(ORDER, FACTS)[0].measured
    assert machine.read_text() == "a file where the folder should be"


@pytest.mark.parametrize(
    ("devices", "workers", "shapes"),
    [
        (CPU, None, [(2, 1), (1, 2)]),
        (CPU, 1, [(1, 1), (1, 2)]),
        (CPU, 2, [(2, 1)]),
        (CPU, 5, [(5, 1)]),
        (Devices("mps"), None, [(1, 1)]),
        (Devices("cuda"), None, [(1, 1)]),
        (Devices("cuda"), 2, [(2, 1)]),
        (Devices("cuda", (0, 2, 3)), None, [(3, 1)]),
        (Devices("cuda", (0, 2, 3)), 6, [(6, 1)]),
    ],
)
def test_shapes_that_are_tried(devices, workers, shapes):
    found, made = layout.find(replace(ORDER, device=devices.kind), FACTS, place=Here(devices, workers))
    assert (found.processes, found.threads) in shapes and made.processes == found.processes
    asked = {(processes, threads) for processes, threads, _ in MockedWorkers.made[0].asked}
    assert asked == set(shapes)


def test_each_number_of_workers_is_remembered_for_itself(machine):
    places = [Here(), Here(workers=1), Here(workers=2), Here(Devices("cuda")), Here(Devices("cuda", (0, 1)))]
    for turn in (True, False):
        for where in places:
            found, _ = layout.find(replace(ORDER, device=where.kind), FACTS, place=where)
            assert found.measured is turn
            assert where.workers in (None, found.processes)
    assert len(list(machine.iterdir())) == len(places)


@pytest.mark.parametrize(("room", "group"), [(12, 12), (5, 4), (3, 1)])
def test_groups_that_memory_does_not_hold_end_the_trial(room, group):
    def speed(processes, threads, size):
        if size > room:
            raise OutOfMemory("full")
        return 1000.0 + size

    MockedWorkers.speed = speed
    found, workers = layout.find(ORDER, FACTS)
    assert found.group == group and not workers.closed


@pytest.mark.parametrize(("losses", "group", "remembered"), [(1, max(GROUPS), True), (2, 8, False)])
def test_a_trial_survives_one_lost_worker_and_is_not_remembered_after_two(machine, losses, group, remembered):
    left = [losses]

    def speed(processes, threads, size):
        if size == 12 and left[0]:
            left[0] -= 1
            raise Lost("died")
        return 1000.0 * processes + size

    MockedWorkers.speed = speed
    found, workers = layout.find(ORDER, FACTS)
    assert (found.processes, found.group, workers.closed) == (2, group, False)
    assert machine.exists() is remembered


def test_where_every_trial_loses_its_worker_one_model_is_trained_at_a_time(machine):
    def speed(*shape):
        raise Lost("died")

    MockedWorkers.speed = speed
    found, workers = layout.find(ORDER, FACTS, model_steps=1e9)
    assert (found.group, found.compiled, workers.closed) == (1, None, False) and not machine.exists()


def test_a_trial_that_fails_closes_its_workers():
    def speed(*shape):
        raise ValueError("a bug of ours")

    MockedWorkers.speed = speed
    with pytest.raises(ValueError, match="a bug of ours"):
        layout.find(ORDER, FACTS, workers=MockedWorkers(2, 1))
    assert all(made.closed for made in MockedWorkers.made)


# Compiled steps: tried where they can pay, used where they are predicted to


def test_compiling_is_tried_where_so_much_is_to_be_trained_and_remembered():
    found, _ = layout.find(ORDER, FACTS, **LONG)
    assert found.compiled == Compiled(layout.UNIT, gain=2.0, seconds=20.0)
    MockedWorkers.compiled = Speed(1.0)  # must not be asked again
    again, workers = layout.find(ORDER, FACTS, **LONG)
    assert again.compiled == found.compiled and workers.asked == []


@pytest.mark.parametrize("little", [{"model_steps": 1000.0}, {**LONG, "seconds": layout.WORTH / 2}])
def test_a_short_study_does_not_compile_and_a_long_one_after_it_does(little):
    found, _ = layout.find(ORDER, FACTS, **little)
    assert found.compiled is None
    found, later = layout.find(ORDER, FACTS, **LONG)
    assert found.compiled is not None and not found.measured and len(later.asked) == 2


def test_without_a_compiler_the_layout_is_plain_says_why_and_is_tried_another_time():
    MockedWorkers.compiled = Speed(10.0, 0.002, 1.0, "no C++ compiler")
    told: list[str] = []
    found, _ = layout.find(ORDER, FACTS, told.append, **LONG)
    assert found.compiled is None and "no C++ compiler" in told[-1]
    MockedWorkers.compiled = Speed(10.0, 0.001, 20.0)
    assert layout.find(ORDER, FACTS, **LONG)[0].compiled is not None


def test_cores_that_this_process_may_use(monkeypatch):
    monkeypatch.undo()
    import os

    assert 1 <= layout.cores() <= (os.cpu_count() or 1)
