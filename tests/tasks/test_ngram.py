"""The interpolated 5-gram against its formula written out, and bugs that this must catch."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from qkvlab.tasks import ngram
from qkvlab.tasks.ngram import WittenBell

CLASSES, ORDER = 4, 3


def text(seed: int, length: int) -> np.ndarray:
    """Characters that depend on the one before, so that contexts matter: whole numbers (length,)."""
    rng = np.random.default_rng(seed)
    steps = rng.choice([0, 1, 3], p=[0.2, 0.7, 0.1], size=length)
    return np.cumsum(steps) % CLASSES


def by_hand(known: list[int], context: list[int], c: int) -> float:
    """p(c | context) in plain words, from the longest context down to none."""
    followers = Counter(
        known[i + len(context)] for i in range(len(known) - len(context)) if known[i : i + len(context)] == context
    )
    shorter = by_hand(known, context[1:], c) if context else 1 / CLASSES
    if not followers:
        return shorter
    return (followers[c] + len(followers) * shorter) / (sum(followers.values()) + len(followers))


def agrees_with_the_formula() -> None:
    known, other = text(0, 60), text(1, 40)
    found = WittenBell(known, CLASSES, ORDER).probabilities(other)
    places = range(ORDER - 1, len(other))
    wanted = [by_hand(known.tolist(), other[i - ORDER + 1 : i].tolist(), int(other[i])) for i in places]
    assert found.shape == (len(other) - ORDER + 1,)
    assert np.allclose(found, wanted, rtol=1e-12, atol=0)


def sums_to_one() -> None:
    model = WittenBell(text(0, 60), CLASSES, ORDER)
    for first in range(CLASSES):
        for second in range(CLASSES):
            each = [model.probabilities(np.array([first, second, c]))[0] for c in range(CLASSES)]
            assert min(each) > 0
            assert math.isclose(sum(each), 1, rel_tol=1e-12)


def test_probabilities_are_those_of_the_formula():
    agrees_with_the_formula()


def test_probabilities_of_every_context_sum_to_one():
    sums_to_one()


def test_a_long_context_helps_where_text_depends_on_it_and_not_where_it_is_noise():
    patterned, other = text(0, 4000), text(1, 4000)
    noise = np.random.default_rng(2).integers(CLASSES, size=(2, 4000))
    assert WittenBell(patterned, CLASSES, 5).nats(other) < WittenBell(patterned, CLASSES, 1).nats(other) - 0.3
    assert WittenBell(noise[0], CLASSES, 5).nats(noise[1]) >= math.log(CLASSES)


def test_numbers_of_a_large_alphabet_stay_apart():
    known = np.arange(2001).repeat(2)
    assert WittenBell(known, 2001, 5).probabilities(known).min() > 1 / 2001


def test_planted_counts_where_kinds_belong(monkeypatch):
    original = ngram._Table.__init__

    def wrong(self, grams, classes):
        original(self, grams, classes)
        self.different = self.totals

    monkeypatch.setattr(ngram._Table, "__init__", wrong)
    with pytest.raises(AssertionError):
        agrees_with_the_formula()


def test_planted_no_way_back_from_an_unseen_context(monkeypatch):
    def wrong(self, grams, shorter):
        found = ngram._look_up(self.grams, self.counts, grams)
        contexts = grams // self.classes
        total, different = (ngram._look_up(self.contexts, v, contexts) for v in (self.totals, self.different))
        return (found + different * shorter) / np.maximum(total + different, 1)

    monkeypatch.setattr(ngram._Table, "interpolate", wrong)
    with pytest.raises(AssertionError):
        agrees_with_the_formula()
    with pytest.raises(AssertionError):
        sums_to_one()


def test_planted_characters_in_the_wrong_order(monkeypatch):
    original = ngram._numbers

    def wrong(text, n, classes):
        return original(text[::-1], n, classes)[::-1]

    monkeypatch.setattr(ngram, "_numbers", wrong)
    with pytest.raises(AssertionError):
        agrees_with_the_formula()
