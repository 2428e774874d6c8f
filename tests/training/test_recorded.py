"""A recorded step: what is replayed reads the data of each call, and what cannot be recorded goes on as it was.

Without a card a graph here is a list of what its step did; `tests/card` holds real ones against launched steps.
"""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from qkvlab.training import recorded
from qkvlab.training.recorded import WARM_UP, Recorded


class Step:
    """Adds up what it is given; says which calls were made by Python."""

    def __init__(self):
        self.calls, self.total = 0, torch.zeros(())
        self.fails: Exception | None = None

    def __call__(self, data):
        if Card.recording is not None:
            if self.fails is not None:
                raise self.fails
            out = torch.empty(2)
            Card.recording.again = lambda: (self.total.add_(data.sum()), out.copy_(data * self.total))
            return out
        self.calls += 1
        self.total += data.sum()
        return data * self.total


class Card:
    """Stands for a card: what is recorded on it is not computed until it is replayed."""

    recording: SimpleNamespace | None = None
    replays = 0

    @staticmethod
    @contextmanager
    def graph(made):
        Card.recording = made
        try:
            yield
        finally:
            Card.recording = None


def graph_of_nothing():
    made = SimpleNamespace()

    def replay():
        Card.replays += 1
        made.again()

    made.replay = replay
    return made


@pytest.fixture(autouse=True)
def card(monkeypatch):
    Card.replays = 0
    monkeypatch.setattr(torch.cuda, "CUDAGraph", graph_of_nothing)
    monkeypatch.setattr(torch.cuda, "graph", Card.graph)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(Recorded, "_beside", lambda self, data: self._step(*data))


def losses(step, count=WARM_UP + 4):
    return [step(torch.tensor([1.0, i])) for i in range(count)]


def is_as_launched():
    step = Step()
    found, wanted = losses(Recorded(step)), losses(Step())
    assert step.calls == WARM_UP and Card.replays == 4
    for a, b in zip(found, wanted, strict=True):
        assert torch.equal(a, b)


def test_replays_are_the_steps():
    is_as_launched()


def test_what_cannot_be_recorded_is_launched():
    step = Step()
    step.fails = RuntimeError("operation not permitted when stream is capturing")
    for a, b in zip(losses(Recorded(step)), losses(Step()), strict=True):
        assert torch.equal(a, b)
    assert step.calls == WARM_UP + 4 and Card.replays == 0


def test_too_little_memory_is_said():
    step = Step()
    step.fails = torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(torch.OutOfMemoryError):
        losses(Recorded(step))


def test_planted_losses_that_the_next_replay_writes_over_are_caught(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "clone", lambda self: self)
    with pytest.raises(AssertionError):
        is_as_launched()


def test_planted_data_that_stay_those_of_the_recording_are_caught(monkeypatch):
    record = recorded.Recorded._recorded

    def elsewhere(self, data):
        made = record(self, data)
        self._data = tuple(x.clone() for x in data)
        return made

    monkeypatch.setattr(recorded.Recorded, "_recorded", elsewhere)
    with pytest.raises(AssertionError):
        is_as_launched()
