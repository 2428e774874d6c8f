"""Plans count compiled steps exactly where the study would compile them."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from made_up import FOUND, FakeWorkers, World, spec

from qkvlab.study import run as runs
from qkvlab.study.plan import Plan, foresee
from qkvlab.study.plan_document import BOUNDS, document
from qkvlab.study.programs import PAYS, Programs
from qkvlab.study.run import run
from qkvlab.training.layout import Compiled


@pytest.mark.parametrize("processes", [1, 2])
def test_compiled_steps_are_counted_where_they_pay(processes, tmp_path, quiet):
    quiet(spec())
    told = foresee(spec(), tmp_path)

    def with_layout(limit: float = math.inf, **changes: Any) -> Plan:
        found = told.measured["library"]
        found = dataclasses.replace(found, layout=dataclasses.replace(found.layout, processes=processes, **changes))
        return dataclasses.replace(told, measured={"library": found}, limit=limit)

    compiled = Compiled(unit=4, gain=2.0, seconds=1.0)
    plain, plan, hurried = with_layout(), with_layout(compiled=compiled), with_layout(3.0, compiled=compiled)
    assert all(plan.compiled(arm) for arm in plan.arms) and not any(hurried.compiled(arm) for arm in hurried.arms)
    assert document(hurried)["total"] == document(plain)["total"]
    beside = 0.05 / processes
    for i, arm in enumerate(plan.arms):
        way = plan._programs.way((arm.key, arm.design.name))
        assert way is not None and way.program.design == "QKV"
        assert plan.seconds(arm) - beside == pytest.approx((plain.seconds(arm) - beside) / 2 * way.slower)
        # each worker that trains a group compiles the program, once for all that it serves
        assert [plan.compiling(arm, n) for n in (0, 8, 9)] == ([0.0] * 3 if i else [0.0, 1 / processes, 1.0])
        assert plain.compiling(arm, 9) == 0.0
    said = document(plan)
    each = {bound: [getattr(arm.cells, bound) for arm in plan.arms] for bound in BOUNDS}
    for bound, counts in each.items():
        steps = sum(arm.whole(bound) * plan.seconds(arm) for arm in plan.arms)
        compiling = sum(plan.compiling(arm, n) for n, arm in zip(counts, plan.arms, strict=True))
        assert compiling > 0 and said["total"]["seconds"][bound] == pytest.approx(steps + compiling)
    assert said["settings"][0]["compiled"] == len(plan.arms) and said["here"]["library"]["compiled"]["gain"] == 2.0


@pytest.mark.parametrize(("more", "pays"), [(0.999, True), (1.001, False)])
def test_a_study_compiles_what_its_plan_says(more, pays, tmp_path, quiet, monkeypatch):
    """At the edge: a little more to compile and it does not pay."""
    study = spec()
    quiet(study)
    arms, saved = foresee(study, tmp_path).arms, 0.0
    for arm in arms:
        own, *others = Programs()._ways((arm.key, arm.design.name))
        slower = (others or [own])[0].slower
        saved += arm.left * arm.steps / FOUND.rate * (1 - slower / 2.0)
    found = dataclasses.replace(FOUND, compiled=Compiled(unit=4, gain=2.0, seconds=more * saved / PAYS))
    quiet(study, found)
    plan, workers = foresee(study, tmp_path, limit=300.0), FakeWorkers(World())
    monkeypatch.setattr(runs.layouts, "find", lambda *given, **much: (found, workers))
    run(study, tmp_path, minutes=5)
    first = {}
    for order in workers.orders:
        first.setdefault(order.design, order.unit)
    assert first == {arm.design.name: 4 * pays for arm in plan.arms}
    assert {arm.design.name: plan.compiled(arm) is not None for arm in plan.arms} == dict.fromkeys(first, pays)


def test_a_real_study_is_compiled_as_planned(tmp_path, quiet):
    study = spec(designs=("XXV", "uniform"), baseline="XXV", rates=(0.01,), tune_seeds=(0,), judge_seeds=10, alpha=0.9)
    quiet(study, dataclasses.replace(FOUND, rate=1.0, compiled=Compiled(unit=4, gain=2.0, seconds=0.01)))
    plan = foresee(study, tmp_path, limit=300.0)
    assert all(plan.compiled(arm) for arm in plan.arms)
    findings = run(study, tmp_path, minutes=5)
    assert findings.results and {r.versions.get("compiled") for r in findings.results.values()} <= {
        "XXV",
        "uniform",
        "QKV",
    }
