"""The runner: what is due is trained, stored and decided; what stops it loses at most the batches in flight."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from made_up import POINTS, SETTING, FakeWorkers, World, delivery, layout, rows, rows_of, spec
from rich.console import Console

from qkvlab.cli.live import Live
from qkvlab.errors import BadInput, StoreError
from qkvlab.study import run as runs
from qkvlab.study import weights
from qkvlab.study.cells import Cell
from qkvlab.study.decisions import Findings
from qkvlab.study.progress import Progress
from qkvlab.study.registration import register
from qkvlab.study.run import run
from qkvlab.study.schedule import Group
from qkvlab.study.store import Store
from qkvlab.study.verdicts import document
from qkvlab.training.halving import STOPPED
from qkvlab.training.layout import Compiled

SHOWN = ("synonym/fixed",)
CALM = World()


def test_a_study_runs_to_its_end(tmp_path, workers):
    world = World(means={"XXV": 0.5}, noise=0.01)
    made, told = workers(world), []
    findings = run(spec(), tmp_path / "deep" / "folder", tell=told.append)
    assert all(v.decided for _, _, v in findings.comparisons())
    assert {v.verdict for _, _, v in findings.comparisons()} == {"equivalent", "worse"}
    assert rows(findings) == rows_of(world)
    with Store.read(tmp_path / "deep" / "folder") as store:
        assert store.results() == sorted(findings.results.values(), key=lambda r: r.cell)
        assert store.aside() == [] and store.registration == register(spec())
    assert made[0].closed and len(made) == 1
    assert isinstance(told[-1], Progress) and told[0].note and told[-1].left == 0
    assert told[-1].finished == len(findings.results)
    assert [p.finished for p in told] == sorted(p.finished for p in told)


def test_orders_say_the_precision_of_products(tmp_path, workers, monkeypatch):
    monkeypatch.setattr("qkvlab.tasks.library.Library.halves", True)
    for products in ("fp32", "bf16"):
        made = workers()
        run(spec(products=products), tmp_path / products)
        assert {order.products for order in made[-1].orders} == {products}


def test_running_again_finishes_at_once_without_workers(tmp_path, workers):
    world = World(means={"XXV": 0.5}, noise=0.01)
    made = workers(world)
    first = run(spec(), tmp_path)
    content = (tmp_path / "study.db").read_bytes()
    again = run(spec(), tmp_path)
    assert document(again) == document(first) and len(made) == 1
    assert (tmp_path / "study.db").read_bytes() == content


def test_results_carry_their_origin(tmp_path, workers):
    workers()
    plan = register(spec())
    for result in run(spec(), tmp_path).results.values():
        assert result.source == plan["source"] and result.device == "cpu"
        assert result.stopped or result.steps == plan["tasks"][0]["steps"] == 200
        assert set(result.versions) == {"qkvlab", "python", "torch", "numpy"}
        assert set(result.metrics) == ({STOPPED} if result.stopped else {"error", "coverage"})
        assert len(result.losses) == POINTS * result.steps // 200
        assert 1 <= result.group <= 8 and result.seconds > 0


def test_models_that_are_shown_are_kept_with_their_origin(tmp_path, workers):
    made = workers()
    study = spec(settings=(*SHOWN, "same-word/fixed"))
    findings = run(study, tmp_path)
    first = findings.registration["seeds"]["judge"][0]
    kept = {path.relative_to(tmp_path / "models").as_posix() for path in tmp_path.rglob("*.safetensors")}
    assert kept == {f"library/synonym-fixed/{name}.safetensors" for name in findings.registration["designs"]}
    for name in findings.registration["designs"]:
        state, origin = weights.load(weights.path_of(tmp_path, "library", *SHOWN, name))
        assert (state["words"] == first).all()  # the made-up weights say whose they are
        assert origin["seed"] == str(first) and origin["role"] == "judge" and origin["design"] == name
        assert origin["lr"] == str(findings.tuning(("library", *SHOWN)).chosen[name])
        assert origin["source"] == findings.registration["source"] and "torch" in origin["versions"]
    assert not list(tmp_path.rglob("*.part"))
    assert sum(len(order.keep) for order in made[0].orders) == len(kept)


def test_time_runs_out_and_the_same_command_goes_on(tmp_path, workers, monkeypatch):
    spent = [0.0]
    clock = SimpleNamespace(time=time.time, monotonic=lambda: spent[0])

    class Slow(FakeWorkers):
        def train(self, order, limit):
            spent[0] += 0.05  # seconds of the runner's clock, however busy the machine is
            return super().train(order, limit)

    world = World(means={"XXV": 0.5}, noise=0.01)
    monkeypatch.setattr(runs, "time", clock)
    made = workers(world, Slow, 4)
    done = [0]
    while True:
        spent[0] = 0.0
        findings = run(spec(), tmp_path, minutes=0.2 / 60)
        done.append(len(findings.results))
        assert done[-1] > done[-2]
        if all(v.decided for _, _, v in findings.comparisons()):
            break
        assert 4 <= len(made[-1].orders) <= 5  # what begins within the time, and nothing after it
    assert len(done) > 3
    assert rows(findings) == rows_of(world)


@pytest.mark.parametrize(("minutes", "begun"), [(0.6, 2), (2.0, 4)])
def test_a_group_that_waits_must_still_end_in_time(tmp_path, workers, minutes, begun):
    """By the trial a group of six takes 24 seconds of its worker, so those that wait for one end after 48."""

    class Watched(FakeWorkers):
        seen: tuple[int, ...] = ()

        def _deliver(self, order, future):
            time.sleep(0.5)  # longer than the runner takes to look for more
            self.seen += (len(self.orders),)
            super()._deliver(order, future)

    made = workers(CALM, Watched)
    run(spec(), tmp_path, minutes=minutes)
    assert made[0].seen[0] == begun


@pytest.mark.parametrize("minutes", [0, -1, float("nan"), float("inf"), -float("inf")])
def test_minutes_that_cannot_be_meant(tmp_path, minutes):
    with pytest.raises(BadInput, match="minutes must be a positive number"):
        run(spec(), tmp_path / "s", minutes=minutes)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("device", ["tpu", "", "cuda:x", "CPU", "cuda:99", "mps:7", "<script>"])
def test_devices_that_are_not_there(tmp_path, device, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(BadInput, match="device"):
        run(spec(), tmp_path / "s", device=device)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(("gain", "seconds", "pays"), [(10.0, 1e-6, True), (10.0, 1e6, False), (0.5, 1e-6, False)])
def test_steps_are_compiled_where_that_pays_and_stay_so(tmp_path, monkeypatch, gain, seconds, pays):
    workers, compiled = FakeWorkers(CALM), Compiled(unit=4, gain=gain, seconds=seconds)

    def find(order, facts, tell, idle, *, place, model_steps, seconds):
        assert model_steps > 0 and 0 < seconds <= 180
        return replace(layout(8), compiled=compiled), workers

    monkeypatch.setattr(runs.layouts, "find", find)
    run(spec(), tmp_path)
    assert {order.unit for order in workers.orders} == ({4} if pays else {0})
    assert {len(order.runs) for order in workers.orders} > {8}  # a worker cuts groups into units, nobody else


def test_one_program_trains_all_designs_that_it_can_hold(tmp_path, monkeypatch):
    workers, told = FakeWorkers(CALM), []
    compiled = Compiled(unit=4, gain=3.0, seconds=20.0)
    monkeypatch.setattr(runs.layouts, "find", lambda *given, **much: (replace(layout(8), compiled=compiled), workers))
    run(spec(designs=("QKV", "QQV", "XXV", "QKV/h16")), tmp_path, tell=told.append)
    named = {order.design: {o.program for o in workers.orders if o.design == order.design} for order in workers.orders}
    assert {name: programs for name, programs in named.items() if name != "QKV/h16"} == {
        name: {"QKV"} for name in ("QKV", "QQV", "XXV", "uniform")
    }
    assert named["QKV/h16"] <= {"QKV/h16", ""}
    assert {told[-1].programs[SETTING, name] for name in ("QQV", "uniform")} == {"QKV"}
    for lang, said in (("en", "x1 (by the program of QKV)"), ("zh", "x1（用 QKV 的程序）")):
        for name, shown in (("QQV", True), ("QKV", False)):
            group = Group((Cell(*SETTING, name, "judge", 1000, 0.01),), at_once=1)
            now = replace(told[-1], running=(group,), note="", layout=layout())
            assert (said in Live(Console(), lang)._line(now)) is shown


def test_why_steps_are_not_compiled_is_said(tmp_path, monkeypatch):
    class Without(FakeWorkers):
        def _deliver(self, order, future):
            future.set_result(replace(delivery(order, self.world), remark="no C++ compiler"))

    monkeypatch.setattr(runs.layouts, "find", lambda *given, **much: (layout(8), Without(CALM)))
    told: list[Progress] = []
    run(spec(), tmp_path, tell=told.append)
    assert told[0].remark == "" and told[-1].remark == "no C++ compiler"


def test_another_registration_is_refused(tmp_path, workers):
    workers()
    run(spec(), tmp_path)
    with pytest.raises(StoreError, match=r"alpha: registered 0\.05, asked 0\.1"):
        run(spec(alpha=0.1), tmp_path)


class Interrupted(FakeWorkers):
    """Ctrl-C while the fifth group is handed out."""

    def train(self, order, limit):
        if len(self.orders) == 5:
            raise KeyboardInterrupt
        return super().train(order, limit)


def test_an_interrupt_keeps_what_is_stored_and_ends_the_workers(tmp_path, workers):
    made = workers(kind=Interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(spec(), tmp_path)
    assert made[0].closed
    with Store.create_or_continue(tmp_path, register(spec())) as store:  # the lock was let go
        assert len(store.results()) < sum(len(order.runs) for order in made[0].orders)
    workers()
    findings = run(spec(), tmp_path)
    assert rows(findings) == rows_of(CALM)


def test_planted_results_in_order_of_completion_are_not_a_prefix(tmp_path, workers):
    """What the runner stores out of order must not be judged out of order."""
    workers(World(noise=0.2))
    findings = run(spec(judge_seeds=20), tmp_path)
    seeds = findings.registration["seeds"]["judge"]
    key = ("library", "same-word/fixed")
    gap = [r for r in findings.results.values() if r.cell.seed != seeds[0]]
    holed = Findings(findings.registration, gap)
    assert holed.outcomes(key, "QKV") == [] and findings.outcomes(key, "QKV") != []
    holed.add([r for r in findings.results.values() if r.cell.seed == seeds[0]])
    assert document(holed) == document(findings)


# Real training


TINY = {
    "designs": ("QKV", "XXV", "uniform"),
    "settings": SHOWN,
    "rates": (0.003,),
    "tune_seeds": (0,),
    "judge_seeds": 12,
    "alpha": 0.9,
}


def test_a_real_study_from_cold_to_verdict(tmp_path, quick_layout, monkeypatch):
    """A worker is killed on the way, and the study goes on to its end; then it finishes at once."""
    study, shot = spec(**TINY), set()
    quick_layout(study)

    def shoot(progress: Progress) -> None:
        if progress.finished and not shot:
            (worker,) = multiprocessing.active_children()
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
            shot.add(worker.pid)

    told: list[Progress] = []
    findings = run(study, tmp_path, tell=lambda progress: (shoot(progress), told.append(progress)))
    assert shot and told[-1].lost == 1
    rows = {row["design"]: row for row in document(findings)["comparisons"]}
    assert rows["XXV"]["verdict"] == rows["uniform"]["verdict"] == "worse"
    for result in findings.results.values():
        assert not result.diverged and len(result.losses) == 50 and result.versions["torch"]
        if result.cell.design == "uniform":
            assert abs(result.metrics["error"] - 0.875) < 0.06 and result.metrics["coverage"] == 0
        if result.cell.design == "QKV":
            assert result.metrics["error"] < 0.1 and result.losses[-1] < 0.5 < result.losses[0]

    for name in ("QKV", "XXV", "uniform"):  # what was kept is what was trained
        state, origin = weights.load(weights.path_of(tmp_path, "library", *SHOWN, name))
        assert state["words"].shape == (120, 96) and origin["design"] == name
    monkeypatch.setattr(runs.layouts, "find", None)  # it does not even start workers
    assert document(run(study, tmp_path)) == document(findings)
