"""From the runs of a study to the answers of its checks: which runs count, what stays, and who asks for more."""

from __future__ import annotations

import dataclasses
import hashlib
import random

import pytest

from qkvlab import claims
from qkvlab.study.cells import Cell, Result
from qkvlab.study.decisions import Findings
from qkvlab.study.registration import register
from qkvlab.study.schedule import due, open_cells
from qkvlab.study.spec import make
from qkvlab.study.verdicts import document

SETTINGS = ("synonym/fixed", "synonym/learned", "synonym/fixed/d64")
KEY = ("library", "synonym/fixed")
ERRORS = {"QKV": 0.05, "QQV": 0.3, "uniform": 0.875}


def study(seeds: int = 60, **errors: float) -> Findings:
    """Register claim 4's known half and tune it."""
    spec = make(
        recipe="t", designs=("QKV", "QQV"), settings=SETTINGS, rates=(0.003,), tune_seeds=(0,), judge_seeds=seeds
    )
    found = Findings(register(spec))
    for key in found.settings:
        found.add(run(cell, errors) for cell in found.tuning(key).missing)
    return found


def run(cell: Cell, errors: dict[str, float] | None = None, **metrics: float) -> Result:
    digest = hashlib.sha256(f"{cell.setting} {cell.design} {cell.seed}".encode()).digest()
    error = {**ERRORS, **(errors or {})}[cell.design] + random.Random(digest).gauss(0, 0.01)
    return Result(cell, {"error": error, "coverage": 0.5, **metrics}, False, (1.0,), 1, 0.5, 1, "cpu")


def judge(found: Findings, name: str, seeds: list[int], key=KEY, **errors: float) -> None:
    rate = found.tuning(key).chosen[name]
    found.add(run(Cell(*key, name, "judge", seed, rate), errors) for seed in seeds)


def cost(found: Findings, place: str = "given") -> claims.Answer:
    return next(said for asked, said in found.answers() if (asked.claim, asked.place) == ("no-synonyms", place))


def test_only_the_finished_prefix_counts():
    """Completion order is not seed order: what came back early from later seeds waits."""
    found = study()
    seeds = found.registration["seeds"]["judge"]
    judge(found, "QKV", seeds[:40])
    judge(found, "QQV", seeds[10:40])
    assert (cost(found).n, cost(found).obstacle) == (0, "few")
    judge(found, "QQV", seeds[:5])
    assert cost(found).n == 5
    judge(found, "QQV", seeds[5:10])
    assert cost(found).says == "yes" and cost(found).n >= 8


def test_tuning_seeds_are_never_judged():
    found = study()
    tuned = [cell for cell in found.results if cell.role == "tune"]
    assert tuned and cost(found).n == 0
    for name in ("QKV", "QQV"):
        found.add(run(Cell(*KEY, name, "judge", seed, 0.003)) for seed in found.registration["seeds"]["tune"])
        found.add(run(Cell(*KEY, name, "tune", seed, 0.003)) for seed in found.registration["seeds"]["judge"][:20])
    assert cost(found).n == 0


def test_other_rates_are_never_judged():
    found = study()
    for name in ("QKV", "QQV"):
        found.add(run(Cell(*KEY, name, "judge", seed, 0.01)) for seed in found.registration["seeds"]["judge"])
    assert cost(found).n == 0


def test_what_comes_later_changes_nothing():
    found = study()
    seeds = found.registration["seeds"]["judge"]
    for name in ("QKV", "QQV", "uniform"):
        judge(found, name, seeds[:30])
    first = cost(found)
    assert first.says == "yes"
    judge(found, "QKV", seeds[30:])
    judge(found, "QQV", seeds[30:], QQV=0.0)
    assert cost(found) == first


def test_a_number_nobody_measured_is_named():
    found = study()
    judge(found, "QKV", found.registration["seeds"]["judge"][:9])
    assert found.values(KEY, "QKV", "swap") is None
    assert len(found.values(KEY, "QKV", "error") or []) == 9
    assert found.values(KEY, "QQV", "swap") == []  # nothing has run, so nothing is missing yet


def test_a_run_that_could_not_be_measured_is_lost_and_hides_nobody():
    found = study()
    seeds = found.registration["seeds"]["judge"]
    judge(found, "QKV", seeds[1:9])
    broken = run(Cell(*KEY, "QKV", "judge", seeds[0], 0.003))
    found.add([dataclasses.replace(broken, metrics={"error": float("nan")})])
    values = found.values(KEY, "QKV", "coverage")
    assert values is not None and [value.lost for value in values] == [True] + [False] * 8


def play(found: Findings, errors: dict[str, float]) -> int:
    """Run what is due until nothing is."""
    cells = 0
    while group := next(due(found, (), lambda task: 8), None):
        found.add(run(cell, errors) for cell in group.cells)
        cells += len(group.cells)
    return cells


def test_open_checks_ask_for_seeds_until_they_are_answered():
    """The comparison "worse" is soon decided; whether by more than delta takes the checks' own seeds."""
    errors = {"QQV": ERRORS["QKV"] + 0.08}
    found = study(seeds=200)
    play(found, errors)
    assert all(verdict.decided for _, _, verdict in found.comparisons())
    answers = {(asked.place, asked.check.id): said for asked, said in found.answers()}
    assert {said.says for said in answers.values()} <= {"yes", "no"} and answers
    decided = found.verdict(KEY, "QQV").n
    assert answers["given", "cost"].n > decided
    assert sum(open_cells(found).values()) == 0


def test_without_checks_nothing_more_is_asked():
    errors = {"QQV": ERRORS["QKV"] + 0.08}
    with_checks, without = study(seeds=200), study(seeds=200)
    without.registration["claims"]["checks"] = []
    bare = Findings(without.registration, without.results.values())
    assert play(bare, errors) < play(with_checks, errors)


def test_comparisons_come_before_checks():
    found = study(seeds=60)
    for group in due(found, (), lambda task: 8):
        assert group.design in ("QKV", "QQV", "uniform")
    first = next(due(found, (), lambda task: 8))
    assert first.key == KEY
    # everything of the first setting is spent; its open check may not go before the other settings' comparisons
    for name in ("QKV", "QQV", "uniform"):
        judge(found, name, found.registration["seeds"]["judge"][:30], QQV=ERRORS["QKV"] + 0.06)
    assert found.verdict(KEY, "QQV").decided and cost(found).says == "open"
    order = [group.key for group in due(found, (), lambda task: 8)]
    assert order[0] != KEY and order[-1] == KEY


def test_no_cell_is_asked_for_twice():
    """Comparisons and checks want the same runs."""
    found = study(seeds=60)
    for upto in (0, 5, 12, 30):
        for name in ("QKV", "QQV", "uniform"):
            judge(found, name, found.registration["seeds"]["judge"][:upto], QQV=ERRORS["QKV"] + 0.06)
        cells = [cell for group in due(found, (), lambda task: 8) for cell in group.cells]
        assert len(set(cells)) == len(cells) > 0


@pytest.mark.parametrize("gap", [0.0, 0.05, 0.3])
def test_estimates_end_where_the_study_ends(gap):
    found = study(seeds=40)
    play(found, {"QQV": ERRORS["QKV"] + gap})
    assert sum(open_cells(found).values()) == 0 or all(
        len(found.judged(k, n)) == 40 for k in found.settings for n in ("QKV", "QQV")
    )


def test_the_document_holds_every_claim():
    found = study()
    rows = document(found)["claims"]
    assert [row["number"] for row in rows] == list(range(1, 12))
    assert rows[3]["verdict"] == "undecided" and rows[3]["places"][0]["checks"]
    old = Findings({key: value for key, value in found.registration.items() if key != "claims"})
    assert {row["verdict"] for row in document(old)["claims"]} == {"undecided"}
