"""`verdicts.json`: every comparison of a study with its interval, cost and origin, as plain data."""

from __future__ import annotations

import hashlib
import json
import math
import platform
from typing import Any

from qkvlab import __version__, claims
from qkvlab.study.decisions import Findings


def document(findings: Findings) -> dict[str, Any]:
    """Return the document; equal results give equal documents."""
    return {
        "comparisons": [_row(findings, key, name) for key in findings.settings for name in findings.compared(key)],
        "claims": [claims.to_row(told) for told in claims.told(findings)],
        "origin": origin(findings),
    }


def origin(findings: Findings) -> dict[str, Any]:
    """Say where the results come from."""
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
        "devices": sorted({r.device for r in results}),
        "versions": {
            k: sorted({r.versions.get(k, "?") for r in results}) for k in ("qkvlab", "python", "torch", "numpy")
        },
        "machine": f"{platform.system()} {platform.machine()}",
        "trained": _trained(findings),
    }


def _trained(findings: Findings) -> list[dict[str, Any]]:
    """Say how often each design was trained in a setting and how long one took, for plans of other studies."""
    seconds: dict[tuple[str, str, str], list[float]] = {}
    for cell, result in findings.results.items():
        seconds.setdefault((cell.task, cell.setting, cell.design), []).append(result.seconds)
    return [
        {
            "task": key[0],
            "setting": key[1],
            "design": name,
            "rates": len(findings.tuning(key).rates),
            "judged": len(findings.judged(key, name)),
            "seconds": round(math.fsum(runs) / len(runs), 4) if (runs := seconds.get((*key, name))) else None,
        }
        for key in findings.settings
        for name in findings.designs(key)
    ]


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
        "facts": _digest(setting["facts"]),
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
