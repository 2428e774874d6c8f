"""What runs next: never twice, never for a decided question, and always to an end."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_up import SETTING, World, judge, play, result, spec

from qkvlab.study import decisions, price
from qkvlab.study.decisions import Findings
from qkvlab.study.registration import FLOOR, register
from qkvlab.study.schedule import due, open_cells
from qkvlab.study.spec import Spec
from qkvlab.study.verdicts import document

TWO = ("same-word/fixed", "synonym/fixed")


def finish(world: World, study: Spec | None = None, size: int = 8, seed: int | None = None) -> Findings:
    """Play a study to its end and hold every group against the rules."""
    findings = Findings(register(study or spec()))
    plan = findings.registration
    allowed = {role: set(plan["seeds"][role]) for role in ("tune", "judge")}
    rng = random.Random(seed)
    seen: set = set()
    groups = play(findings, world, size=size, pick=lambda g: 0 if seed is None else rng.randrange(len(g)))
    for group in groups:
        assert 1 <= group.at_once <= min(size, len(group.cells))
        if group.cells[0].role == "tune":  # rates that are held against each other are one group
            rates = {c.lr for c in group.cells}
            assert {(c.lr, c.seed) for c in group.cells} == {(r, s) for r in rates for s in plan["seeds"]["tune"]}
        else:
            assert len(group.cells) == group.at_once
        assert not seen & set(group.cells), "asked for twice"
        seen |= set(group.cells)
        assert len({(c.task, c.setting, c.design, c.role) for c in group.cells}) == 1
        assert all(c.seed in allowed[c.role] and c.design in plan["designs"] for c in group.cells)
        assert all((c.task, c.setting) == group.key and c.design == group.design for c in group.cells)
    assert seen == set(findings.results)
    ended(findings)
    return findings


def ended(findings: Findings) -> None:
    """Everything is decided, or its seeds are spent, or its floor's are."""
    seeds = len(findings.registration["seeds"]["judge"])
    baseline = findings.registration["baseline"]
    for key, name, verdict in findings.comparisons():
        if not verdict.decided:
            arms = (FLOOR, baseline) if verdict.reason == "waiting for the floor" else (name, baseline)
            assert all(len(findings.outcomes(key, arm)) == seeds for arm in arms), (name, verdict)
    assert next(due(findings, (), lambda task: 8), None) is None


@pytest.mark.parametrize("size", [1, 5, 8, 24])
@pytest.mark.parametrize(
    "world",
    [
        World(),
        World(means={"QQV": 0.3, "XXV": 0.12}),
        World(noise=0.3),
        World(noise=0.0),
        World(ties=True, means=dict.fromkeys(("QKV", "QQV", "XXV"), 0.875)),
        World(diverges={"QQV": 1.0, "XXV": 0.1}),
        World(diverges={"QKV": 1.0}),
        World(diverges={"uniform": 1.0}),
        World(best={"QKV": 1e-5, "QQV": 1.0}),
        World(means={"QKV": 0.76}, noise=0.05),  # hardly ahead of the floor, which is needed for long
    ],
    ids=range(10),
)
def test_a_study_comes_to_an_end(world, size):
    finish(world, size=size)


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=25)
@given(
    st.dictionaries(st.sampled_from(["QKV", "QQV", "uniform"]), st.sampled_from([0.0, 0.1, 0.15, 0.3, 0.8, 0.875])),
    st.sampled_from([0.0, 0.02, 0.1, 0.3]),
    st.dictionaries(st.sampled_from(["QKV", "QQV", "uniform"]), st.sampled_from([0.05, 0.3, 1.0]), max_size=1),
    st.integers(1, 12),
    st.integers(1, 45),
    st.integers(0, 1000),
)
def test_any_study_comes_to_an_end(means, noise, diverges, size, seeds, order):
    world = World(means=means, noise=noise, diverges=diverges)
    study = spec(designs=("QKV", "QQV"), judge_seeds=seeds, tune_seeds=(0,))
    first = finish(world, study, size, order)
    # which worker was quicker changes neither a verdict nor a digit of it
    assert document(finish(world, study, size, None))["comparisons"] == document(first)["comparisons"]


def test_the_size_of_groups_changes_no_verdict():
    world = World(means={"QQV": 0.13, "XXV": 0.4}, noise=0.1)
    rows = [document(finish(world, size=size, seed=size))["comparisons"] for size in (1, 7, 24)]
    assert rows[0] == rows[1] == rows[2]


def test_it_is_deterministic():
    findings = judge(World(noise=0.2), upto=9)
    busy = {cell for group in itertools.islice(due(findings, (), lambda task: 4), 2) for cell in group.cells}
    assert list(due(findings, busy, lambda task: 4)) == list(due(findings, busy, lambda task: 4))
    again = Findings(findings.registration, reversed(list(findings.results.values())))
    assert list(due(again, busy, lambda task: 4)) == list(due(findings, busy, lambda task: 4))


def test_what_runs_is_not_asked_for():
    findings = Findings(register(spec()))
    everything = list(due(findings, (), lambda task: 4))
    busy = {cell for group in everything[:3] for cell in group.cells}
    rest = list(due(findings, busy, lambda task: 4))
    assert not busy & {cell for group in rest for cell in group.cells}
    assert sum(len(g.cells) for g in rest) + len(busy) == sum(len(g.cells) for g in everything)
    assert list(due(findings, {c for g in everything for c in g.cells}, lambda task: 4)) == []


def test_tuning_comes_first_and_judging_waits_for_all_designs():
    findings, world = Findings(register(spec())), World()
    cells = [cell for group in due(findings, (), lambda task: 6) for cell in group.cells]
    assert {c.role for c in cells} == {"tune"} and len(cells) == 4 * 3 * 2
    findings.add(result(c, world) for c in cells[:-1])
    assert [c for g in due(findings, (), lambda task: 6) for c in g.cells] == cells[-1:]
    findings.add([result(cells[-1], world)])
    assert {c.role for g in due(findings, (), lambda task: 6) for c in g.cells} == {"judge"}


def test_groups_are_of_equal_size():
    findings = Findings(register(spec(tune_seeds=tuple(range(13)), rates=(0.003,))))
    sizes = [len(group.cells) for group in due(findings, (), lambda task: 12) if group.design == "QKV"]
    assert sizes == [6, 7]


def test_settings_run_in_their_order():
    findings = Findings(register(spec(settings=TWO)))
    order = [group.key[1] for group in due(findings, (), lambda task: 8)]
    assert order == sorted(order, key=TWO.index) and set(order) == set(TWO)


def asked(findings: Findings) -> dict[str, int]:
    found: dict[str, int] = {}
    for group in due(findings, (), lambda task: 8):
        found[group.design] = found.get(group.design, 0) + len(group.cells)
    return found


def test_a_decided_comparison_asks_for_nothing():
    findings = judge(World(means={"XXV": 0.6}, noise=0.01), upto=14)
    assert findings.verdict(SETTING, "XXV").decided and not findings.verdict(SETTING, "QQV").decided
    # uniform is decided as well; it runs on only where an equivalence waits for the floor
    assert set(asked(findings)) == {"QKV", "QQV"}


def test_the_baseline_runs_as_far_as_somebody_needs_it():
    findings = judge(World(means={"XXV": 0.6}, noise=0.3), upto=12)
    needs = asked(findings)
    assert needs["QKV"] == max(needs.values()) and not findings.verdict(SETTING, "QQV").decided


def test_the_floor_runs_on_for_an_equivalence_that_waits_for_it():
    """A baseline that is only a little ahead of the floor: the pair is decided long before the floor."""
    world = World(means=dict.fromkeys(("QKV", "QQV", "XXV"), 0.76), noise=0.004)
    study = spec(judge_seeds=200, designs=("QKV", "QQV"), rates=(0.003,))
    findings = Findings(register(study))
    waited = False
    for _ in play(findings, world):
        verdict = findings.verdict(SETTING, "QQV")
        if verdict.reason == "waiting for the floor":
            waited = True
            assert set(asked(findings)) <= {"QKV", FLOOR}
    assert waited
    ended(findings)
    have = {name: len(findings.outcomes(SETTING, name)) for name in findings.registration["designs"]}
    assert have[FLOOR] > findings.verdict(SETTING, "QQV").n >= have["QQV"] - 16


def test_nobody_runs_further_than_a_look_ahead():
    """The first look asks for as many seeds as can say something; then eight, or twice that where it is needed."""
    findings = judge(World(noise=0.3), upto=0)
    assert set(asked(findings).values()) <= {8, 9, 10} and set(asked(findings)) == {"QKV", "QQV", "XXV", "uniform"}
    first = next(iter(asked(findings).values()))
    later = judge(World(noise=0.3), upto=first)
    assert set(asked(later).values()) == {16}, "so noisy a world needs hundreds"
    near = judge(World(means={"QQV": 0.3, "XXV": 0.3}, noise=0.15), upto=first)
    assert set(asked(near).values()) == {8}, "a few more seeds decide"


@pytest.mark.parametrize(("size", "look"), [(4, 4), (8, 8), (24, 8), (32, 8), (64, 16), (128, 32)])
def test_a_look_is_a_part_of_a_large_group(size, look):
    """Where 128 models are trained as fast as 16, seeds that nobody needed cost nothing."""
    first = next(iter(asked(judge(World(noise=0.3), upto=0)).values()))
    near = judge(World(means={"QQV": 0.3, "XXV": 0.3}, noise=0.15), spec(judge_seeds=400), upto=first)
    cells = [cell for group in due(near, (), lambda task: size) for cell in group.cells if cell.design == "QQV"]
    assert len(cells) == look


def test_no_seeds_are_left():
    findings = judge(World(noise=0.3, means={"QQV": 0.13}), spec(judge_seeds=10), upto=10)
    assert list(due(findings, (), lambda task: 8)) == [] and sum(open_cells(findings).values()) == 0
    assert any(not v.decided for _, _, v in findings.comparisons())


def test_the_estimate_of_what_is_open():
    fresh = Findings(register(spec()))
    done = finish(World(noise=0.01))
    assert sum(open_cells(done).values()) == 0
    assert sum(open_cells(fresh).values()) > len([c for c in done.results if c.role == "tune"])
    left = [sum(open_cells(fresh).values())]
    for _ in play(fresh, World(noise=0.01)):
        left.append(sum(open_cells(fresh).values()))
    assert left[-1] == 0 and min(left) >= 0 and left[len(left) // 2] < left[0]


def test_settings_that_shall_go_first_do_and_nothing_else_changes():
    findings = Findings(register(spec(settings=("same-word/fixed", "synonym/fixed", "directed/fixed"))))
    late = ("library", "directed/fixed")
    plain, urgent = (list(due(findings, (), lambda task: 8, first)) for first in ((), (late,)))
    assert [group.key for group in plain[:1]] == [("library", "same-word/fixed")]
    assert urgent[0].key == late and [g for g in urgent if g.key != late] == [g for g in plain if g.key != late]
    assert set(urgent) == set(plain) and len(urgent) == len(plain)


EIGHT = ("QKV", "QQV", "XXV", "QKK", "XKV", "QXV", "QKX", "XKK")


def remembers_what_a_fresh_look_says(seed: int = 3) -> None:
    world = World(means={"QQV": 0.13, "XXV": 0.4, "QKK": 0.76}, noise=0.05, diverges={"QXV": 0.3})
    findings, rng = Findings(register(spec(designs=EIGHT, settings=TWO, judge_seeds=40))), random.Random(seed)
    for _ in play(findings, world, pick=lambda running: rng.randrange(len(running))):
        fresh = Findings(findings.registration, findings.results.values())
        assert list(due(findings, (), lambda task: 8)) == list(due(fresh, (), lambda task: 8))
        assert open_cells(findings) == open_cells(fresh)
        assert findings.comparisons() == fresh.comparisons()


def test_what_is_remembered_is_what_a_fresh_look_says():
    remembers_what_a_fresh_look_says()


@pytest.mark.parametrize("lost", ["QKV", FLOOR, "QQV"])
def test_a_design_whose_results_are_not_noticed_is_found_out(lost, monkeypatch):
    forget = Findings._forget
    monkeypatch.setattr(Findings, "_forget", lambda self, key, arms: forget(self, key, arms - {("judge", lost)}))
    with pytest.raises(AssertionError):
        remembers_what_a_fresh_look_says()


@pytest.mark.parametrize("role", ["tune", "judge"])
def test_a_result_raises_only_the_questions_of_its_comparison(role, monkeypatch):
    """A study of a thousand designs would otherwise think longer about each group than it trains it."""
    world, counted = World(noise=0.3), []
    findings = (
        judge(world, spec(designs=EIGHT), upto=12) if role == "judge" else Findings(register(spec(designs=EIGHT)))
    )
    look = lambda: (next(due(findings, (), lambda task: 8)), open_cells(findings))  # noqa: E731
    look()
    for module, name in ((decisions, "decide"), (price, "more_seeds")):
        of = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given, of=of, name=name: counted.append(name) or of(*given))
    missing = next(g for g in due(findings, (), lambda task: 8) if g.design == "QQV").cells
    findings.add(result(cell, world) for cell in missing)
    look()
    assert sorted(counted) == (["decide", "more_seeds"] if role == "judge" else [])
