"""Compiled steps are the plain steps, to rounding, for every design; without a compiler they are the plain steps."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import replace

import pytest
import torch

from qkvlab import designs, tasks
from qkvlab.attention import native
from qkvlab.kernels import kernel
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


def test_processes_take_turns_at_the_same_program_and_not_at_another(monkeypatch):
    asked = []

    def watched(what):
        asked.append(what)
        return contextlib.nullcontext()

    monkeypatch.setattr(steps, "turn", watched)
    monkeypatch.setattr(steps, "standalone_compile", lambda graph, tensors, **how: graph)
    for name, runs in (("QKV", RUNS[:2]), ("QKV", [Run(7, 0.1), Run(8, 0.2)]), ("QQV", RUNS[:2]), ("QKV", RUNS)):
        monkeypatch.setattr(together, "_programs", {})
        train_compiled(TASK, SETTING, designs.parse(name), runs, unit=len(runs), steps=1)
    same, again, other, larger = asked
    assert same == again and len({same, other, larger}) == 3


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


SHORT = replace(tasks.find("text"), tokens=32, batch=4, d_model=32, heads=2, hidden=64, layers=1, train_steps=6)
"""Sequences of a length that has a kernel of its own."""


@pytest.fixture
def kernels(monkeypatch):
    """Every call of the kernel of short sequences, by the type of its numbers."""
    seen, forward = [], native.attend

    def watched(q, *given, **how):
        seen.append(q.dtype)
        return forward(q, *given, **how)

    monkeypatch.setattr(native, "attend", watched)
    return seen


@pytest.mark.parametrize("name", ["QKV", "QKK/kv1"])
def test_compiled_steps_over_short_sequences_take_the_kernel_and_are_plain_to_rounding(name, kernels):
    what = SHORT, "plain", designs.parse(name), RUNS
    plain = train_together(*what)
    assert not kernels, "plain steps multiply matrices"
    made = train_compiled(*what, unit=2)
    assert kernels and made.remark == ""
    for a, b in zip(made.trained, plain, strict=True):
        assert a.losses == pytest.approx(b.losses, abs=1e-5)
        # AdamW moves a number at its rate however small the gradient is: where rounding decides about its sign, apart
        apart = [(a.state[name] - w).abs().flatten() > 1e-5 for name, w in b.state.items()]
        assert torch.cat(apart).float().mean() < 1e-3


@pytest.mark.parametrize("name", ["QKV", "QKK/kv1"])
def test_gradients_by_the_kernel_are_plain_to_rounding(name):
    given, found = None, []
    for compiles in (False, True):
        group = Together(SHORT, "plain", designs.parse(name), RUNS[:2], compile=compiles)
        given = given or group._given(0)
        assert group.remark == ""
        found.append(group.take(*given))
    (want, losses), (gradients, others) = found
    assert losses.tolist() == pytest.approx(others.tolist(), rel=1e-6)
    for part, gradient in want.items():
        assert float((gradients[part] - gradient).abs().max()) < 1e-5 * float(gradient.abs().max())


def test_without_the_kernels_compiler_steps_are_compiled_without_it(monkeypatch, kernels):
    monkeypatch.setattr(kernel, "compiler", lambda: None)
    for name in ("compiled", "works"):
        monkeypatch.setattr(kernel, name, functools.cache(getattr(kernel, name).__wrapped__))
    made = train_compiled(SHORT, "plain", designs.parse("QKV"), RUNS[:2], unit=2)
    assert not kernels and made.remark == "" and made.compiling > 0


@pytest.mark.parametrize("compiles", [False, True])
def test_products_in_bf16_and_nothing_else(compiles, kernels):
    what = SHORT, "plain", designs.parse("QKV"), RUNS[:2]

    def trained(products):
        if compiles:
            return train_compiled(*what, unit=2, products=products).trained
        return train_together(*what, products=products)

    full, half = trained("fp32"), trained("bf16")
    assert set(kernels) == ({torch.float32, torch.bfloat16} if compiles else set())
    for a, b in zip(full, half, strict=True):
        gaps = [abs(x - y) / x for x, y in zip(a.losses, b.losses, strict=True)]
        assert 1e-6 < max(gaps) < 0.01
        assert all(w.dtype == torch.float32 for w in b.state.values()), "weights stay in fp32"
    group = Together(*what, products="bf16")
    assert group.finish()[0].metrics == Together(*what).finish()[0].metrics, "exams are in fp32"


def test_a_program_serves_one_precision(monkeypatch):
    asked = []
    monkeypatch.setattr(together, "compiled", lambda step, *given: asked.append(1) or step)
    for products in ("fp32", "bf16", "fp32", "bf16"):
        train_compiled(SHORT, "plain", designs.parse("QKV"), RUNS[:2], unit=2, steps=1, products=products)
    assert len(asked) == 2
