"""The registration: plain, the same for the same study, and different where anything that counts is different."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from made_up import spec

import qkvlab
from qkvlab import evidence, tasks
from qkvlab.study import recipes, registration
from qkvlab.study.registration import register, rule, source_hash


def hashed() -> str:
    return source_hash(["library"])


def test_it_is_plain_json_and_the_same_every_time():
    for study in (spec(), recipes.find("article")):
        first = register(study)
        text = json.dumps(first, sort_keys=True, allow_nan=False)
        assert json.loads(text) == first
        assert json.dumps(register(study), sort_keys=True) == text


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": "u"},
        {"designs": ("QKV", "QQV")},
        {"designs": ("QKV", "XXV", "QQV")},
        {"baseline": "QQV"},
        {"settings": ("synonym/fixed",)},
        {"settings": ("same-word/fixed", "synonym/fixed")},
        {"rates": (0.001, 0.003)},
        {"tune_seeds": (0, 2)},
        {"judge_seeds": 61},
        {"delta": 0.04},
        {"alpha": 0.04},
    ],
    ids=str,
)
def test_every_field_is_registered(change):
    assert register(spec(**change)) != register(spec())


def test_what_evidence_asks_to_be_registered():
    found = register(spec())
    (setting,) = found["tasks"]
    assert setting["delta"] == 0.05 and setting["clip"] == 0.2 and setting["metric"] == "error"
    assert setting["chance"] == 0.875 and setting["facts"]["steps"] == 200
    assert found["bets"] == [0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.98]
    assert setting["tuning"]["rates"] == [0.001, 0.003, 0.01] and found["tuning"]["extensions"] == 2
    assert setting["tuning"]["seeds"] == found["seeds"]["tune"] and setting["bar"] is None
    assert found["comparisons"] == 3 and found["alpha_each"] == pytest.approx(0.05 / 3)
    assert set(setting["arms"]) == set(found["designs"]) == set(found["words"])
    assert set(setting["arms"]["QKV"]) == {"params", "flops_per_token", "cache_per_token"}
    assert setting["arms"]["QQV"]["params"] < setting["arms"]["QKV"]["params"]
    assert found["source"] == hashed()


def test_the_rule_is_that_of_the_registration():
    found = register(spec(delta=0.1, alpha=0.09))
    law = rule(found, found["tasks"][0])
    assert (law.delta, law.clip, law.alpha) == (0.1, 0.4, pytest.approx(0.03))
    assert law.bets == evidence.DEFAULT_BETS and law.min_seeds == 8


def test_alpha_is_shared_by_all_comparisons():
    two = register(spec(settings=("same-word/fixed", "synonym/fixed")))
    assert two["comparisons"] == 6 and two["alpha_each"] == pytest.approx(0.05 / 6)


def test_the_floor_joins_every_study_once():
    assert register(spec())["designs"] == ["QKV", "QQV", "XXV", "uniform"]
    named = register(spec(designs=("QKV", "uniform", "QQV")))
    assert named["designs"] == ["QKV", "uniform", "QQV"] and named["comparisons"] == 2


@pytest.mark.parametrize("tune", [(0, 1, 2), (1000,), (1000, 1003, 1059, 1060), (1062, 5), tuple(range(1000, 1100))])
def test_no_seed_tunes_and_judges(tune):
    seeds = register(spec(tune_seeds=tune))["seeds"]
    assert seeds["tune"] == list(tune)
    assert len(seeds["judge"]) == len(set(seeds["judge"])) == 60 and seeds["judge"] == sorted(seeds["judge"])
    assert not set(seeds["judge"]) & set(tune)


# The hash of the source


@pytest.fixture
def copy(tmp_path, monkeypatch) -> Path:
    """A copy of the package, which the hash is taken of."""
    folder = tmp_path / "qkvlab"
    shutil.copytree(Path(qkvlab.__file__).parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(registration, "resources", SimpleNamespace(files=lambda package: folder))
    return folder


def test_a_copy_has_the_same_hash(copy, monkeypatch):
    copied = hashed()
    monkeypatch.undo()
    assert copied == hashed() and len(copied) == 16


@pytest.mark.parametrize(
    "name",
    ["designs/ways.py", "attention/core.py", "models/reader.py", "tasks/library.py", "tasks/vocabulary.json",
     "training/recipe.py", "training/together.py"],
)  # fmt: skip
def test_what_defines_the_numbers_changes_the_hash(copy, name):
    before = hashed()
    original = (copy / name).read_bytes()
    (copy / name).write_bytes(original + b"\n")
    assert hashed() != before
    (copy / name).write_bytes(original)
    assert hashed() == before


def test_a_new_file_a_lost_one_and_a_moved_one_change_the_hash(copy):
    seen = {hashed()}
    (copy / "designs" / "new.py").write_text("")
    seen.add(hashed())
    (copy / "designs" / "new.py").rename(copy / "attention" / "new.py")
    seen.add(hashed())
    (copy / "attention" / "new.py").unlink()
    (copy / "attention" / "trace.py").unlink()
    seen.add(hashed())
    assert len(seen) == 4


def test_every_file_that_a_task_names_exists(copy):
    for task in tasks.catalogue().values():
        assert len(set(task.sources)) == len(task.sources) > 0
        assert all((copy / name).is_file() for name in task.sources)


def test_what_only_moves_or_shows_numbers_does_not(copy):
    before = hashed()
    others = ("cli/app.py", "study/run.py", "evidence/verdict.py", "reference/reader.py", "training/layout.py")
    for name in (*others, "training/workers.py", "training/one.py", "__init__.py"):
        (copy / name).write_bytes((copy / name).read_bytes() + b"\n")
    (copy / "designs" / "__pycache__").mkdir()
    (copy / "designs" / "__pycache__" / "ways.cpython-311.pyc").write_bytes(b"x")
    assert hashed() == before
