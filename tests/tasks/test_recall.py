"""Recall of pairs: what is drawn is what Zoology defines, and only the answers at the asked places count."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import recall_checks as checks

from qkvlab import designs
from qkvlab.designs import catalogue
from qkvlab.tasks.recall import KEYS, PAIRS, TASK, TOKENS, WORDS, draw
from qkvlab.training.one import train_one_by_one
from qkvlab.training.recipe import Run, start
from qkvlab.training.together import train_together

SMALL = replace(TASK, exam=96, looked_at=4)


@pytest.fixture(scope="module")
def drawn():
    return draw(np.random.default_rng(3), 4000)


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda c: c.__name__)
def test_drawn_sequences(drawn, check):
    check(drawn)


def test_shapes(drawn):
    tokens, places = drawn.inputs
    assert tokens.shape == (4000, TOKENS) and places.shape == drawn.targets.shape == (4000, PAIRS)
    data = TASK.batches("conv", 0)
    steps = TASK.steps("conv")
    assert data.inputs[0].shape == (steps, TASK.batch, TOKENS) and data.targets.shape == (steps, TASK.batch, PAIRS)
    checks.oracle_makes_no_error(TASK.held_out("deep", 5))


def test_training_and_exam_are_different_draws_and_a_seed_fixes_both():
    train, exam = TASK.batches("conv", 0).inputs[0].reshape(-1, TOKENS), TASK.held_out("conv", 0).inputs[0]
    assert not {tuple(row) for row in train.tolist()} & {tuple(row) for row in exam.tolist()}
    assert (TASK.held_out("deep", 0).inputs[0] == exam).all()
    assert (TASK.held_out("conv", 1).inputs[0] != exam).any()


def test_naming_any_shown_value_errs_as_chance_says(drawn):
    error = float((drawn.targets[:, :1] != drawn.targets).mean())
    assert error == pytest.approx(TASK.chance("conv"))
    guess = np.random.default_rng(0).integers(0, PAIRS, drawn.targets.shape)
    error = float((np.take_along_axis(drawn.targets, guess, axis=1) != drawn.targets).mean())
    assert error == pytest.approx(TASK.chance("conv"), abs=0.02)


def test_given_vectors_keep_keys_and_values_apart():
    given = TASK.given("conv", 0)
    words = given["words"]
    assert words.shape == (WORDS, TASK.d_model)
    assert not words[:KEYS, 1::2].any() and not words[KEYS:, 0::2].any()
    assert np.square(words).mean() == pytest.approx(1, abs=0.01)
    nearest = (words @ words[:50].T).argmax(0)
    assert (nearest == np.arange(50)).all()
    assert given["local"].shape == (2, TASK.d_model) and "local" not in TASK.given("deep", 0)
    assert (TASK.given("deep", 0)["words"] == words).all()


@pytest.mark.parametrize("setting", TASK.settings())
@pytest.mark.parametrize("name", [*catalogue(), "QKV/kv2", "QKK/kv2", "QKV/h8"])
def test_parameters_are_those_of_the_model(setting, name):
    design = designs.parse(name)
    model = TASK.model(setting, design)
    assert TASK.parameters(setting, design) == sum(p.numel() for p in model.parameters())
    assert not model.words.requires_grad


def test_starts_where_the_task_says():
    model = start(TASK, "conv", designs.parse("QKV"), 4)
    for name, given in TASK.given("conv", 4).items():
        assert (dict(model.named_parameters())[name].detach().numpy() == given).all()


def test_facts_are_plain_data():
    for setting in TASK.settings():
        assert json.loads(json.dumps(TASK.facts(setting))) == TASK.facts(setting)
        assert TASK.facts(setting)["pairs"] == PAIRS and TASK.bar(setting) == 0.05
        words, title = TASK.describe(setting), TASK.title(setting).words
        assert words.zh and words.en and title.zh and title.en


def answering(change=lambda answers: answers):
    """Make a `Call` whose models answer as the oracle does, after a change."""

    def call(method: str, *inputs: np.ndarray) -> np.ndarray:
        if method == "own":
            own = np.zeros((len(inputs[0]), 2, *inputs[0].shape[1:]), dtype=np.float32)
            own[..., 0], own[:, 1, :, 1::2] = 1, 1  # the first token, and in the second layer every other one
            return own
        answers = np.array([checks.oracle(t, p) for t, p in zip(*inputs, strict=True)])
        return np.eye(WORDS, dtype=np.float32)[change(answers)]

    return call


def test_the_exam_counts_every_question_once():
    def third_wrong(answers):
        return np.where(np.arange(PAIRS) == 2, (answers + 1) % WORDS, answers)

    right = SMALL.measure("conv", [0, 1], answering())
    assert [row["error"] for row in right] == [0, 0]
    assert [row["error"] for row in SMALL.measure("conv", [0, 1], answering(third_wrong))] == [0.25, 0.25]
    assert [row["error"] for row in SMALL.measure("conv", [2], answering(lambda a: (a + 1) % WORDS))] == [1]


def test_models_without_numbers_have_no_error_rate():
    call = answering()

    def broken(method: str, *inputs: np.ndarray) -> np.ndarray:
        logits = call(method, *inputs).copy()
        logits[1] = np.nan
        return logits

    first, second = SMALL.measure("conv", [0, 1], broken)
    assert first["error"] == 0 and np.isnan(second["error"])


def test_own_rows_leave_the_first_token_out():
    (row,) = SMALL.measure("deep", [0], answering())
    assert row["own_1"] == 0 and row["own_2"] == pytest.approx(32 / 63)
    (row,) = SMALL.before("deep", [0], answering())
    assert row.keys() == {"own_1_before", "own_2_before"}


@pytest.mark.parametrize(("setting", "name"), [("conv", "QKV"), ("deep", "QQV/noself")])
def test_batched_is_one_by_one(setting, name):
    task, runs = replace(SMALL, batch=4), [Run(0, 0.01), Run(1, 0.02)]
    many = train_together(task, setting, designs.parse(name), runs, steps=4)
    for a, b in zip(many, train_one_by_one(task, setting, designs.parse(name), runs, steps=4), strict=True):
        assert a.losses == pytest.approx(b.losses, abs=1e-4)
        assert a.metrics == pytest.approx(b.metrics, abs=0.05)
