"""Do products in bf16 leave verdicts as they are? Designs against themselves, trained by fp32 and by bf16 products.

    python benchmarks/precision.py --json FILE

The same seeds (data and starts) are trained at both precisions, at the rate that the record found for the design, and
paired by seed. The interval of each design's difference from itself must come to lie within the task's delta, at alpha
.05 over all designs together; it is looked at after every eight seeds until all have said something. Whether the task
can tell the design from equal attention, which the word "equivalent" asks besides, is another matter: XXV hardly can be
told here, whatever its precision. Exams are in fp32 on both sides. Beside it stands what each precision by itself says
of the designs against QKV, on the seeds that were run.

A task whose designs all pass may state `Task.halves`.
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import platform
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from qkvlab import tasks
from qkvlab.evidence import Outcome, Rule, decide
from qkvlab.study.registration import FIRST_JUDGE_SEED, FLOOR
from qkvlab.training.layout import UNIT, cores
from qkvlab.training.workers import Order, begin, train

DESIGNS = ("QKV", "QQV", "XXV")
LOOK, MOST = 8, 128
"""Seeds between looks, and at most."""
ALPHA = 0.05
PRECISIONS = ("fp32", "bf16")
RESULTS = Path(__file__).parents[1] / "results/2026-11-25-article/results.csv"

Runs = dict[tuple[str, str], list[Outcome]]
"""(design, precision) -> outcomes in the order of the seeds."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="text")
    parser.add_argument("--setting", default="plain")
    parser.add_argument("--seeds", type=int, default=MOST, help="at most")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    task = tasks.find(args.task)
    rule = Rule(delta=task.delta, alpha=ALPHA / len(DESIGNS))
    asked = {
        "task": args.task, "setting": args.setting, "designs": list(DESIGNS), "delta": rule.delta,
        "alpha_each": rule.alpha, "look": LOOK, "most": args.seeds, "first_seed": FIRST_JUDGE_SEED,
        "rates": {name: rate_of(args.task, args.setting, name) for name in (*DESIGNS, FLOOR)},
    }  # fmt: skip
    print(json.dumps(asked), flush=True)
    begun, seconds, runs = time.time(), {p: 0.0 for p in PRECISIONS}, {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(cores(), mp_context=context, initializer=begin, initargs=(1, "cpu")) as pool:
        found: dict[str, Any] = {}
        for first in range(0, args.seeds, LOOK):
            seeds = range(FIRST_JUDGE_SEED + first, FIRST_JUDGE_SEED + min(first + LOOK, args.seeds))
            open_ones = [name for name in DESIGNS if not found or found[name]["within_delta"] is None]
            if not open_ones:
                break
            wanted = [(name, p) for name in open_ones for p in PRECISIONS] + [(FLOOR, "fp32")]
            # units of four, so that both processes have work to the end
            parts = [(arm, seeds[i : i + UNIT]) for i in range(0, len(seeds), UNIT) for arm in wanted]
            orders = [order(args.task, args.setting, arm, asked["rates"][arm[0]], part) for arm, part in parts]
            for (arm, _), delivery in zip(parts, pool.map(train, orders), strict=True):
                if delivery.remark:
                    raise SystemExit(delivery.remark)
                values = [row[task.metric] for row in delivery.metrics]
                runs.setdefault(arm, []).extend(map(Outcome, values, delivery.diverged))
                seconds[arm[1]] += delivery.seconds if arm[0] != FLOOR else 0.0
            found = {name: itself(runs, name, rule) for name in DESIGNS}
            print(first + LOOK, {name: (row["within_delta"], row["n"]) for name, row in found.items()}, flush=True)
    document = {
        "asked": asked,
        "machine": platform.platform(),
        "torch": str(torch.__version__),
        "itself": found,
        "against_QKV": {p: {name: against(runs, name, p, rule) for name in DESIGNS[1:]} for p in PRECISIONS},
        "seconds_of_bf16_by_fp32": round(seconds["bf16"] / seconds["fp32"], 3),
        "wall_seconds": round(time.time() - begun),
    }
    print(json.dumps(document["against_QKV"]), document["seconds_of_bf16_by_fp32"])
    if args.json:
        args.json.write_text(json.dumps(document, indent=1) + "\n")


def rate_of(task: str, setting: str, design: str) -> float:
    """Return the learning rate that the record found for a design."""
    with RESULTS.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if (row["task"], row["setting"], row["design"], row["role"]) == (task, setting, design, "judge"):
                return float(row["lr"])
    raise SystemExit(f"the record has no {design} on {task}, {setting}")


def order(task: str, setting: str, arm: tuple[str, str], rate: float, seeds: range) -> Order:
    design, precision = arm
    return Order(task, setting, design, tuple((seed, rate) for seed in seeds), unit=UNIT, products=precision)


def itself(runs: Runs, name: str, rule: Rule) -> dict[str, Any]:
    """Hold a design in bf16 against itself in fp32; ``within_delta`` is None while the interval says nothing."""
    half, full = runs[name, "bf16"], runs[name, "fp32"]
    gaps = [a.value - b.value for a, b in zip(half, full, strict=True)]
    found = said(half, full, runs, rule)
    within = max(abs(found["low"]), abs(found["high"])) < rule.delta
    silent = found["reason"] in ("too few seeds", "interval still wide")
    return {
        **found,
        "within_delta": None if silent else within,
        "spread_of_differences": round(statistics.pstdev(gaps), 5),
    }


def against(runs: Runs, name: str, precision: str, rule: Rule) -> dict[str, Any]:
    """Hold a design against QKV, both at one precision."""
    return said(runs[name, precision], runs["QKV", precision], runs, rule)


def said(design: list[Outcome], baseline: list[Outcome], runs: Runs, rule: Rule) -> dict[str, Any]:
    verdict = decide(design, baseline, runs[FLOOR, "fp32"], rule)
    numbers = {name: round(getattr(verdict, name), 5) for name in ("estimate", "low", "high")}
    return {"verdict": verdict.verdict, "reason": verdict.reason, "n": verdict.n, **numbers}


if __name__ == "__main__":
    main()
