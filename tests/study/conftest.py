"""Fixtures of studies: made-up workers, and caches that spare real ones their trials."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from made_up import FOUND, FakeWorkers, World
from made_up import layout as laid

from qkvlab.study import run as runs
from qkvlab.study.registration import register
from qkvlab.study.spec import Spec
from qkvlab.training import layout, precision, trial
from qkvlab.training.layout import Layout
from qkvlab.training.trial import Trial
from qkvlab.training.workers import Order

CALM = World()
PLACES = {"": 1, "2 workers": 2, "ray local": 1}
"""Processes in each place that a test may name."""


@pytest.fixture
def workers(monkeypatch):
    """Give the runner made-up workers; returns those of the latest run."""
    made: list[FakeWorkers] = []

    def use(world: World = CALM, kind: type[FakeWorkers] = FakeWorkers, size: int = 8) -> list[FakeWorkers]:
        def find(order, facts, tell, workers, **much):
            made.append(kind(world))
            return laid(size), made[-1]

        monkeypatch.setattr(runs.layouts, "find", find)
        return made

    return use


@pytest.fixture
def quick_layout(tmp_path_factory, monkeypatch) -> Callable[[Spec], Path]:
    """Fill a cache with one process and eight models at once, so that no trial is needed, and fp32; returns its folder.

    With two workers there are two processes, and on a Ray cluster of our own one actor.
    """

    def fill(study: Spec) -> Path:
        folder = tmp_path_factory.mktemp("cache")
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
        for setting in register(study)["tasks"]:
            order = Order(setting["task"], setting["setting"], "QKV", ())
            for place, processes in PLACES.items():
                file = layout._cache_file(order, setting["facts"], place)
                layout._KEPT.write(file, Layout(processes, 1, 8, 1.0))
                for unit in (0, layout.UNIT) if study.task(order.task).halves else ():
                    file = precision._cache_file(replace(order, unit=unit), setting["facts"], place)
                    precision._KEPT.write(file, precision.Costs(fp32=1.0, bf16=2.0))
        return folder

    return fill


@pytest.fixture
def quiet(quick_layout):
    """Fill the caches, so that a plan needs no trial."""

    def fill(study: Spec, found: Layout = FOUND) -> Path:
        cache = quick_layout(study)
        registration = register(study)
        for setting in registration["tasks"]:
            order = Order(setting["task"], setting["setting"], next(iter(setting["arms"])), ())
            layout._KEPT.write(layout._cache_file(order, setting["facts"]), found)
            trial._KEPT.write(trial._cache_file(order, setting["facts"]), Trial(300 * 2**20, 0.05, 0.002))
        return cache

    return fill
