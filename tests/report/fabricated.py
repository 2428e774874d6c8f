"""A small study with results that nobody trained: what the tests of the report share."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np

from qkvlab.study import weights
from qkvlab.study.cells import Cell, Result
from qkvlab.study.registration import register
from qkvlab.study.spec import make
from qkvlab.study.store import Store

EVIL = "<script>alert(1)</script>"
SETTINGS = ("same-word/fixed", "synonym/fixed", "directed/learned")
DESIGNS = ("QKV", "QQV", "XXV", "frozen", "uniform")
ERRORS = {"QKV": 0.02, "QQV": 0.03, "XXV": 0.87, "frozen": 0.86, "uniform": 0.875}


LETTERS = {"QKV": 2.0, "QQV": 2.1, "XKV": 2.001, "uniform": 2.6}
"""Another task, which this version does not know: other designs, another metric, a bar."""


def registration(**changes: Any) -> dict[str, Any]:
    spec = make(recipe="small", designs=DESIGNS, settings=SETTINGS, rates=(0.003,), tune_seeds=(0, 1), judge_seeds=60)
    return {**register(spec), **changes}


def of_two_tasks() -> dict[str, Any]:
    """Return a registration whose second task runs other designs; of its last setting the bar is missed."""
    plan = registration()
    costs = {**plan["tasks"][0]["arms"], "XKV": plan["tasks"][0]["arms"]["QQV"]}
    other = {
        **plan["tasks"][0],
        "task": "letters",
        "metric": "nats",
        "delta": 0.02,
        "clip": 0.08,
        "chance": 2.9,
        "facts": {"layers": 2, "d_model": 32, "steps": 300, "sha256": "0" * 64},
    }
    few = ("QKV", "QQV", "uniform")
    tried = (("a/b", LETTERS, 2.2), ("a/b/params", few, 2.2), ("a-b", few, 1.9))
    for setting, names, bar in tried:
        arms = {name: costs[name] for name in names}
        words = {"zh": f"设置 {setting}", "en": f"setting {setting}"}
        facts = {**other["facts"], "match": "params" if setting.endswith("/params") else "none"}
        facts["words"] = setting.removesuffix("/params")
        plan["tasks"].append({**other, "setting": setting, "words": words, "facts": facts, "arms": arms, "bar": bar})
    plan["designs"].append("XKV")
    plan["words"]["XKV"] = {"zh": "Q 直接用 x", "en": "Q is x itself"}
    plan["comparisons"] = sum(len(setting["arms"]) - 1 for setting in plan["tasks"])
    plan["alpha_each"] = plan["alpha"] / plan["comparisons"]
    return plan


def renamed(plan: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    """Return the registration with a design called something else everywhere."""
    return json.loads(json.dumps(plan).replace(json.dumps(old), json.dumps(new)))


def run(plan: dict[str, Any], cell: Cell, error: float, *, diverged: bool = False) -> Result:
    noise = random.Random(f"{cell}")
    if cell.task == "letters":
        metrics = {"nats": error + noise.gauss(0, 0.002)}
    else:
        metrics = {} if diverged else {"error": error + noise.gauss(0, 0.01), "coverage": 1 - error / 2}
    losses = tuple(math.nan if diverged and step > 5 else 2.7 * 0.9**step for step in range(20))
    versions = {"qkvlab": "0.1.0", "python": "3.11.7", "torch": "2.13.0", "numpy": "2.4.6"}
    return Result(cell, metrics, diverged, losses, 200, 0.125, 8, "cpu", versions, plan["source"])


def results(plan: dict[str, Any], settings: int = 2, seeds: int = 50) -> list[Result]:
    """Return everything of the first settings; in the last of them fewer seeds, so that it is undecided."""
    found = []
    for i, setting in enumerate(plan["tasks"][:settings]):
        where = (setting["task"], setting["setting"])
        count = seeds if i < settings - 1 or settings == 1 else 10
        for name in setting["arms"]:
            error = LETTERS[name] if where[0] == "letters" else ERRORS.get(name, ERRORS["QQV"])
            cells = [Cell(*where, name, "tune", seed, 0.003) for seed in plan["seeds"]["tune"]]
            cells += [Cell(*where, name, "judge", seed, 0.003) for seed in plan["seeds"]["judge"][:count]]
            found += [run(plan, c, error, diverged=name == "frozen" and c.seed == 1003) for c in cells]
    return found


def results_of_two_tasks(plan: dict[str, Any]) -> list[Result]:
    """Return everything, as a study runs it: where the bar is missed there is only tuning."""
    every, last = results(plan, settings=len(plan["tasks"])), plan["tasks"][-1]["setting"]
    return [result for result in every if result.cell.setting != last or result.cell.role == "tune"]


def study_of_two_tasks(folder: Path) -> Path:
    """Write a store."""
    plan = of_two_tasks()
    with Store.create_or_continue(folder, plan) as store:
        store.add(results_of_two_tasks(plan))
    return folder


def study(folder: Path, plan: dict[str, Any] | None = None, *, settings: int = 2, models: bool = True) -> Path:
    """Write a store, and models for the second setting."""
    plan = registration() if plan is None else plan
    done = results(plan, settings) if settings else []
    with Store.create_or_continue(folder, plan) as store:
        store.add(done)
    if models and settings > 1:
        for name in plan["designs"]:
            cell = Cell("library", "synonym/fixed", name, "judge", 1000, 0.003)
            weights.save(folder, run(plan, cell, 0.02), state(name))
    return folder


def state(name: str) -> dict[str, np.ndarray]:
    """Return parameters by the names of the trained module, drawn at random."""
    letters = {"uniform": "v", "frozen": "qkv"}.get(name, name.lower())
    rng = np.random.default_rng(0)
    found = {"words": (120, 96), "contents": (16, 96), "attention.out.weight": (96, 96)}
    found |= {f"attention.projections.{letter}": (96, 96) for letter in set(letters) & set("qkv")}
    return {key: rng.standard_normal(shape).astype(np.float32) / 10 for key, shape in sorted(found.items())}
