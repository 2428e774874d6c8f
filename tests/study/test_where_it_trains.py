"""One study, trained in one process, in two, and on Ray: the same verdicts from the same numbers."""

from __future__ import annotations

import multiprocessing

import pytest
from made_up import rows, spec

from qkvlab.study.progress import Progress
from qkvlab.study.run import run

STUDY = {
    "designs": ("XXV", "uniform"),
    "baseline": "XXV",
    "rates": (0.01,),
    "tune_seeds": (0,),
    "judge_seeds": 10,
    "alpha": 0.9,
}


def test_the_same_study_in_one_process_in_two_and_on_ray(tmp_path, quick_layout):
    study = spec(**STUDY)
    quick_layout(study)
    told: list[Progress] = []
    one = run(study, tmp_path / "one", tell=told.append)
    two = run(study, tmp_path / "two", workers=2, tell=told.append)
    ray = run(study, tmp_path / "ray", ray="local", tell=told.append)
    assert rows(one) == rows(two) == rows(ray) and [row["verdict"] for row in rows(one)] == ["worse"]
    assert {progress.layout.processes for progress in told if progress.layout} == {1, 2}
    assert not any(progress.lost for progress in told) and not multiprocessing.active_children()
    for cell, result in one.results.items():
        for other in (two.results[cell], ray.results[cell]):
            same = other.group == result.group
            assert other.losses == (result.losses if same else pytest.approx(result.losses, abs=1e-3))
