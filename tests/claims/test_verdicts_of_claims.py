"""Every claim in every branch, from fabricated studies whose truth is known."""

from __future__ import annotations

import itertools
import json
import math

import pytest
from claim_worlds import SEEDS, Known, means, registration, told, world

from qkvlab import claims
from qkvlab.claims.claim import Claim, Place
from qkvlab.claims.recorded import is_recorded

ALL = list(claims.catalogue().values())


def settled(place: Place) -> bool:
    """Whether a benchmark has already decided the place."""
    return all(is_recorded(check.terms[0].key) for check in place.checks)


def open_places(claim: Claim) -> list[str]:
    return [place.id for place in claim.places if not settled(place)]


@pytest.mark.parametrize("claim", ALL, ids=lambda c: c.id)
def test_it_is_supported_where_every_check_says_yes(claim):
    found = told(world(claim))[claim.id]
    assert found.verdict == "supported" and found.on.en == "" and found.obstacle.en == ""
    assert {place.state for place in found.places} == {"holds"}
    assert found.answer.en.startswith("Yes")


@pytest.mark.parametrize("claim", ALL, ids=lambda c: c.id)
def test_it_is_refuted_where_some_check_of_every_place_says_no(claim):
    found = told(world(claim, fails=open_places(claim)))[claim.id]
    states = {place.id: place.state for place in found.places}
    assert {states[id] for id in open_places(claim)} == {"fails"}
    assert found.verdict == ("refuted" if len(states) == len(open_places(claim)) else "depends")


@pytest.mark.parametrize("claim", ALL, ids=lambda c: c.id)
def test_it_depends_where_one_place_holds_and_another_fails(claim):
    for fails in ([id] for id in open_places(claim)):
        found = told(world(claim, fails=fails))[claim.id]
        assert found.verdict == "depends" and found.on == claim.axis
        assert {place.id for place in found.places if place.state == "fails"} == set(fails)


@pytest.mark.parametrize("claim", ALL, ids=lambda c: c.id)
@pytest.mark.parametrize("n", [0, 7])
def test_it_is_undecided_while_seeds_are_few(claim, n):
    found = told(world(claim, n=n))[claim.id]
    assert found.verdict == "undecided"
    for place in found.places:
        for each in place.evidence:
            if not is_recorded(each.check.terms[0].key):
                assert (each.answer.says, each.answer.obstacle, each.answer.n) == ("open", "few", n)
                assert each.answer.more is not None and each.answer.more >= 1
                assert each.answer.minutes == pytest.approx(each.answer.more * 1.5 * len(each.check.arms()) / 60)
                assert str(each.answer.more) in each.obstacle.en and "种子" in each.obstacle.zh
    assert "more seeds" in found.obstacle.en


@pytest.mark.parametrize("claim", [c for c in ALL if not any(settled(p) for p in c.places)], ids=lambda c: c.id)
def test_below_the_bar_nothing_is_said(claim):
    keys = frozenset(key for check in claim.checks() for key, _ in check.arms())
    found = told(world(claim, bars=keys))[claim.id]
    assert found.verdict == "undecided" and {p.state for p in found.places} == {"open"}
    assert {e.answer.obstacle for p in found.places for e in p.evidence} == {"bar"}
    assert "bar" in found.obstacle.en and "门槛" in found.obstacle.zh


@pytest.mark.parametrize("claim", ALL, ids=lambda c: c.id)
def test_a_study_without_its_settings_says_so(claim):
    tasks = {term.task for check in claim.checks() for term in check.terms}
    other = "no-synonyms" if "library" not in tasks else "roles" if "sentence" not in tasks else None
    study = world(claims.find(other)) if other else Known({"tasks": [], "bets": []}, {})
    found = told(study)[claim.id]
    assert found.verdict == "undecided" and {p.state for p in found.places} == {"absent"}
    assert "none of the settings" in found.obstacle.en


@pytest.mark.parametrize("claim", ALL, ids=lambda c: c.id)
def test_texts_are_filled_in_and_rows_come_back(claim):
    for known in (world(claim), world(claim, fails=open_places(claim)), world(claim, n=0)):
        found = told(known)[claim.id]
        row = json.loads(json.dumps(claims.to_row(found), allow_nan=False))
        assert claims.to_row(claims.from_row(row)) == row
        for text in (*vars(found.answer).values(), *(t for p in found.places for t in vars(p.text).values())):
            assert "{" not in text and "None" not in text and "nan" not in text.split()
        if found.places[0].state != "open":
            assert "–" not in found.places[0].text.en  # every quoted number is there


def test_no_claim_reads_what_another_study_measured():
    """Numbers that are not in the runs leave a check open, whatever the others say."""
    claim = claims.find("carries-answer")
    known = world(claim)
    without = {number: value for number, value in known.means.items() if number[2] != "swap"}
    found = told(Known(known.registration, without))[claim.id]
    assert found.verdict == "undecided"
    assert {e.answer.obstacle for p in found.places for e in p.evidence} == {"unmeasured"}


def test_nothing_to_lose_is_no_finding():
    """Two designs that learned nothing are equal, and that supports nothing."""
    claim = claims.find("no-query-matrix")
    known = world(claim)
    flat = dict.fromkeys(known.means, 0.6)
    found = told(Known(known.registration, flat, noise=0.0))[claim.id]
    assert found.verdict == "undecided"
    assert {e.answer.obstacle for p in found.places for e in p.evidence} == {"floor"}
    assert all(e.answer.high < e.check.threshold for p in found.places for e in p.evidence)


def test_runs_that_diverge_are_no_support():
    claim = claims.find("no-query-matrix")
    found = told(world(claim, lost={"XKV": 0.5, "QKV": 0.5}))[claim.id]
    assert found.verdict != "supported"
    claim = claims.find("carries-answer")
    found = told(world(claim, lost={"QKV": 0.5}))[claim.id]
    assert {e.answer.obstacle for p in found.places for e in p.evidence if e.check.terms[0].design == "QKV"} == {
        "diverged"
    }


def test_a_part_is_told_with_its_interval():
    claim = claims.find("share-of-gain")
    checks = {(r.place, r.check.id): r.check for r in claims.registered(registration(claim.checks()))}
    key = ("text", "params")
    truth = {(key, "QKV", "nats"): 1.5, (key, "QQV", "nats"): 1.56, (key, "uniform", "nats"): 1.9}
    known = Known(registration(claim.checks()), truth)
    found = claims.answered(known, checks["shared-params", "part"])
    assert found.says == "yes" and found.estimate == pytest.approx(0.15, abs=0.01)
    assert 0.05 <= found.low < 0.15 < found.high < 1 and found.n < SEEDS


@pytest.mark.parametrize(("checks", "fails"), [(a, b) for a, b in itertools.product([1, 2], [0, 1])])
def test_worlds_are_as_wanted(checks, fails):
    claim = claims.find("learning")
    asked = [r.check for r in claims.registered(registration(claim.checks())) if r.claim == "learning"][:checks]
    made = means([(check, not fails) for check in asked])
    for check in asked:
        gap = sum(t.weight * made[t.key, t.design, t.metric] for t in check.terms)
        assert (gap > check.threshold) == (not fails) and not math.isnan(gap)
