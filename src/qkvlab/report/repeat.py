"""The command that runs a registered study again."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from qkvlab import tasks
from qkvlab.errors import BadInput
from qkvlab.study import recipes
from qkvlab.study.registration import FLOOR, source_hash


def command(registration: dict[str, Any]) -> str:
    """Return the command; options are given only where the study differs from its recipe.

    >>> from qkvlab.study.recipes import find
    >>> from qkvlab.study.registration import register
    >>> command(register(find("article").model_copy(update={"alpha": 0.1})))
    'qkvlab study article --alpha 0.1 --products fp32'
    """
    parts = ["qkvlab", "study", registration["recipe"]]
    plan = _plan(registration)
    told = {
        "--designs": _everywhere(registration["designs"], [each["arms"] for each in registration["tasks"]]),
        "--tasks": list(dict.fromkeys(each["task"] for each in registration["tasks"])),
        "--settings": [each["setting"] for each in registration["tasks"]],
        "--seeds": len(registration["seeds"]["judge"]),
        "--delta": _deltas(registration),
        "--alpha": registration["alpha"],
        "--match": registration.get("match"),
        "--text": _text(registration),
        "--products": _products(registration),
    }
    for option, value in told.items():
        if value and plan is not None and value != plan[option]:
            parts += [option, ",".join(value) if isinstance(value, list) else str(value)]
    return shlex.join(parts)


def _everywhere(designs: list[str], arms: Sequence[Iterable[str]]) -> list[str]:
    """Return the designs that run in every setting: the others join single tasks by the recipe."""
    return [name for name in dict.fromkeys(designs) if all(name in each for each in arms)]


def _plan(registration: dict[str, Any]) -> dict[str, Any] | None:
    try:
        spec = recipes.find(registration["recipe"])
        run = tuple(dict.fromkeys(each["task"] for each in registration["tasks"]))
        # settings alone can leave only some tasks to run; the source still covers all that were asked for
        asked = spec.tasks if registration["source"] == source_hash(spec.tasks) else run
        own = {"tasks": asked, "match": tuple(registration.get("match", spec.match))}
        settings = [setting for _, setting in spec.model_copy(update=own).pairs()]
    except BadInput:  # a study from a file, or of another version: its name is all there is to say
        return None
    planned = [[*spec.arms(each["task"]), FLOOR] for each in registration["tasks"]]
    return {
        "--designs": _everywhere([name for arms in planned for name in arms], planned),
        "--tasks": list(run if asked == spec.tasks else spec.tasks),
        "--settings": settings,
        "--seeds": spec.judge_seeds,
        "--delta": spec.delta,
        "--alpha": spec.alpha,
        "--match": list(spec.match),
        "--text": None,
        "--products": None if spec.products == "auto" else spec.products,
    }


def _deltas(registration: dict[str, Any]) -> float | None:
    """Return the delta that was asked for; None where every task has its own."""
    deltas = {each["delta"] for each in registration["tasks"]}
    for each in registration["tasks"]:
        try:
            own = tasks.find(each["task"]).delta
        except BadInput:
            return None
        if own != each["delta"]:
            return deltas.pop() if len(deltas) == 1 else None
    return None


def _products(registration: dict[str, Any]) -> str | None:
    """Return the precision of products, which another machine might choose otherwise; None where there is no choice."""
    for each in registration["tasks"]:
        try:
            if tasks.find(each["task"]).halves:
                return each["facts"].get("products", "fp32")
        except BadInput:  # a task of another version
            continue
    return None


def _text(registration: dict[str, Any]) -> str | None:
    """Return the name of the user's text; None where every task reads its own."""
    for each in registration["tasks"]:
        name = each["facts"].get("text")
        try:
            if name is not None and name != tasks.find(each["task"]).facts(each["setting"]).get("text"):
                return name
        except BadInput:
            return None
    return None
