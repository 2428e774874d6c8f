"""A plan as plain data: what `qkvlab study --plan --json` prints and the table is drawn from."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from qkvlab.study.forecast import NONE
from qkvlab.study.plan import LONGER, WIDER, Arm, Plan
from qkvlab.tasks.network import Network
from qkvlab.training import effort, memory
from qkvlab.training import layout as layouts
from qkvlab.training.effort import Gpu

BOUNDS = ("least", "expected", "most")


def document(plan: Plan, cards: Sequence[Gpu] = (), minutes: float | None = None) -> dict[str, Any]:
    """Return everything that is foreseen.

    Args:
        plan: what is foreseen.
        cards: on which the study is extrapolated.
        minutes: for how long somebody would run it.
    """
    registration = plan.findings.registration
    seconds = _seconds(plan, plan.arms)
    settings = [_setting(plan, key) for key in plan.findings.settings]
    return {
        "recipe": registration["recipe"],
        "designs": registration["designs"],
        "comparisons": registration["comparisons"],
        "settings": settings,
        "total": {
            "tune": _sum(arm.tune for arm in plan.arms),
            "judge": _sum(arm.judge for arm in plan.arms),
            "cells": _sum(arm.cells for arm in plan.arms),
            "share_of_tuning_steps": _share_of_tuning(plan.arms),
            "flops": _bounds(plan.arms, lambda arm: arm.flops),
            "seconds": seconds,
            "recorded": _recorded(plan, plan.arms),
        },
        "minutes": None if minutes is None else {"given": minutes, "share": _share(60 * minutes, seconds["expected"])},
        "here": {
            task: {
                "processes": found.layout.processes,
                "threads": found.layout.threads,
                "group": found.layout.group,
                "model_steps_per_second": found.layout.rate,
                "compiled": None if found.layout.compiled is None else asdict(found.layout.compiled),
                "seconds_beside_steps": found.trial.beside,
                "base_bytes": found.trial.base,
                "from_cache": not (found.layout.measured or found.trial.measured),
            }
            for task, found in plan.measured.items()
        },
        "memory": _memory(plan),
        "gpus": [_gpu(plan, card) for card in cards],
        "larger": [
            *(_larger(plan, "d_model", times, lambda n, times=times: n.wider(times)) for times in WIDER),
            *(_larger(plan, "tokens", times, lambda n, times=times: n.longer(times)) for times in LONGER),
        ],
    }


def _setting(plan: Plan, key: tuple[str, str]) -> dict[str, Any]:
    arms = plan.of(key)
    return {
        "task": key[0],
        "setting": key[1],
        "designs": len(arms),
        "steps": arms[0].steps,
        "tune": _sum(arm.tune for arm in arms),
        "judge": _sum(arm.judge for arm in arms),
        "share_of_tuning_steps": asdict(arms[0].share),
        "flops_per_step": {
            arm.design.name: vars(arm.network.step(arm.design)) | {"both": arm.network.step(arm.design).both}
            for arm in arms
        },
        "flops": _bounds(arms, lambda arm: arm.flops),
        "seconds": _seconds(plan, arms),
        "compiled": sum(plan.compiled(arm) is not None for arm in arms),
        "recorded": _recorded(plan, arms),
    }


def _sum(cells: Any) -> dict[str, int]:
    return asdict(sum(cells, NONE))


def _bounds(arms: Sequence[Arm], price: Callable[[Arm], float]) -> dict[str, float]:
    each = [(arm, price(arm)) for arm in arms]
    return {bound: sum(arm.whole(bound) * one for arm, one in each) for bound in BOUNDS}


def _share_of_tuning(arms: Sequence[Arm]) -> float:
    """Return the share of the steps of expected tuning trainings that is expected to be taken."""
    steps = [(arm.tune.expected * arm.steps, arm.share.expected) for arm in arms]
    return _share(math.fsum(count * share for count, share in steps), math.fsum(count for count, _ in steps))


def _seconds(plan: Plan, arms: Sequence[Arm]) -> dict[str, float]:
    """Return how long all trainings of arms take here, compiling included."""
    steps = _bounds(arms, plan.seconds)
    return {
        bound: steps[bound] + math.fsum(plan.compiling(arm, getattr(arm.cells, bound)) for arm in arms)
        for bound in BOUNDS
    }


def _share(part: float, whole: float) -> float:
    return min(1.0, part / whole) if whole > 0 else 1.0


def _recorded(plan: Plan, arms: Sequence[Arm]) -> dict[str, Any] | None:
    """Return what the expected cells would take at the record's pace, and which share of them it speaks of."""
    spoken = [(arm, pace) for arm in arms if (pace := plan.recorded(arm)) is not None]
    cells, every = (sum(arm.cells.expected for arm in some) for some in ([arm for arm, _ in spoken], arms))
    if not spoken or (every and not cells):
        return None
    seconds = math.fsum(arm.whole("expected") * pace for arm, pace in spoken)
    return {
        "seconds": seconds,
        "share_of_cells": _share(cells, every),
        "here_over_record": math.fsum(plan.seconds(arm) for arm, _ in spoken) / math.fsum(pace for _, pace in spoken),
    }


def _memory(plan: Plan) -> dict[str, Any]:
    arm = plan.largest()
    worker, layout = plan.worker(arm), plan.measured[arm.key[0]].layout
    return {
        "largest": {"task": arm.key[0], "setting": arm.key[1], "design": arm.design.name, "group": layout.group},
        "worker": {**vars(worker), "total": worker.total},
        "processes": layout.processes,
        "parent": plan.parent,
        "whole": plan.whole(arm),
        "machine": _physical(),
    }


def _physical() -> int | None:
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" not in names or "SC_PAGE_SIZE" not in names:
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _gpu(plan: Plan, card: Gpu) -> dict[str, Any]:
    group = max(layouts.CARD_GROUPS)
    needed = max(memory.on_device(arm.network, arm.design, steps=arm.steps, group=group) for arm in plan.arms)
    return {
        **asdict(card),
        "group": group,
        "seconds": _bounds(plan.arms, lambda arm: plan.on(card, arm)),
        "device_bytes": needed,
        "fits": needed <= card.memory,
        "measured": False,
        "assumed": {
            "share_of_flops": effort.REACHED_FLOPS,
            "share_of_bandwidth": effort.REACHED_BYTES,
            "seconds_per_kernel": effort.LAUNCH,
            "beside_steps": "as on this machine",
        },
    }


def _larger(plan: Plan, what: str, times: int, sizes: Callable[[Network], Network]) -> dict[str, Any]:
    """Return the price of the whole study, what is done included, with every model at other sizes."""
    counts = [(arm, sizes(arm.network), arm.whole("expected") + arm.cells.done) for arm in plan.arms]
    flops = [
        math.fsum(n * arm.steps * network.step(arm.design).both for arm, network, n in some)
        for some in ([(arm, arm.network, n) for arm, _, n in counts], counts)
    ]
    seconds = [
        math.fsum(n * plan.seconds(arm, network) for arm, network, n in some)
        for some in ([(arm, arm.network, n) for arm, _, n in counts], counts)
    ]
    arm, now = plan.largest(sizes), plan.worker(plan.largest()).total
    worker = plan.worker(arm, sizes(arm.network)).total
    return {
        "what": what,
        "times": times,
        "flops": flops[1] / flops[0],
        "time": seconds[1] / seconds[0],
        "seconds": seconds[1],
        "memory": worker / now,
        "worker": worker,
        "whole": plan.whole(arm, sizes(arm.network)),
    }
