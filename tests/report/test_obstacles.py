"""What is open is listed with its price, and the price is near what deciding really takes."""

import dataclasses
import sys
from pathlib import Path

import fabricated
import numpy as np
import pytest

from qkvlab.evidence import DEFAULT_BETS, Outcome, Rule, decide, seeds_needed
from qkvlab.report.obstacles import obstacles
from qkvlab.study.decisions import Findings
from qkvlab.study.price import MOST, more_seeds
from qkvlab.study.verdicts import document

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "benchmarks"))

PLAN = fabricated.registration()
FINDINGS = Findings(PLAN, fabricated.results(PLAN))
LAW = Rule(delta=0.05, alpha=0.001, bets=DEFAULT_BETS)


def seeds_to_decide(values):
    """Decide on ever more of these differences; the floor is beaten from the start."""
    design = [Outcome(0.1 + d) for d in values]
    base, floor = [Outcome(0.1)] * len(values), [Outcome(0.9)] * len(values)
    verdict = decide(design, base, floor, LAW)
    assert verdict.decided
    return verdict.n


@pytest.mark.parametrize(
    ("mean", "spread"), [(0.0, 0.0), (0.0, 0.02), (0.01, 0.03), (0.1, 0.05), (-0.2, 0.01), (0.03, 0.02)]
)
def test_the_estimate_is_near_what_it_takes(mean, spread):
    values = np.clip(np.random.default_rng(0).normal(mean, spread, 200), -LAW.clip, LAW.clip)
    truth = seeds_to_decide(values)
    for read in (9, truth // 2):
        if 0 < read < truth:
            guess = read + more_seeds(values[:read], LAW)
            assert 0.4 * truth <= guess <= 2.5 * truth


def test_equivalence_waits_for_the_farther_edge():
    near = np.full(10, 0.04)  # within delta, but far from excluding a difference of delta
    law = dataclasses.replace(LAW, min_seeds=1)
    upper, lower = (more_seeds(near, law, [edge]) for edge in (LAW.delta, -LAW.delta))
    assert lower < upper  # planted: one edge alone promises too much
    tilted = near - 0.04 + np.tile([0.001, -0.001], 5)
    assert more_seeds(tilted, law) >= more_seeds(tilted, law, [-LAW.delta])


def test_a_stricter_alpha_and_a_smaller_delta_cost_more():
    values = np.random.default_rng(1).normal(0, 0.01, 10)
    dear = more_seeds(values, LAW)
    assert more_seeds(values, dataclasses.replace(LAW, alpha=0.05)) < dear
    assert more_seeds(values, dataclasses.replace(LAW, alpha=0.001, bets=(0.02, 0.05))) > dear  # timid bets take long


def test_nobody_can_tell_where_the_mean_stands_on_an_edge():
    values = np.tile([LAW.delta + 0.15, LAW.delta - 0.15], 50)
    assert more_seeds(values, LAW, [LAW.delta]) is None
    assert MOST > 10_000


def test_every_open_comparison_is_listed_and_nothing_else():
    found = obstacles(FINDINGS)
    assert [(o.key, o.design) for o in found] == [
        (key, name) for key, name, verdict in FINDINGS.comparisons() if not verdict.decided
    ]
    begun = [each for each in found if each.verdict.n]
    assert begun and all(each.seeds > 0 and each.minutes > 0 for each in begun)
    assert "more seeds" in begun[0].words.en and "minutes of training" in begun[0].words.en
    assert "个种子" in begun[0].words.zh and "分钟" in begun[0].words.zh
    fresh = [each for each in found if not each.verdict.n]
    least, _ = seeds_needed(PLAN["alpha_each"], 0.05)
    assert fresh and fresh[0].words.en == f"not started; at least {least} more seeds"
    assert fresh[0].words.zh == f"还没开始，还要至少 {least} 个种子"


def test_minutes_are_those_of_both_arms():
    one = next(each for each in obstacles(FINDINGS) if each.verdict.n)
    assert one.minutes == pytest.approx(one.seeds * 2 * 0.125 / 60)  # every fabricated run took .125 s


def test_a_comparison_that_waits_for_the_floor_is_priced_by_the_floor():
    noisy = [
        dataclasses.replace(r, metrics={"error": 0.13 + (0.2 if r.cell.seed % 2 else -0.1)})
        if r.cell.design == "uniform" and r.cell.role == "judge"
        else r
        for r in fabricated.results(PLAN, settings=1)
        if not (r.cell.design == "uniform" and r.cell.role == "judge" and r.cell.seed > 1015)
    ]
    found = [o for o in obstacles(Findings(PLAN, noisy)) if o.verdict.reason == "waiting for the floor"]
    assert found and "control of equal attention" in found[0].words.en


def test_the_record_lists_what_is_open():
    from publish import origin

    waiting = obstacles(FINDINGS)
    text = origin("2026-11-22-small", document(FINDINGS), ["One.", "Two.", "Three."], "1 min", 30, waiting)
    for each in waiting:
        assert f"- {each.where.en}: {each.words.en}" in text
    assert "Undecided, with what each would take" in text
    assert "| no. | people say | verdict | in one line |" in text and "table.tex" in text
    assert "Undecided" not in origin("done", document(FINDINGS), ["One."], "1 min", 30, [])


def test_readmes_take_the_claims_between_their_markers():
    from publish import filled

    names = ("answer", "claims", "table", "legend")
    blank = "head\n" + "".join(f"<!-- {name}:begin -->\nOUTDATED\n<!-- {name}:end -->\nkept {name}\n" for name in names)
    text = filled(blank, document(FINDINGS), ["One.", "Two."], "en")
    assert "OUTDATED" not in text and all(f"kept {name}" in text for name in names) and text.startswith("head\n")
    assert "| no. | people say |" in text.split("<!-- claims:begin -->")[1].split("<!-- claims:end -->")[0]
    assert filled(text, document(FINDINGS), ["One.", "Two."], "en") == text
