"""A user's run against the record that ships: they agree where one world allows both."""

from __future__ import annotations

import copy

import pytest
from made_up import World, judge

from qkvlab import record
from qkvlab.evidence import verdict as verdicts
from qkvlab.study.verdicts import document

WORDS = verdicts.Word.__args__


@pytest.fixture
def mine() -> dict:
    return document(judge(World(means={"XXV": 0.5}, noise=0.005)))


@pytest.fixture
def ship(monkeypatch):
    """Ship a document as the record of its recipe."""

    def put(shipped: dict | None) -> None:
        monkeypatch.setattr(record, "recorded", lambda recipe: shipped if recipe == "t" else None)

    return put


def says(document: dict, place: int, word: str) -> dict:
    changed = copy.deepcopy(document)
    changed["comparisons"][place]["verdict"] = word
    return changed


def test_without_a_record_there_is_nothing_to_say(mine, ship):
    assert record.agreement(mine) is None
    ship(None)
    assert record.agreement(mine) is None


def test_the_record_agrees_with_itself(mine, ship):
    ship(mine)
    assert record.agreement(mine) == (3, [])


def test_what_disagrees_is_named(mine, ship):
    ship(says(mine, 1, "equivalent"))
    count, (line,) = record.agreement(mine)
    assert count == 3 and line == "library same-word/fixed XXV: worse here, equivalent in the record"


@pytest.mark.parametrize(
    ("here", "there", "agree"),
    [
        ("worse, by less than delta", "worse", True),
        ("worse, by less than delta", "equivalent", True),
        ("better, by less than delta", "equivalent", True),
        ("better, by less than delta", "better", True),
        ("better, by less than delta", "worse, by less than delta", True),  # both are within delta of nothing
        ("better", "worse", False),
        ("better", "equivalent", False),
        ("worse", "nothing to compare", False),
        ("equivalent", "nothing to compare", False),
        ("nothing to compare", "nothing to compare", True),
    ],
)
def test_two_verdicts_that_one_world_allows(mine, ship, here, there, agree):
    for a, b in ((here, there), (there, here)):
        ship(says(mine, 0, b))
        count, against = record.agreement(says(mine, 0, a))
        assert count == 3 and (against == []) == agree


@pytest.mark.parametrize("word", ["undecided", "inconsistent"])
def test_what_is_open_is_not_counted(mine, ship, word):
    ship(mine)
    assert record.agreement(says(mine, 0, word)) == (2, [])
    ship(says(mine, 0, word))
    assert record.agreement(mine) == (2, [])
    nothing = mine
    for place in range(3):
        nothing = says(nothing, place, "undecided")
    assert record.agreement(nothing) is None


@pytest.mark.parametrize(
    ("key", "value"),
    [("delta", 0.1), ("baseline", "XXV"), ("metric", "loss"), ("setting", "synonym/fixed"), ("facts", "another text")],
)
def test_another_question_is_not_compared(mine, ship, key, value):
    shipped = copy.deepcopy(mine)
    shipped["comparisons"][0][key] = value
    ship(shipped)
    assert record.agreement(mine) == (2, [])
    for row in shipped["comparisons"]:
        row[key] = value
    assert record.agreement(mine) is None


def test_every_word_is_either_counted_or_open():
    assert set(WORDS) == set(record._FAMILY) | {"undecided", "inconsistent"}


def test_what_ships_is_whole():
    """Models and verdicts that stand in the package can be read."""
    from qkvlab.study.recipes import catalogue

    assert record.folder().is_dir()
    for name in catalogue():
        shipped = record.recorded(name)
        if shipped is not None:
            assert {"comparisons", "claims", "origin"} <= set(shipped)
            decided = sum(row["verdict"] != "undecided" for row in shipped["comparisons"])
            assert decided > 100 and record.agreement(shipped) == (decided, [])
    total = sum(path.stat().st_size for path in record.folder().rglob("*") if path.is_file())
    assert 0 < total < 3_500_000
