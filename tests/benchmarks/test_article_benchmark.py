"""The record's trainings are each counted once, and both sides are carried over to all of them alike."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "benchmarks"))

import article
from qkvlab import record
from qkvlab.training.layout import Layout

ARMS = article.arms(article.RECORD / "results.csv")
FOUND = {"steps": 600, "loop_rate": 20.0, "engine_rate": 60.0, "loop_exam": 0.5, "engine_exam": 0.25, "ready": 30.0}


def test_every_training_of_the_record_is_counted_once():
    document = record.recorded("article")
    assert document is not None
    assert sum(arm.trainings for arm in ARMS) == document["origin"]["cells"]
    assert sum(arm.seconds for arm in ARMS) == pytest.approx(document["origin"]["model_seconds"], abs=1)
    assert sorted((arm.task, arm.setting, arm.design) for arm in ARMS) == sorted(record.trained())


@pytest.mark.parametrize("parts", [1, 2, 99])
def test_each_arm_is_stood_for_once_by_one_of_the_same_setting_or_sizes(parts):
    found = article.points(ARMS, parts)
    assert Counter(arm for point in found for arm in point.stands_for) == Counter(ARMS)
    for point in found:
        assert point.arm in point.stands_for and len({(arm.task, arm.steps) for arm in point.stands_for}) == 1
        of_one_design = {arm.flops for arm in point.stands_for if arm.design == point.arm.design}
        assert len(of_one_design) == 1, "settings with other sizes are measured apart"
    heavy = [p for p in found if (p.arm.task, p.arm.setting) == ("text", "plain")]
    assert len(heavy) == min(parts, 9)


def test_seconds_of_all_trainings():
    one = article.carried(FOUND, [10], Layout(2, 1, 8, 100.0))
    assert one["loop_seconds"] == 10 * (30 + 0.5)
    assert one["engine_seconds"] == 10 * (10 + 0.25) + 30.0, "two groups, so both workers compile, at the same time"
    few = article.carried(FOUND, [3, 3], Layout(2, 1, 8, 100.0))
    assert few["compiling_seconds"] == 2 * 15.0, "one worker compiles while the other does something else"
    total = article.summed([one, few], {"text": {"seconds": 60.0}})
    assert total["trainings"] == 16
    assert total["engine_hours"] * 3600 == pytest.approx(one["engine_seconds"] + few["engine_seconds"] + 60.0)
    assert total["engine_by_loop"] == pytest.approx(total["engine_hours"] / total["loop_hours"])
