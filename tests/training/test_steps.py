"""Compiled steps are the plain steps, to rounding, for every design; without a compiler they are the plain steps."""

from __future__ import annotations

import pytest
import torch

from qkvlab import designs
from qkvlab.tasks.library import TASK
from qkvlab.training import steps, together
from qkvlab.training.recipe import Run
from qkvlab.training.together import Together, train_compiled, train_together
from qkvlab.training.workers import Order, train

RUNS = [Run(0, 0.003), Run(1, 0.01), Run(2, 0.01)]
SETTING = "synonym/learned"


@pytest.fixture(autouse=True)
def nothing_compiled(monkeypatch):
    """Each test begins as a fresh process."""
    monkeypatch.setattr(together, "_programs", {})


@pytest.fixture
def no_compiler():
    """A machine without a C++ compiler and without anything that was compiled before."""
    with torch._inductor.config.patch({"cpp.cxx": (None, "no-such-compiler"), "force_disable_caches": True}):
        yield


def gap(many, alone):
    """Return the largest difference of losses and weights."""
    pairs = list(zip(many, alone, strict=True))
    losses = max(abs(x - y) for a, b in pairs for x, y in zip(a.losses, b.losses, strict=True))
    return max(losses, *(float((a.state[n] - b.state[n]).abs().max()) for a, b in pairs for n in a.state))


def agree(name, unit=2, count=5):
    """Hold compiled against plain training: three runs in units of two, so that the last unit is filled up."""
    design = designs.parse(name)
    made = train_compiled(TASK, SETTING, design, RUNS, unit=unit, steps=count)
    plain = train_together(TASK, SETTING, design, RUNS, steps=count)
    assert made.remark == "" and made.compiling > 0 and len(made.trained) == len(RUNS)
    assert gap(made.trained, plain) < 1e-5
    for a, b in zip(made.trained, plain, strict=True):
        assert a.metrics == pytest.approx(b.metrics, abs=2e-3) and not a.diverged


@pytest.mark.parametrize("name", ["QKV", "QQV/noself", "QKV/qknorm"])
def test_compiled_is_plain_to_rounding(name):
    agree(name)


def test_planted_step_that_forgets_a_gradient_is_caught(monkeypatch):
    plain = steps.plain

    def wrong(skeleton):
        step = plain(skeleton)

        def broken(own, rest, targets, *inputs):
            gradients, loss = step(own, rest, targets, *inputs)
            first = next(iter(gradients))
            return {**gradients, first: gradients[first] * 0}, loss

        return broken

    monkeypatch.setattr(together, "compiled", lambda step, *given: wrong(GROUP.skeleton))
    GROUP = Together(TASK, SETTING, designs.parse("QKV"), RUNS[:2])
    with pytest.raises(AssertionError):
        agree("QKV")


def test_a_program_is_compiled_once_and_serves_other_seeds_and_rates(monkeypatch):
    asked = []
    monkeypatch.setattr(together, "compiled", lambda step, *given: asked.append(1) or step)
    for begin in (0, 7):
        runs = [Run(begin + i, 0.01 / (i + 1)) for i in range(3)]
        train_compiled(TASK, SETTING, designs.parse("QKV"), runs, unit=2, steps=1)
    assert len(asked) == 1
    train_compiled(TASK, SETTING, designs.parse("QQV"), RUNS, unit=2, steps=1)
    train_compiled(TASK, "directed/learned", designs.parse("QKV"), RUNS, unit=2, steps=1)
    train_compiled(TASK, SETTING, designs.parse("QKV"), RUNS, unit=3, steps=1)
    assert len(asked) == 4


def test_without_a_compiler_steps_are_plain_to_the_bit_and_it_is_said(no_compiler):
    design = designs.parse("QKV")
    made = train_compiled(TASK, SETTING, design, RUNS, unit=3, steps=3)
    assert "no-such-compiler" in made.remark and "\n" not in made.remark
    plain = train_together(TASK, SETTING, design, RUNS, steps=3)
    assert gap(made.trained, plain) == 0


def test_a_worker_says_whether_it_compiled(no_compiler, monkeypatch):
    monkeypatch.setattr(type(TASK), "steps", lambda self, setting: 3)
    order = Order("library", "synonym/fixed", "QKV", ((0, 0.01), (1, 0.01)), keep=(1,))
    plain = train(order)
    tried = train(Order(**{**vars(order), "unit": 2}))
    assert plain.remark == "" and "no-such-compiler" in tried.remark
    assert "compiled" not in plain.versions and "compiled" not in tried.versions
    assert plain.losses == tried.losses and plain.models == tried.models == 2
    monkeypatch.setattr(together, "_programs", {})
    monkeypatch.setattr(together, "compiled", lambda step, *given: step)
    assert train(Order(**{**vars(order), "unit": 1})).versions["compiled"] == "QKV"
