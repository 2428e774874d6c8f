"""Shelves of the library: who is asked about, which books stand there, which of them is right.

A shelf has 8 books and is read by 6 questions (4 in ``directed-acyclic``). Concepts are numbers 0-23; three
make a course c -> c + 1 -> c + 2 -> c (see `vocabulary`). What stands beside the right book is part of the
question:

    same-word, synonym, unseen-synonym   two whole courses and two strangers: related books are there to be told apart
    related                              one book from every theme, never of the concept that is asked about
    directed, directed-acyclic           as synonym: what comes next, what came before and the concept itself
    directed-long                        eight concepts in a row on one ring of all 24: the same three for each question
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qkvlab.tasks.vocabulary import COURSE, SLOTS

CONCEPTS, THEMES, BOOKS = 24, 8, 8
QUESTIONS = (
    "same-word",
    "synonym",
    "unseen-synonym",
    "related",
    "directed",
    "directed-long",
    "directed-acyclic",
)


@dataclass(frozen=True)
class Shelf:
    """Many shelves at once.

    Attributes:
        asked: question tokens, (n, questions).
        labels: label tokens of the books, (n, books).
        right: which book answers, (n, questions).
    """

    asked: np.ndarray
    labels: np.ndarray
    right: np.ndarray


def relevant(question: str, asked: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Say which labels answer which question tokens, by the vocabulary alone (arrays broadcast).

    For ``same-word`` every book of the concept is relevant: whether others than the word itself are found is
    what `coverage` measures.
    """
    ask, lab = asked // SLOTS, label // SLOTS
    if question in ("same-word", "synonym", "unseen-synonym"):
        return ask == lab
    if question == "related":
        return (ask // COURSE == lab // COURSE) & (ask != lab)
    if question == "directed-long":
        return (ask + 1) % CONCEPTS == lab
    return ask // COURSE * COURSE + (ask + 1) % COURSE == lab


def count_of(question: str) -> int:
    """Return how many questions read a shelf: the last book of a course has no next where there is no cycle."""
    return 2 * (COURSE - (question == "directed-acyclic"))


def draw(question: str, rng: np.random.Generator, n: int, *, held_out: bool) -> Shelf:
    """Draw n shelves. Only ``unseen-synonym`` asks other pairs of words when they are held out."""
    if question == "related":
        asked, shelf, right = _one_of_each_theme(rng, n)
    elif question == "directed-long":
        asked, shelf, right = _run_on_the_ring(rng, n)
    else:
        asked, shelf, right = _two_courses(rng, n, question)
    ask = rng.integers(0, SLOTS, asked.shape)
    label = rng.integers(1, SLOTS, shelf.shape)  # slot 0 is a question and stands on no spine
    if question in ("same-word", "synonym", "unseen-synonym"):
        q = asked.shape[1]
        label[:, :q] = _label_for(question, rng, ask, held_out)
    return _shuffled(rng, Shelf(asked * SLOTS + ask, shelf * SLOTS + label, right))


def draw_full(question: str, rng: np.random.Generator) -> Shelf:
    """Draw one shelf for every question token: its four relevant books, four of other themes; for `coverage`."""
    asked = np.arange(CONCEPTS * SLOTS)[:, None]
    if question == "directed-acyclic":
        asked = asked[asked[:, 0] // SLOTS % COURSE != COURSE - 1]  # the last of a course has no next
    concept = asked // SLOTS
    if question == "related":
        near = concept // COURSE * COURSE + (concept + np.array([1, 1, 2, 2])) % COURSE
        slots = np.tile([1, 2, 3, 4], (len(asked), 1))
    else:
        target = concept
        if question == "directed-long":
            target = (concept + 1) % CONCEPTS
        elif question.startswith("directed"):
            target = concept // COURSE * COURSE + (concept + 1) % COURSE
        near = np.tile(target, 4)
        slots = np.tile([1, 2, 3, 4], (len(asked), 1))
        if question == "same-word":  # the very word that is asked stands there, be it a question phrase
            slots[:, 0] = np.where(asked[:, 0] % SLOTS == 0, 0, slots[:, 0])
    themes = rng.permuted(np.tile(np.arange(THEMES - 2), (len(asked), 1)), axis=1)[:, :4]
    # the themes of the question and of its answers are left out (on the ring they may differ)
    low, high = np.sort(np.stack([concept[:, 0] // COURSE, near[:, -1] // COURSE]), axis=0)[:, :, None]
    high = np.where(low == high, (high + 1) % THEMES, high)
    low, high = np.minimum(low, high), np.maximum(low, high)
    themes = themes + (themes >= low)
    themes = themes + (themes >= high)
    far = themes * COURSE + rng.integers(0, COURSE, themes.shape)
    far_slots = rng.integers(1, SLOTS, far.shape)
    labels = np.concatenate([near * SLOTS + slots, far * SLOTS + far_slots], axis=1)
    right = np.zeros_like(asked)
    return _shuffled(rng, Shelf(asked, labels, right))


def _two_courses(rng: np.random.Generator, n: int, question: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    themes = rng.permuted(np.tile(np.arange(THEMES), (n, 1)), axis=1)[:, :3, None] * COURSE
    strangers = rng.permuted(np.tile(np.arange(COURSE), (n, 1)), axis=1)[:, : BOOKS - 2 * COURSE]
    whole = (themes[:, :2] + np.arange(COURSE)).reshape(n, -1)
    shelf = np.concatenate([whole, themes[:, 2] + strangers], axis=1)
    places = np.arange(2 * COURSE)
    if question == "directed":
        right = places // COURSE * COURSE + (places + 1) % COURSE
    elif question == "directed-acyclic":
        places = places[places % COURSE != COURSE - 1]  # the last of a course has no next
        right = places + 1
    else:
        right = places
    return shelf[:, places], shelf, np.tile(right, (n, 1))


def _run_on_the_ring(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    shelf = (rng.integers(0, CONCEPTS, (n, 1)) + np.arange(BOOKS)) % CONCEPTS
    return shelf[:, 1:-1], shelf, np.tile(np.arange(2, BOOKS), (n, 1))


def _one_of_each_theme(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    themes = rng.permuted(np.tile(np.arange(THEMES), (n, 1)), axis=1)
    inside = rng.integers(0, COURSE, themes.shape)
    asked = 6
    other = (inside[:, :asked] + rng.integers(1, COURSE, (n, asked))) % COURSE
    right = np.tile(np.arange(asked), (n, 1))
    return themes[:, :asked] * COURSE + other, themes * COURSE + inside, right


def _label_for(question: str, rng: np.random.Generator, ask: np.ndarray, held_out: bool) -> np.ndarray:
    if question == "same-word":
        return ask
    if question == "synonym":
        other = rng.integers(1, SLOTS - 1, ask.shape)  # one of the words that are not asked
        return np.where(ask == 0, rng.integers(1, SLOTS, ask.shape), other + (other >= ask))
    # words stand on a path 0 - 1 - 2 - 3 - 4: neighbours are trained, words two apart are asked in the exam
    step = 2 if held_out else 1
    up, down = ask + step, ask - step
    return np.where((up < SLOTS) & ((down < 1) | (rng.random(ask.shape) < 0.5)), up, down)


def _shuffled(rng: np.random.Generator, shelf: Shelf) -> Shelf:
    order = rng.permuted(np.tile(np.arange(BOOKS), (len(shelf.labels), 1)), axis=1)
    place = np.argsort(order, axis=1)
    labels = np.take_along_axis(shelf.labels, order, axis=1)
    return Shelf(shelf.asked, labels, np.take_along_axis(place, shelf.right, axis=1))


def shelf_for(question: int) -> list[int]:
    """Return the labels of an instructive shelf for one question token, the same every time.

    Two words of the concept itself, a word of each related concept, and four of other themes, history and
    geography first, as in the article.

    >>> from qkvlab.tasks.vocabulary import load
    >>> [load().tokens[label].zh for label in shelf_for(0)]
    ['减肥', '瘦身', '饮食', '运动', '历史', '地理', '电脑', '旅行']
    """
    concept, slot = divmod(question, SLOTS)
    theme = concept // COURSE
    own = [concept * SLOTS + s for s in range(1, SLOTS) if s != slot][:2]
    related = [theme * COURSE + (concept + step) % COURSE for step in (1, 2)]
    pair = 0 if theme == 1 else 1  # the theme that lends two books
    single = [t for t in range(THEMES) if t not in (theme, pair)][:2]
    others = [pair * COURSE, pair * COURSE + 1, *(t * COURSE for t in single)]
    return own + [c * SLOTS + 1 for c in related + others]
