"""The library as data: an oracle that knows only the vocabulary solves it, and nothing else gives it away."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys

import numpy as np
import pytest
from library_checks import CHECKS, VOCABULARY, asked_pairs_are_unseen, wanted

from qkvlab import designs, tasks
from qkvlab.contracts import Dims
from qkvlab.errors import BadInput, Refusal
from qkvlab.tasks.library import TASK, Library, Setting
from qkvlab.tasks.shelves import BOOKS, CONCEPTS, QUESTIONS, relevant, shelf_for
from qkvlab.tasks.task import Examples, Task
from qkvlab.tasks.vocabulary import SLOTS

SETTINGS = TASK.settings()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("setting", SETTINGS)
def test_shelves(setting, check):
    check(TASK, setting)


@pytest.mark.parametrize("setting", ["unseen-synonym/fixed", "unseen-synonym/learned"])
def test_pairs_of_the_exam_are_unseen(setting):
    asked_pairs_are_unseen(TASK, setting)


@pytest.mark.parametrize("question", QUESTIONS)
def test_what_is_relevant_is_what_the_vocabulary_says(question):
    tokens = np.arange(CONCEPTS * SLOTS)
    table = relevant(question, tokens[:, None], tokens[None, :])
    for token in tokens:
        concepts = {VOCABULARY.tokens[label].concept for label in np.flatnonzero(table[token])}
        assert concepts == wanted(question, VOCABULARY.tokens[token].concept)


@pytest.mark.parametrize("setting", ["directed/fixed", "directed/learned", "directed-long/fixed"])
def test_every_concept_is_asked_and_every_word_stands_on_a_spine(setting):
    asked, labels, _ = TASK.batches(setting, 0).inputs
    assert set(np.unique(asked)) == set(range(CONCEPTS * SLOTS))
    assert set(np.unique(labels)) == {t for t in range(CONCEPTS * SLOTS) if t % SLOTS}


def test_relations_of_the_cycles_have_no_end():
    """Following `next` from any concept of three comes back after three steps, on the ring after 24."""
    for question, length in (("directed", 3), ("directed-long", 24)):
        for concept in range(CONCEPTS):
            here, steps = concept, 0
            while steps == 0 or here != concept:
                (here,) = wanted(question, here)
                steps += 1
            assert steps == length


# Vectors


@pytest.mark.parametrize(
    ("setting", "cosine"),
    [("synonym/fixed", 0.0), ("synonym/fixed/cos0.3", 0.3), ("synonym/fixed/cos0.6", 0.6)],
)
def test_given_vectors_have_the_asked_cosine(setting, cosine):
    within, across = [], []
    for seed in range(4):
        words = TASK.given(setting, seed)["words"].astype(float)
        words /= np.linalg.norm(words, axis=1, keepdims=True)
        cosines = words @ words.T
        same = np.kron(np.eye(CONCEPTS, dtype=bool), np.ones((SLOTS, SLOTS), dtype=bool))
        within.append(cosines[same & ~np.eye(len(words), dtype=bool)].mean())
        across.append(cosines[~same].mean())
        assert abs(cosines[~same]).max() < 0.6
    assert np.mean(within) == pytest.approx(cosine, abs=0.02)
    assert np.mean(across) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("setting", SETTINGS)
def test_given_vectors_have_unit_entries(setting):
    given = TASK.given(setting, 3)
    assert set(given) == {"words", "contents"}
    width = TASK.facts(setting)["d_model"]
    assert given["words"].shape == (120, width) and given["contents"].shape == (16, width)
    for array in given.values():
        assert array.dtype == np.float32 and abs(array.std() - 1) < 0.05


def test_learned_vectors_start_where_fixed_ones_stay():
    for setting in SETTINGS:
        if "/fixed" in setting and Setting.parse(setting).cosine == 0 and Setting.parse(setting).d_model is None:
            for other in SETTINGS:
                if other.endswith("/learned"):
                    mine, theirs = TASK.given(setting, 9), TASK.given(other, 9)
                    assert all((mine[name] == theirs[name]).all() for name in mine)


def test_seeds_give_other_vectors():
    first, second = TASK.given("synonym/fixed", 0), TASK.given("synonym/fixed", 1)
    assert all((first[name] != second[name]).mean() > 0.99 for name in first)


# What both arms share


def test_data_cannot_depend_on_the_design():
    for method in (Task.batches, Task.given, Task.rng):
        assert "design" not in inspect.signature(method).parameters
    for method in (Library.held_out, Library.full_shelves):
        assert set(inspect.signature(method).parameters) == {"self", "setting", "seed"}


def test_purposes_settings_and_seeds_never_share_numbers():
    draws = {
        (setting, seed, purpose): TASK.rng(setting, seed, purpose).random(4).tobytes()
        for setting in (*SETTINGS, "")
        for seed in (0, 1, 1000, 2**63 - 1)
        for purpose in ("train", "exam", "coverage", "vectors")
    }
    assert len(set(draws.values())) == len(draws)


def test_data_are_the_same_in_another_process():
    code = (
        "import hashlib; from qkvlab.tasks.library import TASK; e = TASK.held_out('directed/fixed', 1003);"
        "print(hashlib.sha256(b''.join(a.tobytes() for a in (*e.inputs, e.targets))).hexdigest())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


# Facts, sizes and cost


@pytest.mark.parametrize("setting", SETTINGS)
def test_facts_are_those_of_the_data(setting):
    facts = TASK.facts(setting)
    drawn, exam = TASK.batches(setting, 0), TASK.held_out(setting, 0)
    asked, labels, contents = drawn.inputs
    assert asked.shape[:2] == labels.shape[:2] == (facts["steps"], facts["batch"])
    assert labels.shape[2] == contents.shape[2] == facts["books"] == BOOKS
    assert len(exam.targets) == facts["held_out"] and exam.targets.shape == exam.inputs[0].shape
    assert facts["words"] == len(VOCABULARY.tokens) and facts["contents"] == TASK.contents
    assert drawn.targets.shape == asked.shape and TASK.steps(setting) == facts["steps"]
    assert facts["vectors"] == setting.split("/")[1]
    assert facts["cosine"] == (float(setting.split("cos")[1]) if "cos" in setting else 0)
    # the error of one model is measured far more finely than delta
    assert 0.5 / exam.targets.size**0.5 <= TASK.delta / 4


@pytest.mark.parametrize("name", designs.examples())
def test_parameters_are_those_of_the_module(name):
    design = designs.parse(name)
    for setting in SETTINGS:
        try:
            model = TASK.model(setting, design)
        except Refusal:
            with pytest.raises(Refusal):
                TASK.parameters(setting, design)
            continue
        assert TASK.parameters(setting, design) == sum(p.numel() for p in model.parameters())
        named = dict(model.named_parameters())
        given = TASK.given(setting, 0)
        assert all(named[n].shape == given[n].shape for n in given)
        learned = setting.endswith("/learned")
        assert all(named[n].requires_grad == learned for n in given)
        made = sum(p.numel() for n, p in named.items() if "projections" in n)
        assert TASK.cost(setting, design) == design.cost(Dims.of(TASK.facts(setting)["d_model"]))
        assert TASK.cost(setting, design).parameters == made


def test_every_setting_is_described_in_both_languages():
    told = [TASK.describe(setting) for setting in SETTINGS]
    assert len({w.zh for w in told}) == len({w.en for w in told}) == len(SETTINGS)
    assert all(any("\u4e00" <= c <= "\u9fff" for c in w.zh) and w.en.isascii() for w in told)


def test_the_settings_that_the_article_needs_are_there():
    for question in QUESTIONS:
        assert {f"{question}/fixed", f"{question}/learned"} <= set(SETTINGS)
    assert {"synonym/fixed/cos0.3", "synonym/fixed/cos0.6"} <= set(SETTINGS)
    assert len(set(SETTINGS)) == len(SETTINGS) and set(TASK.shown) <= set(SETTINGS)


def test_an_unknown_setting_or_task_is_offered_the_nearest():
    with pytest.raises(BadInput, match="did you mean 'synonym/fixed'"):
        TASK.setting("synonim/fixed")
    with pytest.raises(BadInput, match="unknown task 'libary'; did you mean 'library'"):
        tasks.find("libary")
    assert tasks.find("library") is TASK and TASK.setting("related/learned") == "related/learned"


# Measures


def tell(logits: np.ndarray, weights: np.ndarray):
    return lambda method, *inputs: {"forward": logits, "weights": weights}[method]


def examined(setting: str = "synonym/fixed", seed: int = 4) -> tuple[Examples, Examples]:
    return TASK.held_out(setting, seed), TASK.full_shelves(setting, seed)


def test_the_oracle_is_measured_at_error_zero_and_coverage_one():
    exam, full = examined()
    logits = np.eye(TASK.contents)[exam.targets][None]
    weights = (full.targets / 4.0)[None]
    assert TASK.measure("synonym/fixed", [4], tell(logits, weights)) == [{"error": 0.0, "coverage": 1.0}]


def test_equal_attention_covers_nothing_and_one_book_a_quarter():
    exam, full = examined()
    wrong = np.roll(np.eye(TASK.contents)[exam.targets], 1, axis=-1)[None]
    equal = np.full((1, *full.targets.shape), 1 / BOOKS)
    assert TASK.measure("synonym/fixed", [4], tell(wrong, equal)) == [{"error": 1.0, "coverage": 0.0}]
    narrow = np.zeros_like(equal)
    first = full.targets.argmax(-1)
    np.put_along_axis(narrow, first[None, ..., None], 1.0, axis=-1)
    assert TASK.measure("synonym/fixed", [4], tell(wrong, narrow))[0]["coverage"] == 0.25


def test_what_is_not_finite_is_measured_as_nan():
    exam, full = examined()
    logits = np.eye(TASK.contents)[exam.targets][None].repeat(2, axis=0)
    logits[1, 0, 0, 0] = np.inf
    weights = (full.targets / 4.0)[None].repeat(2, axis=0)
    good, bad = TASK.measure("synonym/fixed", [4, 4], tell(logits, weights))
    assert good["error"] == 0 and np.isnan(bad["error"]) and np.isnan(bad["coverage"])


# The shelf of `ask`


@pytest.mark.parametrize("question", range(CONCEPTS * SLOTS))
def test_the_shelf_that_is_shown_is_instructive(question):
    shelf = shelf_for(question)
    asked = VOCABULARY.tokens[question]
    relations = [VOCABULARY.relation(asked, VOCABULARY.tokens[label]) for label in shelf]
    assert len(set(shelf)) == BOOKS and shelf == shelf_for(question)
    assert relations.count("synonym") == 2 and relations.count("related") == 2 and relations.count("none") == 4
    assert all(not VOCABULARY.tokens[label].is_question for label in shelf)


def test_a_smaller_library_is_the_same_library():
    """Sizes are fields, so that a test may shrink them without another task."""
    small = dataclasses.replace(TASK, exam=7, batch=2, train_steps=3)
    assert small.held_out("directed/fixed", 0).targets.shape == (7, 6)
    assert small.batches("directed/fixed", 0).targets.shape == (3, 2, 6)
