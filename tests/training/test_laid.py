"""Designs trained by the program of another are the designs trained by themselves, to rounding."""

from __future__ import annotations

import pytest
import torch

from qkvlab import designs, tasks
from qkvlab.designs import laying
from qkvlab.designs.ways import PATTERNS
from qkvlab.training import laid, recipe, steps, together
from qkvlab.training.laid import Laid
from qkvlab.training.recipe import Run
from qkvlab.training.together import Together, train_compiled, train_together
from qkvlab.training.workers import Order, train

RUNS = [Run(0, 0.003), Run(1, 0.01), Run(2, 0.01)]
STEPS = 20
TASKS = {"library": "synonym/learned", "sentence": "two-layers/positions"}
EXACT = 1e-5
MADE = 5e-5
"""Where a matrix of the host is a product, gradients are rounded once more; AdamW divides small ones by their size."""


@pytest.fixture(autouse=True)
def programs(monkeypatch):
    """A process that compiled nothing yet, whose programs are the steps that they are traced from; return those."""
    asked = []
    monkeypatch.setattr(together, "_programs", {})
    monkeypatch.setattr(together, "compiled", lambda step, *given: asked.append(step) or step)
    return asked


def host_of(task, setting, design):
    found = laying.host(design, task.network(setting, design).dims)
    assert found is not None
    return found


def both(name, *, task="library", runs=RUNS, steps=STEPS, unit=3):
    """Train by the host's program and by plain steps of the design's own."""
    found, setting, design = tasks.find(task), TASKS[task], designs.parse(name)
    made = train_compiled(found, setting, design, runs, unit=unit, host=host_of(found, setting, design), steps=steps)
    assert made.remark == ""
    return made.trained, train_together(found, setting, design, runs, steps=steps)


def gap(many, others):
    pairs = list(zip(many, others, strict=True))
    assert all(a.state.keys() == b.state.keys() for a, b in pairs)
    losses = max(abs(x - y) for a, b in pairs for x, y in zip(a.losses, b.losses, strict=True))
    return max(losses, *(float((a.state[n] - b.state[n]).abs().max()) for a, b in pairs for n in a.state))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", [p for p in PATTERNS if p != "QKV"] + ["uniform", "frozen", "QDQ", "QQV/noself"])
def test_laid_is_by_itself(name, task):
    made, alone = both(name, task=task)
    assert gap(made, alone) < EXACT
    for a, b in zip(made, alone, strict=True):
        assert a.metrics == pytest.approx(b.metrics, abs=2e-3) and not a.diverged


@pytest.mark.parametrize("name", ["QMQ", "QJQ", "QQV/rank8", "QKV/kv2", "QKK/kv1", "QQV/qknorm/rope"])
def test_matrices_that_are_made_are_trained_through(name):
    assert gap(*both(name, task="sentence")) < MADE


def test_the_last_unit_is_filled_up():
    assert gap(*both("QQV", unit=2)) < EXACT


def test_one_program_serves_all(programs):
    for name in ("XXV", "QQV", "frozen", "uniform", "QQV"):
        both(name, steps=1)
    assert len(programs) == 1
    train_compiled(tasks.find("library"), TASKS["library"], designs.parse("QKV"), RUNS, unit=3, steps=1)
    assert len(programs) == 1
    both("QQV/noself", steps=1)
    assert len(programs) == 2


def test_a_model_that_diverges_disturbs_nobody():
    runs = [RUNS[0], Run(1, 1e6), RUNS[2]]
    wild, alone = both("QQV", runs=runs, steps=40)
    healthy, _ = both("QQV", steps=40)
    assert [t.diverged for t in wild] == [t.diverged for t in alone] == [False, True, False]
    for i in (0, 2):
        assert gap([wild[i]], [healthy[i]]) == 0, "its number entered another model"


def test_compiled_programs_serve_all_without_being_compiled_again(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(together, "_programs", {})
    made, make = [], steps.standalone_compile
    monkeypatch.setattr(steps, "standalone_compile", lambda *what, **how: made.append(what) or make(*what, **how))
    for name in ("QQQ", "XXV", "QDQ"):
        assert gap(*both(name)) < EXACT
    assert len(made) == 1


def test_a_worker_says_by_whose_program(monkeypatch):
    monkeypatch.setattr(type(tasks.find("library")), "steps", lambda self, setting: 3)
    order = Order("library", "synonym/fixed", "QQV", ((0, 0.01), (1, 0.01)), unit=2, program="QKV")
    assert train(order).versions["compiled"] == "QKV"
    assert train(Order(**{**vars(order), "program": ""})).versions["compiled"] == "QQV"


# What goes wrong is not used, and said


@pytest.mark.parametrize(("design", "host"), [("QQV", "QKV/noself"), ("QQV", "uniform"), ("QKV", "frozen")])
def test_a_host_that_computes_something_else_is_not_used(design, host):
    task, setting = tasks.find("sentence"), TASKS["sentence"]
    other = designs.parse(host)
    made = train_compiled(task, setting, designs.parse(design), RUNS, unit=3, host=other, steps=3)
    assert made.remark and "\n" not in made.remark
    assert gap(made.trained, train_together(task, setting, designs.parse(design), RUNS, steps=3)) == 0


def test_models_that_differ_in_more_are_refused():
    """With equal budgets the feed-forward parts have other widths."""
    task, setting = tasks.find("sentence"), "two-layers/positions/params"
    design = designs.parse("QQV")
    made = train_compiled(task, setting, design, RUNS[:1], unit=1, host=host_of(task, setting, design), steps=1)
    assert "more than how q, k and v are made" in made.remark


def planted_last_gradient_of_a_shared_matrix(monkeypatch):
    gathered = Laid._gathered

    def wrong(self, stacked, gradients):
        found = gathered(self, stacked, gradients)
        return {**found, **{source: gradients[name] for name, source in self._same.items() if name in gradients}}

    monkeypatch.setattr(Laid, "_gathered", wrong)
    return "QQV"


def planted_keys_for_values(monkeypatch):
    def wrong(design, dims, weights, identity):
        found = laying.lay(design, dims, weights, identity)
        return {**found, "k": found["v"], "v": found["k"]}

    monkeypatch.setattr(laid, "lay", wrong)
    return "XKV"


def planted_transposed_matrix(monkeypatch):
    def wrong(design, dims, weights, identity):
        found = laying.lay(design, dims, weights, identity)
        return {**found, "q": found["q"].mT}

    monkeypatch.setattr(laid, "lay", wrong)
    return "QQV"


@pytest.mark.parametrize(
    "plant", [planted_last_gradient_of_a_shared_matrix, planted_keys_for_values, planted_transposed_matrix]
)
def test_the_first_step_is_held_against_the_design_s_own(plant, monkeypatch):
    name = plant(monkeypatch)
    with pytest.raises(AssertionError, match="laid gradients differ"):
        both(name)
    monkeypatch.setattr(Laid, "require_equal", lambda self, *given: None)
    together._programs.clear()
    assert gap(*both(name)) > 10 * EXACT


def test_planted_identity_that_is_trained_is_caught(monkeypatch):
    """The plausible mistake: all that the host trains is trained."""
    step = Laid.step

    def wrong(self, program):
        def keeping(own, rest, *given):
            gradients, losses = program(own, rest, *given)
            for name, w in self._still.items():
                w -= 0.003 * gradients[name].sign()
            return gradients, losses

        return step(self, keeping)

    monkeypatch.setattr(Laid, "step", wrong)
    assert gap(*both("XKV")) > 10 * EXACT


def test_planted_norm_of_what_is_absent_too_is_caught(monkeypatch):
    """The plausible mistake: the host clips its own gradients, those of the identities among them."""
    step = Laid.step

    def wrong(self, program):
        def clipping(own, rest, *given):
            gradients, losses = program(own, rest, *given)
            norms = torch.stack([g.flatten(1).norm(dim=1) for g in gradients.values()]).norm(dim=0)
            clip = (recipe.CLIP / norms).clamp(max=1.0)
            return {n: g * clip.view(-1, *[1] * (g.ndim - 1)) for n, g in gradients.items()}, losses

        return step(self, clipping)

    monkeypatch.setattr(Laid, "require_equal", lambda self, *given: None)
    monkeypatch.setattr(Laid, "step", wrong)
    monkeypatch.setattr(recipe, "CLIP", 0.001)  # so that every step is clipped
    assert gap(*both("QXX", task="sentence")) > 5 * EXACT
    monkeypatch.setattr(Laid, "step", step)
    together._programs.clear()
    assert gap(*both("QXX", task="sentence")) < EXACT


def test_a_group_takes_the_host_s_step():
    group = Together(
        tasks.find("library"), TASKS["library"], designs.parse("QQV"), RUNS, compile=True, host=designs.parse("QKV")
    )
    assert group.remark == "" and group.take is next(s for k, s in together._programs.items() if k[-1] == "QQV")
