"""Devices and places: what an option may name, and what this machine must have."""

from __future__ import annotations

import pytest

from qkvlab.errors import BadInput
from qkvlab.training import place
from qkvlab.training.device import CPU, Devices, check, parse
from qkvlab.training.place import Here, find


@pytest.fixture
def cards(monkeypatch):
    """Give this machine so many GPUs, as PyTorch says it."""
    import torch

    def have(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    have(0)
    return have


@pytest.mark.parametrize(
    ("text", "devices"),
    [
        ("cpu", CPU),
        ("mps", Devices("mps")),
        ("cuda", Devices("cuda")),
        ("cuda:0", Devices("cuda", (0,))),
        ("cuda:3,1", Devices("cuda", (3, 1))),
    ],
)
def test_devices_that_can_be_named(text, devices):
    assert parse(text) == devices


@pytest.mark.parametrize(
    "text", ["", "CPU", "gpu", "cpu:0", "cuda:", "cuda:-1", "cuda:1,", "cuda:,1", "cuda:1 2", "cuda:x"]
)
def test_devices_that_nobody_can_mean(text):
    with pytest.raises(BadInput, match=r"device must be cpu, mps, cuda"):
        parse(text)


def test_a_card_named_twice():
    with pytest.raises(BadInput, match="names a GPU twice"):
        parse("cuda:0,1,0")


@pytest.mark.parametrize(
    ("count", "text", "phrase"),
    [
        (0, "cuda", "sees no cuda device"),
        (0, "cuda:0,1", "sees no cuda device"),
        (1, "cuda:1", r"cuda:1 is not there: this machine has cuda:0 to cuda:0"),
        (2, "cuda:0,2", r"cuda:2 is not there: this machine has cuda:0 to cuda:1"),
    ],
)
def test_cards_that_are_not_there(cards, count, text, phrase):
    cards(count)
    with pytest.raises(BadInput, match=phrase):
        find(text, None, None)


def test_cards_that_are_there(cards):
    cards(2)
    check(parse("cuda:0,1"))
    assert find("cuda:1", None, None) == Here(Devices("cuda", (1,)))


def test_workers_share_the_cards_in_turn(monkeypatch):
    made = []
    monkeypatch.setattr(place, "ProcessWorker", lambda threads, device: made.append((threads, device)))
    monkeypatch.setattr(place, "Pool", lambda start, processes, threads: [start(i) for i in range(processes)])
    Here(Devices("cuda", (2, 0)), workers=5).pool(5, 1)
    assert made == [(1, f"cuda:{card}") for card in (2, 0, 2, 0, 2)]
    Here(Devices("cuda")).pool(1, 1)
    assert made[-1] == (1, "cuda")


@pytest.mark.parametrize("workers", [0, -1, 1025, 10**9])
def test_workers_that_cannot_be_meant(workers):
    with pytest.raises(BadInput, match=rf"workers must be 1 to 1024; got {workers}"):
        find("cpu", workers, None)
