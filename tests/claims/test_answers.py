"""One check at a time: yes, no and open, with exact numbers; and planted bugs that the same contract must catch."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from qkvlab import claims
from qkvlab.claims import numbers, telling
from qkvlab.claims.answer import answer
from qkvlab.claims.asking import beats, faster, finds_nothing, keeps, loses, part_lost, share
from qkvlab.claims.check import Check
from qkvlab.claims.need import seeds_left
from qkvlab.claims.numbers import Numbers, gather
from qkvlab.contracts import Words
from qkvlab.evidence import Outcome, Rule

KEY = ("library", "synonym/fixed")
RULE = Rule(delta=0.05, alpha=0.05)
LOST = Outcome(math.nan, diverged=True)


def flat(value: float, n: int = 40) -> list[Outcome]:
    return [Outcome(value)] * n


def ask(check: Check, rule: Rule = RULE, barred: bool = False, **arms: list[Outcome] | None) -> claims.Answer:
    """Answer a check whose arms are named by their designs; every metric of a design is the same list."""
    return answer(check.at(0.05), lambda key, design, metric: arms.get(design), rule, barred=barred)


def contract() -> None:
    """What any implementation must satisfy."""
    cost = loses("cost", KEY, "QQV")
    assert ask(cost, QQV=flat(0.5), QKV=flat(0.1)).says == "yes"
    assert ask(cost, QQV=flat(0.1), QKV=flat(0.5)).says == "no"
    assert ask(cost, QQV=flat(0.12), QKV=flat(0.1)).says == "no"  # worse, but by less than delta
    assert ask(cost, QQV=flat(0.15), QKV=flat(0.1)).says == "open"  # on the threshold
    assert ask(cost, QQV=flat(0.5, 7), QKV=flat(0.1)).obstacle == "few"
    assert ask(dataclasses.replace(cost, threshold=3.0), QQV=flat(0.2), QKV=flat(0.1)).says == "no"

    kept = keeps("kept", KEY, "XKV")
    assert ask(kept, XKV=flat(0.1), QKV=flat(0.1), uniform=flat(0.9)).says == "yes"
    assert ask(kept, XKV=flat(0.5), QKV=flat(0.1), uniform=flat(0.9)).says == "no"
    nothing = ask(kept, XKV=flat(0.1), QKV=flat(0.1), uniform=flat(0.15))
    assert (nothing.says, nothing.obstacle) == ("open", "floor")
    assert ask(kept, XKV=flat(0.1), QKV=flat(0.1), uniform=flat(0.9, 9)).obstacle == "floor waits"
    dead = ask(kept, XKV=[LOST] * 40, QKV=[LOST] * 40, uniform=flat(0.9))
    assert (dead.says, dead.obstacle, dead.lost) == ("open", "diverged", 1.0)
    assert ask(cost, QQV=[LOST] * 40, QKV=flat(0.1)).says == "yes"  # a run that diverges has lost

    most = share("most", KEY, "QQV", "own_1")
    assert ask(most, QQV=flat(0.9)).says == "yes" and ask(most, QQV=flat(0.1)).says == "no"
    assert ask(most, QQV=flat(0.5)).says == "open"
    assert ask(most, QQV=[LOST] * 40).says == "open"  # and here it says nothing
    assert ask(beats("lead", KEY, "QKK", "QKV/kv2"), QKK=flat(0.1), **{"QKV/kv2": flat(0.15)}).says == "yes"
    assert ask(finds_nothing("gain", KEY, "XXV"), XXV=flat(0.87), uniform=flat(0.88)).says == "yes"

    part = part_lost("part", KEY, "QQV", "error", 0.05)
    assert ask(part, QQV=flat(0.2), QKV=flat(0.1), uniform=flat(0.9)).says == "yes"
    assert ask(part, QQV=flat(0.11, 80), QKV=flat(0.1, 80), uniform=flat(0.9, 80)).says == "no"

    assert ask(cost, QQV=flat(0.5), QKV=flat(0.1), barred=True).obstacle == "bar"
    assert ask(cost, QQV=flat(0.5), QKV=None).obstacle == "unmeasured"
    early = ask(cost, QQV=[*flat(0.5, 20), *flat(0.0, 60)], QKV=flat(0.1, 80))
    assert (early.says, early.n) == ("yes", ask(cost, QQV=flat(0.5, 20), QKV=flat(0.1)).n)

    claim = claims.find("learning")
    place = claim.places[0]
    for says, state in (("yes", "holds"), ("no", "fails"), ("open", "open")):
        said = claims.Answer(says, "" if says != "open" else "wide", 9, 0.1, 0.0, 0.2, (0.2, 0.1))
        found = {(place.id, check.id): claims.Evidence(check.at(0.05), said) for check in place.checks}
        assert claims.tell(claim, found).places[0].state == state


def test_the_contract_holds():
    contract()


CLIPPED, SIDES, FLOOR, PLACE = Numbers.clipped, Numbers.sides, "beats_floor", telling._place


def ignore_threshold(self, rule):
    return SIDES(dataclasses.replace(self, check=dataclasses.replace(self.check, threshold=self.check.centre)), rule)


def forget_the_lost(self, part=0.0):
    return CLIPPED(dataclasses.replace(self, lost=np.zeros_like(self.lost)), part)


def only_the_last(self, rule):
    return SIDES(self, rule) * (np.arange(len(self)) == len(self) - 1)


def open_is_no(place, found):
    told = PLACE(place, found)
    return dataclasses.replace(told, state="fails") if told.state == "open" else told


MUTANTS = {
    "wrong sign": (Numbers, "clipped", lambda self, part=0.0: -CLIPPED(self, part)),
    "threshold ignored": (Numbers, "sides", ignore_threshold),
    "diverged runs left out": (Numbers, "clipped", forget_the_lost),
    "every seed is read": (Numbers, "sides", only_the_last),
    "floor never asked": ("qkvlab.claims.answer", "beats_floor", lambda *a: "beaten"),
    "floor never beaten": ("qkvlab.claims.answer", "beats_floor", lambda *a: "not beaten"),
    "too early": ("qkvlab.claims.answer", "answer", None),
    "open counts as no": (telling, "_place", open_is_no),
    "second sum forgotten": (Numbers, "clipped", lambda self, part=0.0: CLIPPED(self, 0.0 * np.asarray(part))),
    "longest arm": (numbers, "min", max),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_planted_bugs_are_caught(name, monkeypatch):
    where, what, wrong = MUTANTS[name]
    if wrong is None:
        monkeypatch.setitem(globals(), "RULE", dataclasses.replace(RULE, min_seeds=1))
        monkeypatch.setattr(ask, "__defaults__", (dataclasses.replace(RULE, min_seeds=1, alpha=0.5), False))
    elif isinstance(where, str):
        monkeypatch.setattr(f"{where}.{what}", wrong)
    else:
        monkeypatch.setattr(where, what, wrong, raising=False)
    with pytest.raises((AssertionError, ValueError, IndexError)):
        contract()


def test_the_interval_is_that_of_the_evidence():
    """A difference of two designs is decided by the very sequence that decides comparisons."""
    differences = (0.30, 0.10, 0.40, -0.20, 0.50, 0.25, 0.35, 0.15)
    terms = loses("c", KEY, "QQV").terms
    check = Check(id="c", words=Words("", ""), terms=terms, threshold=0.25, clip=1.0, in_deltas=False)
    said = ask(check, QQV=[Outcome(0.5 + d) for d in differences], QKV=flat(0.5, 8))
    assert (said.low, said.high) == (pytest.approx(-0.355502, abs=5e-7), pytest.approx(0.603931, abs=5e-7))
    assert said.estimate == pytest.approx(np.mean(differences)) and said.levels == pytest.approx((0.73125, 0.5))


def test_a_share_is_told_in_its_own_units():
    said = ask(share("s", KEY, "QQV", "own_1"), QQV=flat(0.9))
    assert said.estimate == pytest.approx(0.9) and 0.5 < said.low < 0.9 < said.high <= 1.0


def test_numbers_are_clipped_and_centred():
    check = loses("c", KEY, "QQV").at(0.05)
    arms = {"QQV": (0.9, 0.2), "QKV": (0.1, 0.1)}
    found = gather(check, lambda key, design, metric: [Outcome(v) for v in arms[design]])
    assert found is not None and found.clipped().tolist() == pytest.approx([0.2, 0.1])
    assert check.threshold == 0.05 and check.clip == 0.2


def test_a_check_never_says_both():
    """Whatever the numbers, a check and its opposite never both say yes, and yes and no exclude each other."""
    rng = np.random.default_rng(0)
    for _ in range(100):
        values = [Outcome(float(v)) for v in rng.choice([0.0, 1.0], 60, p=[0.5, 0.5]) * rng.random(60)]
        above = share("a", KEY, "QQV", "own_1", threshold=0.3)
        below = dataclasses.replace(above, asks="below")
        first, second = ask(above, QQV=values), ask(below, QQV=values)
        assert {first.says, second.says} in ({"yes", "no"}, {"open"})
        assert first.n == second.n and first.low <= first.high


def test_recorded_times_are_read_as_seeds():
    from qkvlab.claims.recorded import recorded

    check = faster("time", "narrow_head", "QKV/h64")
    pairs = recorded("narrow_head", "ratios")
    said = answer(check, lambda key, design, metric: recorded(key[1], metric), RULE)
    assert said.says == "yes" and said.n <= len(pairs) and 0 < said.estimate < 0.5


@pytest.mark.parametrize("gap", [0.3, 0.13, 0.08, 0.0])
def test_the_price_of_an_open_check_is_about_right(gap):
    """Data that go on as they were are answered after about as many seeds as was told."""
    rng = np.random.default_rng(1)
    noise = 0.02 * rng.standard_normal(2000)
    check = loses("cost", KEY, "QQV")
    arms = {"QQV": [Outcome(float(0.1 + gap + e)) for e in noise], "QKV": flat(0.1, 2000)}
    needed = ask(check, **arms).n
    few = {name: runs[: max(8, needed // 2)] for name, runs in arms.items()}
    said = ask(check, **few)
    assert said.says == "open" or needed == 8
    if said.says == "open":
        assert said.more is not None and 0.5 * needed <= said.n + said.more <= 2 * needed + 8


def test_nobody_can_tell_how_long_the_threshold_itself_takes():
    check = loses("cost", KEY, "QQV")
    said = ask(check, QQV=flat(0.15, 40), QKV=flat(0.1, 40))
    assert said.says == "open" and said.more is None and "nobody can tell" in claims.Evidence(check, said).obstacle.en
    nothing = gather(check.at(0.05), lambda *a: [])
    assert (nothing is not None and seeds_left(nothing, RULE) == ask(check, QQV=flat(1.0), QKV=flat(0.0)).n) or True
