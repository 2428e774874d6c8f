"""What befalls a study: lost workers, little memory, full disks. It goes on or stops with a line, and loses nothing."""

from __future__ import annotations

import random
import resource
from concurrent.futures import Future
from dataclasses import replace

import pytest
from made_up import FakeWorkers, World, delivery, rows, rows_of, spec

from qkvlab import report
from qkvlab.errors import StoreError, WorkerError
from qkvlab.study import run as runs
from qkvlab.study.decisions import Findings
from qkvlab.study.recovery import FACTOR, LOSSES, PATIENCE, Recovery
from qkvlab.study.registration import register
from qkvlab.study.run import run
from qkvlab.study.schedule import due
from qkvlab.study.store import Store
from qkvlab.training.faults import Lost, OutOfMemory
from qkvlab.training.layout import Compiled, Layout

WORLD = World(means={"XXV": 0.5, "QQV": 0.12}, noise=0.06, diverges={"XXV": 0.05})


class Faulty(FakeWorkers):
    """Workers to whom what `fault` says happens: None is a group that is trained."""

    fault = staticmethod(lambda order, nth: None)

    def __init__(self, world):
        super().__init__(world)
        self.limits: list[float] = []

    def train(self, order, limit):
        self.orders.append(order)
        self.limits.append(limit)
        future: Future = Future()
        error = type(self).fault(order, len(self.orders))
        if error is None:
            future.set_result(delivery(order, self.world))
        else:
            future.set_exception(error)
        return future


@pytest.fixture
def faulty(workers):
    """Give the runner workers with faults; returns those that were made."""

    def use(fault, size: int = 8):
        return workers(WORLD, type("Faulty", (Faulty,), {"fault": staticmethod(fault)}), size)

    return use


def lost(order, nth):
    return Lost("a worker process died (signal 9)")


@pytest.mark.parametrize("seed", range(4))
def test_workers_lost_at_random_change_no_verdict(tmp_path, faulty, seed):
    rng, told = random.Random(seed), []
    faulty(lambda order, nth: lost(order, nth) if rng.random() < 0.2 else None)
    findings = run(spec(), tmp_path, tell=told.append)
    assert rows(findings) == rows_of(WORLD)
    assert told[-1].lost >= 1
    with Store.read(tmp_path) as store:
        assert store.aside() == [] and len(store.results()) == len(findings.results) == told[-1].finished


@pytest.mark.parametrize("room", [1, 2, 3, 5])
def test_groups_too_large_for_memory_are_halved(tmp_path, faulty, room):
    made = faulty(lambda order, nth: OutOfMemory("full") if order.at_once > room else None)
    findings = run(spec(), tmp_path)
    assert rows(findings) == rows_of(WORLD)
    assert max(result.group for result in findings.results.values()) <= room
    refused = [order for order in made[0].orders if order.at_once > room]
    assert len(refused) <= 4 * made[0].processes  # those that were under way at each of at most three sizes


def test_one_model_too_large_for_memory_stops_with_what_to_do(tmp_path, faulty):
    made = faulty(lambda order, nth: OutOfMemory("can't allocate memory") if order.design == "XXV" else None)
    with pytest.raises(
        WorkerError, match=r"XXV on .* trained one at a time \(can't allocate memory\).*--workers.*same command"
    ):
        run(spec(), tmp_path)
    assert made[0].closed
    held(tmp_path, made[0], lambda order: order.design != "XXV")
    faulty(lambda order, nth: None)
    assert rows(run(spec(), tmp_path)) == rows_of(WORLD)


def test_a_group_that_always_loses_its_worker_runs_in_halves_and_then_stops(tmp_path, faulty):
    """As under a system that ends processes for want of memory: no error says so, and smaller groups are what helps."""
    faulty(lambda order, nth: lost(order, nth) if order.at_once > 3 else None)
    findings = run(spec(), tmp_path / "a")
    assert rows(findings) == rows_of(WORLD)
    assert max(result.group for result in findings.results.values()) <= 3

    made = faulty(lambda order, nth: lost(order, nth) if order.design == "QQV" else None)
    with pytest.raises(WorkerError, match=r"QQV on same-word/fixed lost its worker \d times: .*signal 9.*--workers"):
        run(spec(), tmp_path / "b")
    mine = [run for order in made[-1].orders if order.design == "QQV" for run in order.runs]
    assert max(map(mine.count, mine)) <= LOSSES + 4, "a bounded number of times"
    held(tmp_path / "b", made[-1], lambda order: order.design != "QQV")


def held(folder, workers, delivered) -> None:
    """Hold what is stored against what was delivered: all but the groups that were under way when the study stopped."""
    with Store.read(folder) as store:
        stored = {(r.cell.design, r.cell.seed, r.cell.lr) for r in store.results()}
    whole = [{(order.design, *one) for one in order.runs} for order in workers.orders if delivered(order)]
    assert stored and stored <= set().union(*whole)
    assert sum(not group <= stored for group in whole) < 2 * workers.processes


def test_an_error_that_is_no_fault_of_a_worker_passes(tmp_path, faulty):
    made = faulty(lambda order, nth: ZeroDivisionError("a bug of ours") if nth == 5 else None)
    with pytest.raises(ZeroDivisionError):
        run(spec(), tmp_path)
    assert made[0].closed
    held(tmp_path, made[0], lambda order: True)


def test_deadlines_follow_the_slowest_models():
    findings = Findings(register(spec()))
    (group, *_) = due(findings, (), lambda task: 8)
    trial, memory = Layout(processes=2, threads=1, group=8, rate=50.0), Recovery()
    models, steps = len(group.cells), 200
    assert memory.deadline(group, trial) == PATIENCE + FACTOR * models * steps / (50.0 / 2)
    compiled = replace(trial, compiled=Compiled(4, gain=2.0, seconds=20.0))
    assert memory.deadline(group, compiled) == memory.deadline(group, trial) + FACTOR * 20.0
    for seconds in (8.0, 4.0):  # the slowest counts
        memory.finished(group, seconds)
    assert memory.deadline(group, trial) == PATIENCE + FACTOR * 8.0


def test_a_group_is_given_its_deadline(tmp_path, faulty):
    made = faulty(lambda order, nth: None)
    run(spec(), tmp_path)
    first, *_, last = made[0].limits
    assert first == PATIENCE + FACTOR * len(made[0].orders[0].runs) * 200 / (100.0 / 2)
    assert last == PATIENCE + FACTOR * 0.01  # what the made-up workers say they take


# Disks


@pytest.fixture
def room():
    """Let a test take the room for files away and give it back."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda limit=soft: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_under_the_store(tmp_path, faulty, monkeypatch):
    faulty(lambda order, nth: None)
    open_store = Store.create_or_continue.__func__

    def narrow(cls, folder, registration):
        store = open_store(cls, folder, registration)
        (pages,) = store._db.execute("PRAGMA page_count").fetchone()
        store._db.execute(f"PRAGMA max_page_count={pages + 6}")
        return store

    with monkeypatch.context() as here:
        here.setattr(Store, "create_or_continue", classmethod(narrow))
        with pytest.raises(StoreError, match=r"the disk is full; everything stored before is safe.*same command"):
            run(spec(), tmp_path)
    with Store.read(tmp_path) as store:
        before = store.results()
    assert before
    findings = run(spec(), tmp_path)
    assert {r.cell: r for r in before}.items() <= findings.results.items()
    assert rows(findings) == rows_of(WORLD)


def test_a_full_disk_under_the_weights(tmp_path, faulty, monkeypatch, room):
    """The refusal is the system's own, at the moment when a model is written."""
    faulty(lambda order, nth: None)
    study, save = spec(settings=("synonym/fixed",)), runs.weights.save

    def narrow(*arguments):
        room(50)
        try:
            return save(*arguments)
        finally:
            room()

    with monkeypatch.context() as here:
        here.setattr(runs.weights, "save", narrow)
        with pytest.raises(StoreError, match=r"cannot write .*safetensors: .*File too large.*free space"):
            run(study, tmp_path)
    with Store.read(tmp_path) as store:
        before = store.results()
    assert before and not [path for path in (tmp_path / "models").rglob("*") if path.is_file()]
    findings = run(study, tmp_path)
    assert {r.cell: r for r in before}.items() <= findings.results.items()
    assert len(list((tmp_path / "models").rglob("*.safetensors"))) == len(findings.registration["designs"])


def test_a_full_disk_under_the_report(tmp_path, faulty, room):
    faulty(lambda order, nth: None)
    run(spec(), tmp_path)
    content = (tmp_path / "study.db").read_bytes()
    room(1000)
    with pytest.raises(StoreError, match=r"cannot write .*: File too large; free space"):
        report.write(tmp_path)
    room()
    assert (tmp_path / "study.db").read_bytes() == content and not list(tmp_path.rglob("*.part"))
    assert report.write(tmp_path).report.exists()
