"""The page says what trainings took: one number of steps for all that is judged, and what stopped in tuning."""

from __future__ import annotations

import dataclasses

from fabricated import DESIGNS, registration, results

from qkvlab import report
from qkvlab.report.budget import Budget, brief, budgets, of_settings, rule
from qkvlab.report.gather import look
from qkvlab.study.decisions import Findings
from qkvlab.study.store import Store
from qkvlab.training.halving import STOPPED


def stopped(plan):
    """Return results of which every tuning training but those of one rate stopped."""
    plan["tasks"][0]["tuning"]["rates"] = [0.001, 0.003, 0.01]
    whole = results(plan, settings=1, seeds=9)
    more = [
        dataclasses.replace(one, cell=dataclasses.replace(one.cell, lr=rate), metrics={STOPPED: 2.5}, steps=60)
        for one in whole
        for rate in (0.001, 0.01)
        if one.cell.role == "tune"
    ]
    return whole + more


def test_what_stopped_is_told(tmp_path):
    plan = registration()
    every = stopped(plan)
    study = look(Findings(plan, every))
    ((setting, found),) = of_settings(study)
    assert found == Budget(9 * len(DESIGNS), (200,), tuned=30, stopped=20, taken=10 * 200 + 20 * 60, full=30 * 200)
    assert setting.key == ("library", "same-word/fixed")
    assert brief(found).en == "20 of 30 tuning trainings stopped, which saved 47% of the tuning steps"
    said = rule(study)
    assert said is not None and "30% or 60%" in said.en and "走完 30% 或 60%" in said.zh and brief(found).zh in said.zh
    with Store.create_or_continue(tmp_path, plan) as store:
        store.add(every)
        assert store.aside() == []
    written = report.write(tmp_path)
    page = written.report.read_text("utf-8")
    assert "Training budget" in page and "训练预算" in page and brief(found).en in page
    lines = written.results.read_text("utf-8").splitlines()
    assert sum(f",{STOPPED},2.5,false," in line and ",60," in line for line in lines) == 20


def test_older_studies_have_no_such_chapter():
    plan = registration()
    del plan["tuning"]["halving"]
    study = look(Findings(plan, results(plan)))
    assert rule(study) is None and of_settings(study) == [] and budgets(plan, study.origin["trained"]) == {}


def test_budgets_that_differ_would_be_seen():
    plan = registration()
    every = results(plan, settings=1, seeds=9)
    short = [dataclasses.replace(one, steps=100) if one.cell.seed == 1002 else one for one in every]
    ((_, found),) = of_settings(look(Findings(plan, short)))
    assert found.steps == (100, 200)
