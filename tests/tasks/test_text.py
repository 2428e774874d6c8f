"""The text task: what is learned from, what is asked, and that both trainers see the same."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from test_corpus import written

from qkvlab.designs import parse
from qkvlab.errors import BadInput
from qkvlab.tasks import corpus, find
from qkvlab.tasks.text import TASK, Text
from qkvlab.training import recipe
from qkvlab.training.one import train_one
from qkvlab.training.recipe import Run
from qkvlab.training.together import train_together

DESIGNS = ["QKV", "QQV", "XXV", "QKV/kv2", "uniform"]


@pytest.fixture(scope="module")
def small() -> Text:
    cut = corpus.cut("some", written())
    brief = dataclasses.replace(cut, training=cut.training[:5000], held_out=cut.held_out[:512])
    return dataclasses.replace(TASK, corpus=brief, d_model=8, hidden=12, tokens=16, buckets=32, batch=4, train_steps=12)


def trains_on_training_characters_only(task: Text) -> None:
    examples = task.batches("plain", 3)
    (inputs,), targets = examples.inputs, examples.targets
    assert inputs.shape == targets.shape == (task.train_steps, task.batch, task.tokens)
    assert (inputs[..., 1:] == targets[..., :-1]).all()
    known = "".join(map(chr, task.read.training))
    for window, last in zip(inputs.reshape(-1, task.tokens), targets[..., -1].ravel(), strict=True):
        assert "".join(map(chr, [*window, last])) in known


def asks_each_held_out_character_once(task: Text) -> None:
    exam = task.held_out()
    half = task.tokens // 2
    (inputs,) = exam.inputs
    assert (exam.targets[:, half:].ravel() == task.read.held_out[: len(exam.targets) * half]).all()
    assert len(task.read.held_out) - len(exam.targets) * half < half
    assert (inputs[:, 1:] == exam.targets[:, :-1]).all()


def test_training_windows_lie_in_the_training_part(small):
    trains_on_training_characters_only(small)


def test_each_held_out_character_is_asked_once_behind_half_a_window(small):
    asks_each_held_out_character_once(small)
    asks_each_held_out_character_once(TASK)


def test_data_are_those_of_the_seed_in_every_setting(small):
    first, again, other = small.batches("plain", 1), small.batches("flops", 1), small.batches("plain", 2)
    assert (first.targets == again.targets).all()
    assert (first.targets != other.targets).any()


def test_planted_training_on_what_is_held_out(small):
    read = small.read
    leak = dataclasses.replace(read, training=np.concatenate([read.training[-20:], read.held_out]))

    class Leaking(Text):
        def batches(self, setting, seed):
            return Text.batches(dataclasses.replace(small, corpus=leak), setting, seed)

    fields = {f.name: getattr(small, f.name) for f in dataclasses.fields(small)}
    with pytest.raises(AssertionError):
        trains_on_training_characters_only(Leaking(**fields))


def test_planted_exam_that_skips_a_character(small):
    class Skipping(Text):
        def held_out(self):
            exam = super().held_out()
            return dataclasses.replace(exam, targets=exam.targets[:, ::-1])

    fields = {f.name: getattr(small, f.name) for f in dataclasses.fields(small)}
    with pytest.raises(AssertionError):
        asks_each_held_out_character_once(Skipping(**fields))


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("setting", TASK.settings())
def test_parameters_are_those_of_the_model(small, design, setting):
    model = small.model(setting, parse(design))
    assert small.parameters(setting, parse(design)) == sum(p.numel() for p in model.parameters())


def test_equal_parameters_are_equal_and_plain_ones_are_not():
    sizes = {s: [TASK.parameters(s, parse(d)) for d in ("QKV", "QQV", "XKV", "XXV")] for s in TASK.settings()}
    assert len(set(sizes["params"])) == 1
    assert len(set(sizes["plain"])) == 3
    assert len({TASK.match(s) for s in TASK.settings()}) == len(TASK.settings())


def nats_by_hand(task: Text, state: dict[str, torch.Tensor], design: str) -> float:
    model = task.model("plain", parse(design))
    model.load_state_dict(state)
    half, total = task.tokens // 2, []
    text = np.concatenate([task.read.training, task.read.held_out])
    begin = len(task.read.training)
    for place in range(begin, begin + len(task.read.held_out) // half * half, half):
        window = torch.from_numpy(text[place - half - 1 : place + half])
        logits = model(window[None, :-1])[0]
        total += (-logits.log_softmax(-1)[torch.arange(task.tokens), window[1:]])[half:].tolist()
    return sum(total) / len(total)


def test_both_trainers_agree_and_the_metric_is_the_loss_on_held_out_text(small):
    runs = [Run(0, 0.01), Run(1, 0.01)]
    together = train_together(small, "plain", parse("QKV"), runs)
    alone = [train_one(small, "plain", parse("QKV"), run) for run in runs]
    for a, b in zip(together, alone, strict=True):
        assert a.metrics.keys() == b.metrics.keys()
        assert all(math.isclose(a.metrics[k], b.metrics[k], abs_tol=2e-2) for k in a.metrics)
        assert math.isclose(a.metrics["nats"], b.metrics["nats"], rel_tol=1e-4)
        assert math.isclose(a.metrics["nats"], nats_by_hand(small, a.state, "QKV"), rel_tol=1e-4)
    assert together[0].metrics["nats"] < math.log(small.read.classes)
    assert together[0].metrics["nats"] != together[1].metrics["nats"]


def test_numbers_beside_the_judged_one(small):
    (trained,) = train_together(small, "plain", parse("QQV"), [Run(0, 0.01)], steps=2)
    layers = range(1, small.layers + 1)
    names = {"nats", "nats_5gram"} | {f"own_{n}" for n in layers} | {f"own_{n}_before" for n in layers}
    assert set(trained.metrics) == names
    assert trained.metrics["nats_5gram"] == small.bar("plain")
    (floor,) = train_together(small, "plain", parse("uniform"), [Run(0, 0.01)], steps=1)
    assert floor.metrics["own_1"] == floor.metrics["own_1_before"] == 0
    assert 0 < trained.metrics["own_1_before"] <= 1


def test_positions_start_as_waves(small):
    model = recipe.start(small, "plain", parse("QKV"), 0)
    positions = dict(model.named_parameters())["positions"]
    assert positions.shape == (small.tokens, small.d_model)
    assert len({tuple(row.tolist()) for row in positions}) == small.tokens
    assert torch.allclose(positions.norm(dim=1), positions.norm(dim=1)[0].expand(small.tokens), rtol=1e-5)


def test_reading_another_file(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text(written(seed=3), encoding="utf-8")
    task = find("text", file)
    assert isinstance(task, Text)
    facts = task.facts("plain")
    assert (facts["text"], facts["characters"]) == ("mine.txt", len(written(seed=3)))
    assert facts["sha256"] == corpus.of(file).sha256
    assert task.bar("plain") != TASK.bar("plain")
    assert find("text") is TASK
    assert find("library", file) is find("library")
    with pytest.raises(BadInput, match=r"none\.txt"):
        find("text", tmp_path / "none.txt")


@pytest.mark.parametrize("setting", TASK.settings())
def test_what_people_read_exists_in_both_languages(setting):
    title, words = TASK.title(setting).words, TASK.describe(setting)
    assert all([title.zh, title.en, words.zh, words.en])
    assert TASK.bar(setting) < TASK.chance(setting)
