"""What must hold of the shelves of the library, as checks that a planted bug can be held against.

Every check takes a task and a setting, looks only at tokens, contents and targets, and asserts.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from qkvlab.tasks.library import Library, Setting
from qkvlab.tasks.shelves import BOOKS, CONCEPTS, relevant
from qkvlab.tasks.task import Examples
from qkvlab.tasks.vocabulary import SLOTS, load

VOCABULARY = load()
SYNONYMS = ("same-word", "synonym", "unseen-synonym")


def split(setting: str) -> str:
    return Setting.parse(setting).question


def training(task: Library, setting: str, seed: int = 0) -> Examples:
    """Return the training shelves of a seed as one list."""
    drawn = task.batches(setting, seed)
    return Examples(tuple(flat(a) for a in drawn.inputs), flat(drawn.targets))


def flat(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1, *array.shape[2:])


def both(task: Library, setting: str, seed: int = 0) -> list[Examples]:
    return [training(task, setting, seed), task.held_out(setting, seed)]


def marks(setting: str, examples: Examples) -> np.ndarray:
    """Say which books answer which questions: (n, questions, books)."""
    asked, labels, _ = examples.inputs
    return relevant(split(setting), asked[:, :, None], labels[:, None, :])


def one_book_answers(task: Library, setting: str) -> None:
    for examples in both(task, setting):
        assert (marks(setting, examples).sum(-1) == 1).all()


def oracle_makes_no_error(task: Library, setting: str) -> None:
    for examples in both(task, setting):
        place = marks(setting, examples).argmax(-1)
        found = np.take_along_axis(examples.inputs[2], place, axis=1)
        assert (found != examples.targets).mean() == 0


def contents_differ_on_a_shelf(task: Library, setting: str) -> None:
    for examples in [*both(task, setting), task.full_shelves(setting, 0)]:
        contents = np.sort(examples.inputs[2], axis=1)
        assert contents.shape[1] == BOOKS and (np.diff(contents, axis=1) > 0).all()
        assert contents.min() >= 0 and contents.max() < task.contents


def guessing_errs_seven_in_eight(task: Library, setting: str) -> None:
    """Over all eight books a uniform guess is right exactly once."""
    assert task.chance(setting) == 0.875
    for examples in both(task, setting):
        hits = examples.inputs[2][:, None, :] == examples.targets[:, :, None]
        assert 1 - hits.mean() == 0.875


def nothing_but_the_words_tells_the_answer(task: Library, setting: str) -> None:
    """Neither a place on the shelf, nor a place among the questions, nor a content, nor a concept gives it away."""
    examples = task.held_out(setting, 0)
    asked, _, contents = examples.inputs
    right = (contents[:, None, :] == examples.targets[:, :, None]).argmax(-1)
    for question in range(asked.shape[1]):
        places = np.bincount(right[:, question], minlength=BOOKS) / len(right)
        assert abs(places - 1 / BOOKS).max() < 0.07, f"question {question} stands opposite its book"
        shares = np.bincount(examples.targets[:, question], minlength=task.contents) / len(right)
        assert abs(shares - 1 / task.contents).max() < 0.05, f"question {question} has a favourite content"
    for concept in range(CONCEPTS):
        mine = asked // SLOTS == concept
        for answers, kinds in ((right[mine], BOOKS), (examples.targets[mine], task.contents)):
            if len(answers) >= 60:
                top = np.bincount(answers, minlength=kinds).max() / len(answers)
                assert top < 1 / kinds + 0.2, f"concept {concept} has a favourite answer"


def promised_neighbours_stand_there(task: Library, setting: str) -> None:
    """The books that a setting's description promises beside the right one are on the shelf."""
    question = split(setting)
    for examples in both(task, setting):
        asked, labels, _ = (a[:60] for a in examples.inputs)
        for questions, shelf in zip(asked, labels, strict=True):
            on_shelf = [VOCABULARY.tokens[label] for label in shelf]
            concepts = {t.concept for t in on_shelf}
            assert len(concepts) == BOOKS, "two books of one concept"
            for token in questions:
                _beside(question, VOCABULARY.tokens[token], on_shelf, concepts)


def _beside(question: str, token: Any, on_shelf: list[Any], concepts: set[int]) -> None:
    concept = VOCABULARY.concepts[token.concept]
    relations = [VOCABULARY.relation(token, label) for label in on_shelf]
    if question == "same-word":
        assert relations.count("same") == 1 and "synonym" not in relations
        assert relations.count("related") == 2
    elif question in SYNONYMS:
        assert "same" not in relations, "the asked word itself stands on the shelf"
        assert relations.count("synonym") == 1 and relations.count("related") == 2
    elif question == "related":
        assert concept.number not in concepts and relations.count("related") == 1
        assert not {"same", "synonym"} & set(relations)
    elif question == "directed-long":
        ring = {(concept.number + step) % CONCEPTS for step in (-1, 0, 1)}
        assert ring <= concepts
    elif question == "directed":
        assert {concept.next, concept.previous, concept.number} <= concepts
    else:
        # a course without the step back: its last concept is never asked, its first has nothing before it,
        # and for the second what comes before, what comes next and the concept itself are all there
        assert token.concept % 3 != 2
        assert {concept.number, concept.number + 1} <= concepts
        assert token.concept % 3 == 0 or concept.number - 1 in concepts


def the_asked_word_is_on_the_label(task: Library, setting: str) -> None:
    """Only `same-word` has it, and there the right label is the very word."""
    for examples in both(task, setting):
        asked, labels, contents = examples.inputs
        right = (contents[:, None, :] == examples.targets[:, :, None]).argmax(-1)
        label = np.take_along_axis(labels, right, axis=1)
        assert (label == asked).mean() == (split(setting) == "same-word")


def spines_carry_words(task: Library, setting: str) -> None:
    """A question phrase stands on no spine but where the very word is asked; every slot is asked."""
    for examples in both(task, setting):
        asked, labels, _ = examples.inputs
        assert set(np.unique(asked % SLOTS)) == set(range(SLOTS))
        if split(setting) != "same-word":
            assert (labels % SLOTS > 0).all()
        else:
            phrases = np.where(labels % SLOTS == 0, labels, -1)
            known = (phrases[:, :, None] == asked[:, None, :]).any(-1)
            assert (known == (phrases >= 0)).all()


def pairs(examples: Examples) -> set[tuple[int, int]]:
    """(asked word, its synonym on the shelf), over all shelves."""
    asked, labels, _ = examples.inputs
    place = relevant("synonym", asked[:, :, None], labels[:, None, :]).argmax(-1)
    label = np.take_along_axis(labels, place, axis=1)
    return {(int(a), int(b)) for a, b in zip(asked.ravel(), label.ravel(), strict=True)}


def asked_pairs_are_unseen(task: Library, setting: str) -> None:
    """No pair of the exam was trained, in either direction, yet a trained word stands between the two."""
    assert split(setting) == "unseen-synonym"
    seen: set[tuple[int, int]] = set()
    asked: set[tuple[int, int]] = set()
    for seed in range(3):  # other seeds train the same pairs, so that more of them betrays nothing
        seen |= pairs(training(task, setting, seed))
        asked |= pairs(task.held_out(setting, seed))
    assert asked and not asked & (seen | {(b, a) for a, b in seen})
    for a, c in asked:
        assert any((a, b) in seen and (b, c) in seen for b in range(CONCEPTS * SLOTS)), (a, c)


def exams_are_new_shelves(task: Library, setting: str) -> None:
    def rows(examples: Examples) -> set[bytes]:
        joined = np.concatenate(examples.inputs, axis=1)
        return {row.tobytes() for row in np.ascontiguousarray(joined)}

    trained, examined = (rows(e) for e in both(task, setting))
    assert len(examined) == task.exam
    assert not trained & examined


def seeds_and_settings_draw_anew(task: Library, setting: str) -> None:
    other = next(s for s in task.settings() if s != setting and split(s) == split(setting))
    for draw in (task.batches, task.held_out, task.full_shelves):
        first, *rest = draw(setting, 5), draw(setting, 6), draw(other, 5)
        for another in rest:
            assert any((a != b).any() for a, b in zip(first.inputs, another.inputs, strict=True))


def the_same_again(task: Library, setting: str) -> None:
    """Whatever was drawn in between, and whatever the global noise is."""
    for draw in (task.batches, task.held_out, task.full_shelves):
        first = draw(setting, 5)
        np.random.seed(1)
        draw(setting, 6)
        task.given(setting, 5)
        again = draw(setting, 5)
        for a, b in zip((*first.inputs, first.targets), (*again.inputs, again.targets), strict=True):
            assert (a == b).all()


def full_shelves_hold_four_and_four(task: Library, setting: str) -> None:
    """A shelf for every question token: four relevant books, and four of themes that have nothing to do with it."""
    full = task.full_shelves(setting, 0)
    asked, labels, _ = full.inputs
    expected = set(range(CONCEPTS * SLOTS))
    if split(setting) == "directed-acyclic":
        expected = {t for t in expected if t // SLOTS % 3 != 2}
    assert set(asked.ravel().tolist()) == expected and asked.shape == (len(expected), 1)
    assert full.targets.shape == (len(asked), 1, BOOKS) and (full.targets.sum(-1) == BOOKS // 2).all()
    for (token,), shelf, (right,) in zip(asked, labels, full.targets, strict=True):
        question = VOCABULARY.tokens[token]
        theme = VOCABULARY.concepts[question.concept].theme
        assert len(set(shelf.tolist())) == BOOKS
        answers = [VOCABULARY.tokens[label].concept for label in shelf[right]]
        assert set(answers) <= wanted(split(setting), question.concept)
        themes = [VOCABULARY.concepts[VOCABULARY.tokens[label].concept].theme for label in shelf[~right]]
        assert len(set(themes)) == BOOKS // 2 and theme not in themes
        assert not {VOCABULARY.concepts[c].theme for c in answers} & set(themes)
        if split(setting) == "same-word":
            assert token in shelf


def wanted(question: str, concept: int) -> set[int]:
    """Say which concepts answer, by the vocabulary's own relations and not by `relevant`."""
    here = VOCABULARY.concepts[concept]
    if question in SYNONYMS:
        return {concept}
    if question == "related":
        return set(here.related)
    return {(concept + 1) % CONCEPTS} if question == "directed-long" else {here.next}


CHECKS = (
    one_book_answers,
    oracle_makes_no_error,
    contents_differ_on_a_shelf,
    guessing_errs_seven_in_eight,
    nothing_but_the_words_tells_the_answer,
    promised_neighbours_stand_there,
    the_asked_word_is_on_the_label,
    spines_carry_words,
    exams_are_new_shelves,
    seeds_and_settings_draw_anew,
    the_same_again,
    full_shelves_hold_four_and_four,
)
