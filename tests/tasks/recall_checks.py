"""What must hold of every drawn sequence, as plain checks that a test runs and a planted bug must fail."""

from __future__ import annotations

import numpy as np

from qkvlab.tasks.recall import KEYS, PAIRS, POWER, TOKENS, WORDS
from qkvlab.tasks.task import Examples

SLOTS = (TOKENS - 2 * PAIRS) // 2


def oracle(tokens: np.ndarray, places: np.ndarray) -> list[list[int]]:
    """Read each sequence from left to right, remember the pairs, and answer at the places."""
    answers = []
    for row, asked in zip(tokens.tolist(), places.tolist(), strict=True):
        told = dict(zip(row[0 : 2 * PAIRS : 2], row[1 : 2 * PAIRS : 2], strict=True))
        answers.append([told.get(row[place], -1) for place in asked])
    return answers


def oracle_makes_no_error(drawn: Examples) -> None:
    assert oracle(*drawn.inputs) == drawn.targets.tolist()


def pairs_stand_first(drawn: Examples) -> None:
    keys, values = drawn.inputs[0][:, 0 : 2 * PAIRS : 2], drawn.inputs[0][:, 1 : 2 * PAIRS : 2]
    assert ((keys >= 0) & (keys < KEYS)).all()
    assert ((values >= KEYS) & (values < WORDS)).all()
    for words in (keys, values):
        assert all(len(set(row)) == PAIRS for row in words.tolist())


def every_key_comes_again_once(drawn: Examples) -> None:
    tokens, places = drawn.inputs
    assert ((places >= 2 * PAIRS) & (places < TOKENS) & (places % 2 == 0)).all()
    assert all(len(set(row)) == PAIRS for row in places.tolist())
    again = np.take_along_axis(tokens, places, axis=1)
    assert (np.sort(again, axis=1) == np.sort(tokens[:, 0 : 2 * PAIRS : 2], axis=1)).all()


def places_tell_nothing(drawn: Examples) -> None:
    """Whoever names a pair by where a question stands errs three times in four."""
    order = np.argsort(drawn.inputs[1], axis=1)
    shares = np.stack([(order[:, turn, None] == np.arange(PAIRS)).mean(0) for turn in range(PAIRS)])
    assert np.abs(shares - 1 / PAIRS).max() < 0.03


def distances_follow_the_power_law(drawn: Examples) -> None:
    weight = np.arange(1, SLOTS + 1) ** (POWER - 1)
    rng = np.random.default_rng(7)
    wanted = np.zeros(SLOTS)
    for _ in range(3000):
        wanted[rng.choice(SLOTS, PAIRS, replace=False, p=weight / weight.sum())] += 1 / 3000
    found = np.bincount((drawn.inputs[1].ravel() - 2 * PAIRS) // 2, minlength=SLOTS) / len(drawn.targets)
    assert np.abs(found - wanted).max() < 0.04


def other_places_hold_any_word(drawn: Examples) -> None:
    tokens, places = drawn.inputs
    asked = np.zeros(tokens.shape, dtype=bool)
    np.put_along_axis(asked, places, True, axis=1)
    told = (tokens[:, 2 * PAIRS :, None] == tokens[:, None, : 2 * PAIRS]).any(-1)
    assert told[~asked[:, 2 * PAIRS :]].mean() < 0.003  # by chance one in a thousand is a word of the pairs
    others = tokens[:, 2 * PAIRS :][~asked[:, 2 * PAIRS :]]
    counts = np.histogram(others, bins=16, range=(0, WORDS))[0] / len(others)
    assert np.abs(counts - 1 / 16).max() < 0.01


CHECKS = (
    oracle_makes_no_error,
    pairs_stand_first,
    every_key_comes_again_once,
    places_tell_nothing,
    distances_follow_the_power_law,
    other_places_hold_any_word,
)
