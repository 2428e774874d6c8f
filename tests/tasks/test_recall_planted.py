"""Bugs planted into recall, each of which a check must catch: a leak is worse than a crash."""

from __future__ import annotations

import numpy as np
import pytest
import recall_checks as checks

from qkvlab.tasks import recall
from qkvlab.tasks.recall import KEYS, PAIRS, TOKENS, WORDS
from qkvlab.tasks.task import Examples

draw, distinct, slots = recall.draw, recall._distinct, recall._slots
N = 2000


def caught(check, drawn: Examples) -> None:
    with pytest.raises(AssertionError):
        check(drawn)


def sequences() -> Examples:
    return recall.draw(np.random.default_rng(1), N)


def changed(change) -> Examples:
    drawn = sequences()
    tokens, places, values = drawn.inputs[0].copy(), drawn.inputs[1].copy(), drawn.targets.copy()
    change(tokens, places, values)
    return Examples((tokens, places), values)


def test_nothing_is_caught_where_nothing_is_wrong():
    for check in checks.CHECKS:
        check(sequences())


def test_a_value_before_its_key():
    def swap(tokens, places, values):
        tokens[:, : 2 * PAIRS] = tokens[:, : 2 * PAIRS].reshape(N, PAIRS, 2)[..., ::-1].reshape(N, -1)

    caught(checks.pairs_stand_first, changed(swap))
    caught(checks.oracle_makes_no_error, changed(swap))


def test_a_question_without_an_earlier_pair():
    def strange(tokens, places, values):
        tokens[0, places[0, 0]] = (tokens[0, places[0, 0]] + 1) % KEYS

    caught(checks.every_key_comes_again_once, changed(strange))
    caught(checks.oracle_makes_no_error, changed(strange))


def test_values_among_the_keys(monkeypatch):
    monkeypatch.setattr(recall, "_distinct", lambda rng, n, low, high: distinct(rng, n, 0, KEYS))
    caught(checks.pairs_stand_first, sequences())


def test_a_key_twice(monkeypatch):
    monkeypatch.setattr(recall, "_distinct", lambda rng, n, low, high: rng.integers(low, low + 50, (n, PAIRS)))
    caught(checks.pairs_stand_first, sequences())
    caught(checks.oracle_makes_no_error, sequences())


def test_answers_of_other_questions():
    def shifted(tokens, places, values):
        values[:] = np.roll(values, 1, axis=1)

    caught(checks.oracle_makes_no_error, changed(shifted))


def test_the_place_after_the_question():
    def late(tokens, places, values):
        places += 1

    caught(checks.every_key_comes_again_once, changed(late))


def test_first_pairs_are_asked_first(monkeypatch):
    monkeypatch.setattr(recall, "_slots", lambda rng, n: np.sort(slots(rng, n), axis=1))
    checks.oracle_makes_no_error(sequences())  # the bug is a leak, not a wrong answer
    caught(checks.places_tell_nothing, sequences())


def test_likelier_slots_for_first_pairs(monkeypatch):
    """As a draw without replacement gives them when nobody shuffles: what is drawn first is near."""

    def unshuffled(rng, n):
        weight = np.arange(1, checks.SLOTS + 1) ** (recall.POWER - 1)
        return np.argsort(-(np.log(weight) + rng.gumbel(size=(n, checks.SLOTS))), axis=1)[:, :PAIRS]

    monkeypatch.setattr(recall, "_slots", unshuffled)
    checks.distances_follow_the_power_law(sequences())
    caught(checks.places_tell_nothing, sequences())


def test_all_distances_alike(monkeypatch):
    def alike(rng, n):
        return np.argsort(rng.random((n, checks.SLOTS)), axis=1)[:, :PAIRS]

    monkeypatch.setattr(recall, "_slots", alike)
    caught(checks.distances_follow_the_power_law, sequences())


def test_nothing_between_the_questions():
    def empty(tokens, places, values):
        keep = np.take_along_axis(tokens, places, axis=1)
        tokens[:, 2 * PAIRS :] = 0
        np.put_along_axis(tokens, places, keep, axis=1)

    caught(checks.other_places_hold_any_word, changed(empty))


def test_the_value_said_after_the_question():
    def told(tokens, places, values):
        np.put_along_axis(tokens, np.minimum(places + 1, TOKENS - 1), values, axis=1)

    assert (changed(told).inputs[0] < WORDS).all()
    caught(checks.other_places_hold_any_word, changed(told))
