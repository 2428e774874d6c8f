"""What many designs x many seeds would take on a cluster: recorded and measured numbers, carried over.

    python benchmarks/cluster.py --designs 1000 --seeds 64 --workers 2,64,512 --json FILE

recorded      seconds of a training, mean over the designs of the shipped record, for each of its settings
measured here what the leading process does for each group: plan, store, take in, estimate what is left, with so many
              designs registered, in a study whose results are made up; bytes of a stored training
extrapolated  everything else: trainings x seconds / workers, as if all workers were as fast as the record's and never
              waited; nobody has run it

The leading process is one. Where its seconds for all groups are more than the workers' share, it sets the time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from qkvlab import designs, record, tasks
from qkvlab.errors import BadInput
from qkvlab.evidence import seeds_needed
from qkvlab.study.cells import Cell, Result
from qkvlab.study.decisions import Findings
from qkvlab.study.registration import register
from qkvlab.study.schedule import LOOK, due, open_cells
from qkvlab.study.spec import Spec, make
from qkvlab.study.store import STORE_NAME, Store

PARTS = ("", "/noself", "/qknorm", "/unitnorm", "/vnorm", "/cap10", "/cap20", "/cap50", "/sink", "/alibi", "/rope",
         "/window8", "/window16", "/window32", "/bias", "/learned64")  # fmt: skip
"""Behind each of the fifteen ways, one or two of them: more than a thousand designs that exist."""
TASK, SETTING = "text", "plain"
"""Of the study whose leading process is timed; it does the same for any."""


def many(count: int) -> tuple[str, ...]:
    """Return so many designs that the timed task can carry."""
    found: dict[str, None] = {}
    for way, one, other in itertools.product(designs.PATTERNS, PARTS, PARTS):
        try:
            name = designs.parse(way + one + other).name
            tasks.find(TASK).parameters(SETTING, designs.parse(name))
        except BadInput:
            continue
        found[name] = None
        if len(found) == count:
            return tuple(found)
    raise SystemExit(f"--designs must be at most {len(found)}, the designs that are made here; got {count}.")


def head(spec: Spec, groups: int, folder: Path) -> dict[str, Any]:
    """Time what the leading process does for a group of each role, results made up and delivered at once."""
    registration = register(spec)
    findings, metric = Findings(registration), registration["tasks"][0]["metric"]
    seconds: dict[str, list[float]] = {"tune": [], "judge": []}
    with Store.create_or_continue(folder, registration) as store:
        while len(seconds["judge"]) < groups:
            begun = time.process_time()
            group = next(due(findings, (), lambda task: LOOK), None)
            if group is None:
                break
            results = [_made_up(cell, metric, registration["source"]) for cell in group.cells]
            store.add(results)
            findings.add(results)
            open_cells(findings)
            seconds[group.cells[0].role].append(time.process_time() - begun)
    return {
        "seconds_per_group": {role: sum(each) / len(each) for role, each in seconds.items()},
        "groups": {role: len(each) for role, each in seconds.items()},
        "bytes_per_training": (folder / STORE_NAME).stat().st_size / len(findings.results),
    }


def _made_up(cell: Cell, metric: str, source: str) -> Result:
    nats = 1.4 + 0.05 * abs(math.log(cell.lr / 0.01)) + (cell.seed * 7919 % 13) / 1000
    return Result(
        cell=cell, metrics={metric: nats, "own_1": 0.1, "own_2": 0.2}, diverged=False, losses=(nats,) * 50, steps=600,
        seconds=1.0, group=LOOK, device="cpu", versions={"torch": "2"}, source=source,
    )  # fmt: skip


def recorded() -> dict[tuple[str, str], dict[str, float]]:
    """Return the mean seconds and rates of each recorded setting."""
    rows: defaultdict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for (task, setting, _), row in record.trained().items():
        if row["seconds"] is not None:
            rows[task, setting].append(row)
    return {
        key: {name: sum(row[name] for row in found) / len(found) for name in ("seconds", "rates")}
        for key, found in rows.items()
    }


def carried(
    key: tuple[str, str], row: dict[str, float], count: int, seeds: int, workers: list[int], each: dict[str, float]
) -> dict[str, Any]:
    """Carry a recorded setting over to so many designs and seeds."""
    task = tasks.find(key[0])
    tuning = round(row["rates"]) * len(task.tune_seeds)
    trainings = count * (seeds + tuning)
    tune, judge = (count * math.ceil(n / LOOK) for n in (tuning, seeds))
    groups = tune + judge
    baseline = designs.parse("QKV")
    flops = trainings * task.steps(key[1]) * task.network(key[1], baseline).step(baseline).both
    leading = tune * each["tune"] + judge * each["judge"]
    return {
        "task": key[0],
        "setting": key[1],
        "trainings": trainings,
        "flops_if_all_were_qkv": flops,
        "recorded_seconds_of_a_training": row["seconds"],
        "worker_seconds": trainings * row["seconds"],
        "head_seconds": leading,
        "hours": {
            str(n): max(math.ceil(groups / n) * row["seconds"] * trainings / groups, leading) / 3600 for n in workers
        },
    }


def markdown(document: dict[str, Any], lang: str) -> str:
    """Return the rows of the page's table: a task with all its settings, one task after the other."""
    hour = "小时" if lang == "zh" else "h"
    rows = []
    for task in dict.fromkeys(row["task"] for row in document["extrapolated"]):
        own = [row for row in document["extrapolated"] if row["task"] == task]
        hours = [sum(row["hours"][n] for row in own) for n in own[0]["hours"]]
        leading = sum(row["head_seconds"] for row in own) / 3600
        cells = [task, len(own), f"{sum(row['trainings'] for row in own):,}"]
        cells += [f"{sum(row['worker_seconds'] for row in own) / 3600:.0f}"]
        digits = [0 if each >= 10 else 1 if each >= 0.1 else 2 for each in (leading, *hours)]
        cells += [f"{each:.{n}f} {hour}" for each, n in zip((leading, *hours), digits, strict=True)]
        rows.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--designs", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=64)
    parser.add_argument("--workers", default="2,64,512")
    parser.add_argument("--groups", type=int, default=400, help="judging groups for which it is timed")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", choices=("en", "zh"), help="print the rows of docs/plan.md too")
    args = parser.parse_args()
    workers = [int(n) for n in args.workers.split(",")]
    spec = make(recipe="many", designs=many(args.designs), tasks=(TASK,), settings=(SETTING,), judge_seeds=args.seeds)
    with tempfile.TemporaryDirectory() as folder:
        leading = head(spec, args.groups, Path(folder))
    rows = [
        carried(key, row, args.designs, args.seeds, workers, leading["seconds_per_group"])
        for key, row in recorded().items()
    ]
    alpha = spec.alpha / args.designs
    needed = {task.name: seeds_needed(alpha, task.delta, 4 * task.delta) for task in tasks.catalogue().values()}
    spent = ", ".join(f"{1000 * s:.1f} ms to {role}" for role, s in leading["seconds_per_group"].items())
    print(f"leading process, measured here, for a group: {spent}; {leading['bytes_per_training']:.0f} bytes a training")
    different, equal = needed[TASK]
    print(f"alpha of one comparison among {args.designs}: {alpha:.1e}; seeds that a difference takes at least: "
          f"{different}, an equivalence: {equal}")  # fmt: skip
    for row in rows:
        hours = "  ".join(f"{n} workers {time_:.2f} h" for n, time_ in row["hours"].items())
        print(
            f"{row['task']:>9} {row['setting']:<29} {row['trainings']:>8,} x "
            f"{row['recorded_seconds_of_a_training']:6.2f} s  {row['worker_seconds'] / 3600:8.1f} worker-hours  "
            f"leading process {row['head_seconds'] / 3600:.2f} h  {hours}"
        )
    if args.json or args.markdown:
        document = {
            "designs": args.designs,
            "seeds": args.seeds,
            "measured_here": leading,
            "alpha_of_a_comparison": alpha,
            "seeds_needed": {name: list(both) for name, both in needed.items()},
            "record": _origin(),
            "extrapolated": rows,
        }
    if args.markdown:
        print(markdown(document, args.markdown))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def _origin() -> dict[str, Any]:
    document = record.recorded("article") or {}
    return {name: document["origin"][name] for name in ("registration", "cells", "model_seconds", "devices", "machine")}


if __name__ == "__main__":
    main()
