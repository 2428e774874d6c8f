"""Fixtures of studies that really train."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from qkvlab.study.registration import register
from qkvlab.study.spec import Spec
from qkvlab.training import layout
from qkvlab.training.layout import Layout
from qkvlab.training.workers import Order


@pytest.fixture
def quick_layout(tmp_path_factory, monkeypatch) -> Callable[[Spec], Path]:
    """Fill a cache with one process and eight models at once, so that no trial is needed; returns its folder."""

    def fill(study: Spec) -> Path:
        folder = tmp_path_factory.mktemp("cache")
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
        for setting in register(study)["tasks"]:
            order = Order(setting["task"], setting["setting"], "QKV", ())
            layout._write(layout._cache_file(order, setting["facts"]), Layout(1, 1, 8, 1.0))
        return folder

    return fill
