"""The benchmark against Zoology: its examples are read as they are, asking at questions alone is its own loss."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "benchmarks"))

import zoology
import zoology_loop as loop
import zoology_task
from qkvlab import designs
from qkvlab.tasks.recall import TOKENS, WORDS, draw
from qkvlab.training.one import train_one_by_one
from qkvlab.training.recipe import Run, start
from qkvlab.training.together import train_together

BATCH, STEPS, EXAM = 4, 3, 6
QKV = designs.parse("QKV")


def given_out(drawn):
    """Give examples out as Zoology's loader does: a target at every place, mostly none."""
    targets = np.full(drawn.inputs[0].shape, loop.NOT_ASKED)
    np.put_along_axis(targets, drawn.inputs[1], drawn.targets, axis=1)
    segment = SimpleNamespace(inputs=torch.from_numpy(drawn.inputs[0]), labels=torch.from_numpy(targets))
    return SimpleNamespace(dataset=SimpleNamespace(segments=[segment]))


@pytest.fixture
def drawn():
    rng = np.random.default_rng(0)
    return draw(rng, BATCH * STEPS + 1), draw(rng, EXAM)  # one example more than whole steps


@pytest.fixture
def task(drawn, tmp_path):
    zoology_task.keep(tmp_path / "drawn.npz", *(given_out(part) for part in drawn))
    return zoology_task.Zoology(drawn=str(tmp_path / "drawn.npz"), batch=BATCH, exam=EXAM, epochs=2, looked_at=2)


def test_examples_come_in_the_order_in_which_zoology_gives_them_out_epoch_after_epoch(task, drawn):
    data, (training, _) = task.batches("deep", 0), drawn
    assert task.steps("deep") == 2 * STEPS == len(data.targets)
    tokens, places = (a.reshape(2, BATCH * STEPS, -1) for a in data.inputs)
    for epoch in range(2):
        assert (tokens[epoch] == training.inputs[0][:-1]).all()
        asked = np.sort(training.inputs[1][:-1], axis=1)
        assert (places[epoch] == asked).all()


@pytest.mark.parametrize("part", ["training", "exam"])
def test_every_question_keeps_its_answer(task, part):
    found = task.batches("deep", 0) if part == "training" else task.held_out("deep", 0)
    tokens, places, targets = (a.reshape(-1, a.shape[-1]) for a in (*found.inputs, found.targets))
    for row, asked, wanted in zip(tokens.tolist(), places.tolist(), targets.tolist(), strict=True):
        told = dict(zip(row[0:8:2], row[1:8:2], strict=True))
        assert [told[row[place]] for place in asked] == wanted


def test_its_model_learns_its_vectors_and_starts_where_zoologys_does(task):
    model = start(task, "deep", QKV, 0)
    assert model.words.requires_grad and model.words.shape == (WORDS, 64) and model.positions.shape == (TOKENS, 64)
    for vectors in (model.words, model.positions):
        assert float(vectors.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert not torch.equal(model.words, start(task, "deep", QKV, 1).words)
    assert task.network("deep", QKV).layers == len(model.blocks) == 2 and task.heads == 1


def test_the_engine_trains_it_as_one_by_one(task):
    runs = [Run(0, 0.01), Run(0, 0.002)]
    many = train_together(task, "deep", QKV, runs)
    for a, b in zip(many, train_one_by_one(task, "deep", QKV, runs), strict=True):
        assert a.losses == pytest.approx(b.losses, abs=1e-4) and len(a.losses) == 2 * STEPS
        assert a.losses[-1] < a.losses[0]


class Language(nn.Module):
    """A model with the outline of Zoology's: a backbone, and a head of the same vectors."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Embedding(11, 5), nn.Linear(5, 5))
        self.lm_head = nn.Linear(5, 11, bias=False)
        self.lm_head.weight = self.backbone[0].weight

    def forward(self, tokens):
        return self.lm_head(self.backbone(tokens))


class Trainer:
    """A loop with the outline of Zoology's, one step and one test."""

    def __init__(self, model) -> None:
        self.model = model

    def fit(self, tokens, targets):
        self.loss_fn = nn.CrossEntropyLoss()
        self.model.train()
        self.loss = self.loss_fn(self.model(tokens).flatten(0, 1), targets.flatten())
        self.loss.backward()
        self.model.eval()
        with torch.no_grad():
            self.logits = self.model(tokens)
            self.tested = self.loss_fn(self.logits.flatten(0, 1), targets.flatten())
        return self


def both(tokens, targets):
    """Return a step of the loop as it is and of the one that asks at questions alone."""
    whole, asked = Trainer(Language()), loop.asking_only(Trainer)(loop.Asked(Language()))
    return whole.fit(tokens, targets), asked.fit(tokens, targets)


def agree(whole, asked) -> bool:
    pairs = zip(whole.model.parameters(), asked.model.parameters(), strict=True)
    same = all(torch.allclose(a.grad, b.grad, atol=1e-6) for a, b in pairs)
    return same and all(
        torch.allclose(a, b, atol=1e-6)
        for a, b in ((whole.loss, asked.loss), (whole.tested, asked.tested), (whole.logits, asked.logits))
    )


@pytest.fixture
def questions():
    generator = torch.Generator().manual_seed(1)
    tokens, targets = (torch.randint(0, 11, (3, 7), generator=generator) for _ in range(2))
    targets[:, ::2] = loop.NOT_ASKED
    return tokens, targets


def test_asking_at_questions_alone_is_the_same_loss_the_same_gradients_and_the_same_test(questions):
    assert agree(*both(*questions))


def test_planted_question_that_is_left_out_is_caught(questions, monkeypatch):
    whole = loop.asked_loss

    def forgetful(loss, asked, given, targets):
        return whole(loss, asked, given[1:] if asked.training else given, targets[1:] if asked.training else targets)

    tokens, targets = questions
    targets[0, 0] = 3
    monkeypatch.setattr(loop, "asked_loss", forgetful)
    assert not agree(*both(tokens, targets))


def test_a_sweep_counts_compiling_data_and_exams():
    rates = {"as_is": 0.5, "asked": 1.0, "undropped": 2.0, "plain": 4.0, "compiled": 8.0}
    speed = {"model_steps_per_second": rates, "test_seconds": 10.0, "exam_seconds": 1.0, "compiling_seconds": 30.0}
    sizes = zoology.Sizes(batch=2, examples=80)
    found = zoology.sweep(speed, sizes, trainings=6, epochs=3)
    hours = {"as_is": 6 * 3 * (80 + 10), "asked": 6 * 3 * (40 + 10), "undropped": 6 * 3 * (20 + 10)}
    hours |= {"plain": 6 * (3 * 10 + 1), "compiled": 6 * (3 * 5 + 1) + 30}
    assert found["hours"] == {name: pytest.approx(seconds / 3600, abs=1e-3) for name, seconds in hours.items()}
    assert found["as_is_by"]["compiled"] == pytest.approx(hours["as_is"] / hours["compiled"], abs=0.01)


def test_a_folder_without_zoology_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(SystemExit, match="git clone"):
        loop.configurations(tmp_path)
