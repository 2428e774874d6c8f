"""Bugs planted into the library, each of which a check must catch: a leak is worse than a crash."""

from __future__ import annotations

import dataclasses

import library_checks as checks
import numpy as np
import pytest

from qkvlab.tasks import library, shelves
from qkvlab.tasks.library import TASK, Library
from qkvlab.tasks.shelves import BOOKS, COURSE, Shelf

draw, two_courses, label_for = shelves.draw, shelves._two_courses, shelves._label_for


def caught(check, setting: str, task: Library = TASK) -> None:
    with pytest.raises(AssertionError):
        check(task, setting)


def test_right_books_in_the_order_of_their_questions(monkeypatch):
    monkeypatch.setattr(shelves, "_shuffled", lambda rng, shelf: shelf)
    caught(checks.nothing_but_the_words_tells_the_answer, "synonym/fixed")


def test_the_right_book_always_first(monkeypatch):
    def first(question, rng, n, *, held_out):
        shelf = draw(question, rng, n, held_out=held_out)
        order = np.tile(np.arange(BOOKS), (n, 1))
        place = shelf.right[:, 0]
        order[np.arange(n), 0], order[np.arange(n), place] = place, 0
        back = np.argsort(order, axis=1)
        labels = np.take_along_axis(shelf.labels, order, axis=1)
        return Shelf(shelf.asked, labels, np.take_along_axis(back, shelf.right, axis=1))

    monkeypatch.setattr(library, "draw", first)
    checks.oracle_makes_no_error(TASK, "synonym/fixed")  # the bug is a leak, not a wrong answer
    caught(checks.nothing_but_the_words_tells_the_answer, "synonym/fixed")


def test_contents_in_the_order_of_the_books(monkeypatch):
    monkeypatch.setattr(Library, "_contents", lambda self, rng, n: np.tile(np.arange(BOOKS), (n, 1)))
    caught(checks.nothing_but_the_words_tells_the_answer, "synonym/fixed")


def test_a_content_twice_on_a_shelf(monkeypatch):
    monkeypatch.setattr(Library, "_contents", lambda self, rng, n: rng.integers(0, self.contents, (n, BOOKS)))
    caught(checks.contents_differ_on_a_shelf, "synonym/fixed")
    caught(checks.guessing_errs_seven_in_eight, "synonym/fixed")


@pytest.mark.parametrize("question", ["directed", "directed-acyclic"])
def test_the_previous_book_instead_of_the_next(monkeypatch, question):
    def backwards(rng, n, asked):
        places, shelf, right = two_courses(rng, n, asked)
        step = -1 if asked == "directed-acyclic" else COURSE - 2
        return places, shelf, right // COURSE * COURSE + (right + step) % COURSE

    monkeypatch.setattr(shelves, "_two_courses", backwards)
    caught(checks.oracle_makes_no_error, f"{question}/fixed")


def test_a_related_book_instead_of_a_synonym(monkeypatch):
    def other(rng, n, question):
        places, shelf, right = two_courses(rng, n, question)
        return places, shelf, np.roll(right, 1, axis=1)

    monkeypatch.setattr(shelves, "_two_courses", other)
    caught(checks.oracle_makes_no_error, "synonym/fixed")


def test_the_concept_itself_is_missing(monkeypatch):
    def without(rng, n, question):
        places, shelf, right = two_courses(rng, n, question)
        return places[:, :1], np.where(shelf == places[:, :1], (shelf + COURSE * 4) % 24, shelf), right[:, :1]

    monkeypatch.setattr(shelves, "_two_courses", without)
    caught(checks.promised_neighbours_stand_there, "directed/fixed")


def test_no_related_books_beside_the_synonym(monkeypatch):
    def strangers(rng, n, question):
        asked, shelf, right = shelves._one_of_each_theme(rng, n)
        return shelf[:, : asked.shape[1]], shelf, right

    monkeypatch.setattr(shelves, "_two_courses", strangers)
    checks.oracle_makes_no_error(TASK, "synonym/fixed")
    caught(checks.promised_neighbours_stand_there, "synonym/fixed")


def test_the_asked_word_among_the_synonyms(monkeypatch):
    monkeypatch.setattr(
        shelves, "_label_for", lambda question, rng, ask, held_out: rng.integers(1, shelves.SLOTS, ask.shape)
    )
    caught(checks.promised_neighbours_stand_there, "synonym/fixed")
    caught(checks.the_asked_word_is_on_the_label, "same-word/fixed")


def test_pairs_of_the_exam_are_trained(monkeypatch):
    monkeypatch.setattr(library, "draw", lambda question, rng, n, *, held_out: draw(question, rng, n, held_out=True))
    caught(checks.asked_pairs_are_unseen, "unseen-synonym/fixed")


def test_pairs_of_the_exam_are_trained_the_other_way_round(monkeypatch):
    def also(question, rng, ask, held_out):
        label = label_for(question, rng, ask, held_out)
        return label if held_out else np.where(rng.random(ask.shape) < 0.1, (ask + 2) % shelves.SLOTS, label)

    monkeypatch.setattr(shelves, "_label_for", also)
    caught(checks.asked_pairs_are_unseen, "unseen-synonym/fixed")


class TrainedExam(Library):
    def held_out(self, setting, seed):
        return self._examples(setting, self.rng(setting, seed, "train"), self.train_steps * self.batch, held_out=False)


class GlobalNoise(Library):
    def rng(self, setting, seed, purpose):
        return np.random.default_rng()


class OneSeed(Library):
    def rng(self, setting, seed, purpose):
        return super().rng(setting, 0, purpose)


class OneSetting(Library):
    def rng(self, setting, seed, purpose):
        return super().rng("", seed, purpose)


@pytest.mark.parametrize(
    ("bug", "check"),
    [
        (TrainedExam, checks.exams_are_new_shelves),
        (GlobalNoise, checks.the_same_again),
        (OneSeed, checks.seeds_and_settings_draw_anew),
        (OneSetting, checks.seeds_and_settings_draw_anew),
    ],
)
def test_noise_that_is_not_its_own(bug, check):
    task = bug(exam=3200) if bug is TrainedExam else bug()
    caught(check, "synonym/fixed", task)


def test_a_full_shelf_with_a_stranger_who_is_relevant(monkeypatch):
    def mixed(question, rng):
        shelf = shelves.draw_full(question, rng)
        return dataclasses.replace(shelf, labels=np.sort(shelf.labels, axis=1)[:, [0, 0, 1, 2, 3, 4, 5, 6]])

    monkeypatch.setattr(library, "draw_full", mixed)
    caught(checks.full_shelves_hold_four_and_four, "synonym/fixed")
