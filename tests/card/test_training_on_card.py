"""Training on a card: as on the CPU, recorded as launched, and whole again after what can go wrong."""

from __future__ import annotations

import pytest
import torch

from qkvlab import designs, tasks
from qkvlab.study import recipes
from qkvlab.study.run import run
from qkvlab.study.spec import Spec
from qkvlab.study.verdicts import document
from qkvlab.training import layout
from qkvlab.training.device import parse
from qkvlab.training.faults import OutOfMemory
from qkvlab.training.halving import Contest, Halving, Rung
from qkvlab.training.place import Here
from qkvlab.training.recipe import Run
from qkvlab.training.recorded import WARM_UP
from qkvlab.training.together import Together, train_together
from qkvlab.training.tuning import train_rates
from qkvlab.training.workers import Order, answer, train

LIBRARY = tasks.find("library")
RUNS = [Run(0, 0.003), Run(1, 0.01), Run(0, 0.01)]
SETTINGS = {
    "library": "synonym/learned", "sentence": "one-layer/positions", "recall": "conv", "text": "plain",
}  # fmt: skip


def gap(a, b):
    losses = max(abs(x - y) for x, y in zip(a.losses, b.losses, strict=True))
    return max(losses, *(float((a.state[n] - b.state[n]).abs().max()) for n in a.state))


@pytest.mark.parametrize("name", recipes.find("article").designs)
@pytest.mark.parametrize("task", SETTINGS)
def test_as_on_the_cpu(task, name):
    found, setting, design = tasks.find(task), SETTINGS[task], designs.parse(name)
    here = train_together(found, setting, design, RUNS, steps=8)
    there = train_together(found, setting, design, RUNS, steps=8, device="cuda")
    for a, b in zip(here, there, strict=True):
        assert gap(a, b) < 2e-3 and a.diverged is b.diverged is False


@pytest.mark.parametrize("name", recipes.find("article").designs)
def test_recorded_steps_are_the_steps(name):
    groups = [Together(LIBRARY, "synonym/learned", designs.parse(name), RUNS, device="cuda") for _ in range(2)]
    groups[1]._move = groups[1]._moved
    for _ in range(WARM_UP + 12):
        for group in groups:
            group.step()
    assert groups[0]._move._graph is not None, "the step was not recorded"
    for a, b in zip(*(group.finish() for group in groups), strict=True):
        assert gap(a, b) < 1e-5


def test_planted_a_rate_that_is_recorded_too_is_caught(monkeypatch):
    from qkvlab.training.adamw import StackedAdamW

    scale = StackedAdamW.scale
    monkeypatch.setattr(StackedAdamW, "scale", lambda self, factor: scale(self, 1.0))
    fixed = Together(LIBRARY, "synonym/learned", designs.parse("QKV"), RUNS, device="cuda")
    for _ in range(15):
        fixed.step()
    monkeypatch.undo()
    other = train_together(LIBRARY, "synonym/learned", designs.parse("QKV"), RUNS, steps=15)
    assert any(gap(a, b) > 1e-3 for a, b in zip(fixed.finish(), other, strict=True))


def test_a_model_that_diverges_disturbs_nobody():
    design, calm = designs.parse("QKV"), [Run(1, 0.003), Run(2, 0.003)]
    wild = train_together(LIBRARY, "synonym/learned", design, [calm[0], Run(0, 1e38), calm[1]], steps=40, device="cuda")
    tame = train_together(LIBRARY, "synonym/learned", design, [calm[0], Run(0, 1e-3), calm[1]], steps=40, device="cuda")
    assert [one.diverged for one in wild] == [False, True, False]
    assert all(gap(a, b) < 1e-6 for a, b in zip(wild[::2], tame[::2], strict=True))


def test_compiled_steps():
    runs = [Run(seed, 0.003) for seed in range(4)]
    group = Together(tasks.find("text"), "plain", designs.parse("QKV"), runs, device="cuda", compile=True)
    plain = Together(tasks.find("text"), "plain", designs.parse("QKV"), runs, device="cuda")
    assert group.remark == ""
    for _ in range(8):
        group.step(), plain.step()
    assert group._move._graph is not None
    assert (group.losses[-1] - plain.losses[-1]).abs().max() < 1e-3


def test_rates_that_stop():
    contest = Contest(Halving((Rung(0.3, 0.8, 1.2), Rung(0.6, 0.05, 0.8)), window=0.1, enough=0.2))
    runs = [Run(seed, rate) for rate in (1e-5, 0.003, 0.01) for seed in (1001, 1002)]
    here, there = (
        train_rates(LIBRARY, "synonym/fixed", designs.parse("QKV"), runs, contest=contest, size=6, device=device)
        for device in ("cpu", "cuda")
    )
    assert [one.steps for one in here.trained] == [one.steps for one in there.trained]
    assert len({one.steps for one in here.trained}) > 1


def test_what_does_not_fit_says_so_and_less_of_it_fits():
    order = Order("text", "plain", "QKV", tuple((seed, 0.003) for seed in range(64)), device="cuda")
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.02)
    try:
        good, error = answer(train, (order,))
        assert not good and isinstance(error, OutOfMemory), error
        good, delivery = answer(train, (Order("text", "plain", "QKV", order.runs[:4], device="cuda"),))
        assert good and not any(delivery.diverged)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_a_layout_is_found(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(layout, "CARD_GROUPS", (8, 32))
    order = Order("library", "synonym/fixed", "QKV", ((0, 0.003),), device="cuda")
    found, workers = layout.find(order, {}, place=Here(parse("cuda")))
    workers.close()
    assert found.group in (8, 32) and found.rate > 0


def test_a_study_says_the_same_as_on_the_cpu(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(layout, "CARD_GROUPS", (8, 32))
    spec = Spec(recipe="card", designs=("QKV", "QQV", "XXV"), settings=("synonym/fixed",))
    here = document(run(spec, tmp_path / "cpu", minutes=5))
    there = document(run(spec, tmp_path / "card", minutes=5, device="cuda"))
    kinds = [[(v["design"], v["verdict"]) for v in said["comparisons"]] for said in (here, there)]
    assert kinds[0] == kinds[1] and len(kinds[0]) > 0
