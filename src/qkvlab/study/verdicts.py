"""`verdicts.json`: every comparison of a study with its interval, cost and origin, as plain data."""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Sequence
from typing import Any

from qkvlab import __version__, claims
from qkvlab.study.cells import Result
from qkvlab.study.decisions import Findings
from qkvlab.study.sessions import Session, account


def document(findings: Findings, sessions: Sequence[Session] = ()) -> dict[str, Any]:
    """Return the document; equal results and calls give equal documents."""
    return {
        "comparisons": [_row(findings, key, name) for key in findings.settings for name in findings.compared(key)],
        "claims": [claims.to_row(told) for told in claims.told(findings)],
        "origin": origin(findings, sessions),
    }


def origin(findings: Findings, sessions: Sequence[Session] = ()) -> dict[str, Any]:
    """Say where the results come from, and how long the calls that made them took."""
    results = findings.results.values()
    return {
        "qkvlab": __version__,
        "recipe": findings.registration["recipe"],
        "registration": _digest(findings.registration),
        "source": findings.registration["source"],
        "alpha": findings.registration["alpha"],
        "comparisons": findings.registration["comparisons"],
        "seeds": {k: [v[0], v[-1], len(v)] for k, v in findings.registration["seeds"].items()},
        "cells": len(findings.results),
        "model_seconds": round(math.fsum(r.seconds for r in results), 1),
        "wall": account(sessions),
        "devices": sorted({r.device for r in results}),
        "versions": {
            k: sorted({r.versions.get(k, "?") for r in results}) for k in ("qkvlab", "python", "torch", "numpy")
        },
        "machine": f"{platform.system()} {platform.machine()}",
        "trained": _trained(findings),
    }


def _trained(findings: Findings) -> list[dict[str, Any]]:
    """Say how often each design was trained in a setting, how long a whole one took, and what steps all took."""
    runs_of: dict[tuple[str, str, str], list[Result]] = {}
    for cell, result in findings.results.items():
        runs_of.setdefault((cell.task, cell.setting, cell.design), []).append(result)
    seconds = {arm: [run.seconds for run in runs if not run.stopped] for arm, runs in runs_of.items()}
    return [
        {
            "task": key[0],
            "setting": key[1],
            "design": name,
            "rates": len(findings.tuning(key).rates),
            "judged": len(findings.judged(key, name)),
            "seconds": round(math.fsum(runs) / len(runs), 4) if (runs := seconds.get((*key, name))) else None,
            **(_budget(runs_of.get((*key, name), [])) if findings.halving is not None else {}),
        }
        for key in findings.settings
        for name in findings.designs(key)
    ]


def _budget(runs: list[Result]) -> dict[str, Any]:
    """Say what steps the trainings of a design took: all judged ones the same, those that tune until they stopped."""
    tuned = [run for run in runs if run.cell.role == "tune"]
    return {
        "steps_of_judged": sorted({run.steps for run in runs if run.cell.role == "judge"}),
        "tuned": len(tuned),
        "stopped": sum(run.stopped for run in tuned),
        "steps_of_tuning": sum(run.steps for run in tuned),
    }


def _digest(registered: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(registered, sort_keys=True).encode()).hexdigest()[:16]


def number(value: float) -> float | None:
    """JSON knows no NaN: it becomes null."""
    return None if math.isnan(value) else value


def _row(findings: Findings, key: tuple[str, str], name: str) -> dict[str, Any]:
    setting = findings.settings[key]
    verdict = findings.verdict(key, name)
    rate, base = verdict.rate, verdict.baseline_rate
    return {
        "task": key[0],
        "setting": key[1],
        "design": name,
        "baseline": findings.registration["baseline"],
        "metric": setting["metric"],
        # the same question whatever the products: that is left open only where verdicts are known to stay as they are
        "facts": _digest({name: fact for name, fact in setting["facts"].items() if name != "products"}),
        "products": setting["facts"].get("products", "fp32"),
        "n": verdict.n,
        "estimate": number(verdict.estimate),
        "low": verdict.low,
        "high": verdict.high,
        "delta": setting["delta"],
        "alpha": findings.registration["alpha_each"],
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        "unclipped_mean": number(verdict.unclipped_mean),
        "share_clipped": verdict.share_clipped,
        "diverged": verdict.diverged,
        "diverged_interval": [rate.low, rate.high],
        "baseline_diverged": verdict.baseline_diverged,
        "baseline_diverged_interval": [base.low, base.high],
        "tuned_lr": findings.tuning(key).chosen.get(name),
        "baseline_tuned_lr": findings.tuning(key).chosen.get(findings.registration["baseline"]),
        **setting["arms"][name],
    }
