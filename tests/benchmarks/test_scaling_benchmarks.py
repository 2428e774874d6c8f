"""The benchmarks of scale measure every point, predict from two of them, and carry over what was recorded."""

import dataclasses
import json
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "benchmarks"))

import cluster
import scaling
from qkvlab import designs, record, tasks
from qkvlab.study.spec import make
from qkvlab.training import effort

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "results" / "2026-11-26-benchmarks"


def test_every_size_that_a_task_has_is_a_point():
    found = {(point.grows, point.times) for point in scaling.points(tasks.find("text"))}
    assert {("models", 24), ("seeds", 32), ("d_model", 4), ("tokens", 4)} <= found
    grown = next(p for p in scaling.points(tasks.find("text")) if (p.grows, p.times) == ("d_model", 4))
    assert (grown.task.d_model, grown.task.hidden) == (256, 512)
    assert not any(point.grows == "tokens" for point in scaling.points(tasks.find("library")))


def test_points_are_measured_and_predicted_from_two_of_them(monkeypatch):
    """Clocks that tick as the model of the plan says give ratios of 1; a group that takes twice as long gives 2."""
    network, design = tasks.find("library").network("synonym/fixed", designs.parse("QKV")), designs.parse("QKV")
    pace = effort.Pace.of(network, design, one=0.004, many=0.01, models=scaling.MODELS)

    def ticking(self, steps):
        seconds = pace.step(self.point.task.network("synonym/fixed", design), design, self.point.models)
        return self.rounds * steps * seconds * (2 if self.point.models == 24 else 1)

    monkeypatch.setattr(scaling.Timed, "seconds", ticking)
    monkeypatch.setattr(scaling, "GROUPS", (1, 8, 24))
    rows = scaling.times_of(tasks.find("library"), "synonym/fixed", "QKV", 1, 2)
    assert {row["models"]: row["measured_over_predicted"] for row in rows if row["grows"] == "models"} == pytest.approx(
        {1: 1, 8: 1, 24: 2}
    )
    assert all(row["measured_over_predicted"] == pytest.approx(1) for row in rows if row["models"] != 24)
    assert sum(row["told"] for row in rows) == 2


def test_real_steps_are_timed():
    task = scaling.short(tasks.find("library"), 4)
    point = scaling.Point("seeds", 4, task, 2, 4)
    timed = scaling.Timed(point, "synonym/fixed", "QKV")
    assert all(timed.seconds(1) > 0 for _ in range(3))  # more steps than the task has: the group is made anew
    assert dataclasses.replace(task).train_steps == 4


def test_designs_of_the_cluster_exist_and_differ():
    names = cluster.many(40)
    assert len(set(names)) == 40 and all(designs.parse(name).name == name for name in names)


def test_what_is_carried_over():
    key, each = ("text", "plain"), {"tune": 0.01, "judge": 0.02}
    row = {"seconds": 10.0, "rates": 3.0}
    said = cluster.carried(key, row, 100, 64, [1, 10, 10**6], each)
    assert said["trainings"] == 100 * (64 + 3) and said["worker_seconds"] == 67_000
    assert said["hours"]["1"] == pytest.approx(67_000 / 3600) and said["hours"]["10"] == pytest.approx(6_700 / 3600)
    assert said["head_seconds"] == pytest.approx(100 * 0.01 + 800 * 0.02)
    # more workers than groups: one group's time, or the leading process
    assert said["hours"][str(10**6)] == pytest.approx(max(67_000 / 900, said["head_seconds"]) / 3600)
    slow = cluster.carried(key, row, 100, 64, [10**6], {"tune": 10.0, "judge": 10.0})
    assert slow["hours"][str(10**6)] == pytest.approx(slow["head_seconds"] / 3600)


def test_the_leading_process_is_timed_in_both_roles(tmp_path):
    spec = make(recipe="t", designs=("QKV", "QQV"), tasks=("text",), settings=("plain",), judge_seeds=24)
    said = cluster.head(spec, 4, tmp_path)
    assert min(said["seconds_per_group"].values()) > 0 and said["groups"]["judge"] == 4
    assert 100 < said["bytes_per_training"] < 50_000  # an empty store is not small


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_page_shows_what_was_recorded(lang):
    page = (ROOT / "docs" / ("plan.md" if lang == "en" else "plan.zh.md")).read_text("utf-8")
    found = {path.stem: json.loads(path.read_text("utf-8")) for path in RESULTS.glob("*.json")}
    assert cluster.markdown(found["cluster"], lang) in page
    assert scaling.markdown([found["scaling"], found["scaling_library"]], lang) in page
    assert all(row["within_goal"] for name in ("scaling", "scaling_library") for row in found[name]["memory"])
    head = found["cluster"]["measured_here"]
    numbers = [f"{1000 * each:.1f}" for each in head["seconds_per_group"].values()]
    numbers += [f"{head['bytes_per_training']:.0f}", *map(str, found["cluster"]["seeds_needed"]["text"])]
    assert all(re.search(rf"(?<![\d.]){re.escape(number)}(?![\d.]\d)", page) for number in numbers), numbers


def test_recorded_means_are_those_of_the_record():
    rows = [r for k, r in record.trained().items() if k[:2] == ("text", "plain") and r["seconds"] is not None]
    assert cluster.recorded()["text", "plain"]["seconds"] == pytest.approx(sum(r["seconds"] for r in rows) / len(rows))
