"""The registration: everything a study decides, written down before its first run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from importlib import resources
from typing import Any

from qkvlab import claims, designs, tasks
from qkvlab.evidence import DEFAULT_BETS, Rule
from qkvlab.study.spec import Spec
from qkvlab.training.halving import Halving, Rung

FIRST_JUDGE_SEED = 1000
FLOOR = "uniform"
TIE = 0.1
"""Tuned metrics closer than this share of delta to the best are a tie, and ties take the middle rate."""
EXTENSIONS = 2
"""How often the grid of rates may grow because some design's best rate stands at its edge."""

HALVING = Halving((Rung(0.3, lower=0.8, higher=1.2), Rung(0.6, lower=0.05, higher=0.8)), window=0.1, enough=0.2)
"""When hopeless rates stop; `benchmarks/halving.py` holds it against rates that were trained to their end."""

_SHARED_FOLDERS = ("designs", "attention", "kernels")
_SHARED_FILES = tuple(f"training/{name}.py" for name in ("recipe", "together", "steps", "adamw", "tuning", "halving"))
"""Code that every run passes through and that defines its numbers; tasks name their own files besides."""


def register(spec: Spec) -> dict[str, Any]:
    """Write a study down as plain JSON data; equal studies give equal registrations.

    The floor `uniform` joins every study: without it nothing can be called equivalent.
    """
    pairs = spec.pairs()
    settings = [_setting(spec, task, setting) for task, setting in pairs]
    names = list(dict.fromkeys(name for setting in settings for name in setting["arms"]))
    count = sum(len(setting["arms"]) - 1 for setting in settings)
    tuned = list(dict.fromkeys(seed for setting in settings for seed in setting["tuning"]["seeds"]))
    # a tuning seed that falls among the judging seeds is passed over, so the list is drawn a little longer
    judged = [FIRST_JUDGE_SEED + i for i in range(spec.judge_seeds + len(tuned))]
    return {
        "recipe": spec.recipe,
        "designs": names,
        "words": {name: vars(designs.parse(name).words) for name in names},
        "baseline": spec.baseline,
        "match": list(spec.match),
        "tasks": settings,
        "seeds": {
            "tune": tuned,
            "judge": [s for s in judged if s not in tuned][: spec.judge_seeds],
        },
        "alpha": spec.alpha,
        "comparisons": count,
        "alpha_each": spec.alpha / count,
        "claims": claims.register(settings, spec.alpha),
        "bets": list(DEFAULT_BETS),
        "tuning": {
            "extensions": EXTENSIONS,
            "tie": TIE,
            "rule": "least mean of the judged metric over the tuning seeds; ties take the middle rate; "
            "a best rate at the edge extends the grid for all designs",
            **({"halving": HALVING.told()} if spec.halving else {}),
        },
        "source": source_hash(spec.tasks),
    }


def rule(registration: dict[str, Any], setting: dict[str, Any]) -> Rule:
    """Return the rule by which every comparison of a registered setting is decided."""
    return Rule(delta=setting["delta"], alpha=registration["alpha_each"], bets=tuple(registration["bets"]))


def source_hash(task_names: Iterable[str]) -> str:
    """Hash the code and data that define the numbers of runs on these tasks; a change makes results incomparable."""
    digest = hashlib.sha256()
    root = resources.files("qkvlab")
    paths = {*_SHARED_FILES, *(path for name in task_names for path in tasks.find(name).sources)}
    for folder in _SHARED_FOLDERS:
        files = (file.name for file in root.joinpath(folder).iterdir())
        paths |= {f"{folder}/{name}" for name in files if name.endswith((".py", ".cpp", ".h"))}
    for path in sorted(paths):
        digest.update(path.encode() + b"\0" + root.joinpath(path).read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _setting(spec: Spec, task_name: str, setting: str) -> dict[str, Any]:
    task = spec.task(task_name)
    rates, seeds = spec.tuning(task_name)
    delta, products = spec.delta if spec.delta is not None else task.delta, spec.products_of(task_name)
    arms = {}
    for name in dict.fromkeys([*spec.arms(task_name), FLOOR]):
        cost = task.cost(setting, designs.parse(name))
        arms[name] = {
            "params": task.parameters(setting, designs.parse(name)),
            "flops_per_token": cost.flops_per_token,
            "cache_per_token": cost.cache_per_token,
        }
    return {
        "task": task_name,
        "setting": setting,
        "words": vars(task.describe(setting)),
        "metric": task.metric,
        "delta": delta,
        "clip": 4 * delta,
        "chance": task.chance(setting),
        "bar": task.bar(setting),
        "steps": task.steps(setting),
        "tuning": {"rates": list(rates), "seeds": list(seeds)},
        "facts": {**task.facts(setting), **({} if products == "fp32" else {"products": products})},
        "arms": arms,
    }
