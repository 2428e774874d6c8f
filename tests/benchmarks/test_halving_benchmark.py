"""The replay of the rule says what it says: of one setting here, of all in the published file."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "benchmarks"))

import halving
from qkvlab.study.registration import HALVING
from qkvlab.training.halving import Halving, Rung

ROOT = Path(__file__).parent.parent.parent
STUDY = ROOT / "results" / "2026-11-25-article"
FILES = ROOT / "results" / "2026-11-26-benchmarks"


@pytest.fixture(scope="module")
def record() -> tuple[dict, dict]:
    registration = json.loads((STUDY / "registration.json").read_text("utf-8"))
    registration["tasks"] = [s for s in registration["tasks"] if s["setting"] == "unseen-synonym/learned"]
    curves = json.loads((FILES / "halving_curves.json").read_text("utf-8"))
    return registration, halving.tuned(STUDY, curves)


def test_the_published_file_is_of_the_registered_rule(record):
    published = json.loads((FILES / "halving.json").read_text("utf-8"))["rule"]
    assert Halving.of(published["rule"]) == HALVING and published["without_curves"] == []
    found = halving.compared(*record, HALVING)
    mine = [each for each in published["changes"] if each["setting"] == "unseen-synonym/learned"]
    assert found["changes"] == mine and len(mine) == published["changed"]
    assert 0 < found["share_of_steps_saved"] < 0.5 and found["stopped"] > 0


def test_without_a_rule_nothing_changes_and_a_rule_that_stops_the_best_is_seen(record):
    never = Halving((Rung(0.5, lower=1e9, higher=1e9),), 0.1, 0.0)
    found = halving.compared(*record, never)
    assert found["changed"] == found["stopped"] == found["share_of_steps_saved"] == 0

    class Worst(Halving):
        def staying(self, curves, point, rung, whole):
            return {max(rate for _, rate in curves)}

    planted = halving.compared(*record, Worst(never.rungs, 0.1, 0.0))
    assert planted["changed"] or planted["grid_grows_beyond_what_was_tried"]


def test_settings_without_curves_are_named(record):
    registration, cells = record
    bare = {cell: dataclasses.replace(one, losses=()) for cell, one in cells.items()}
    assert halving.compared(registration, bare, HALVING)["without_curves"] == [["library", "unseen-synonym/learned"]]
