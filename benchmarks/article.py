"""What the record would have taken the loop that anybody would write, by what the engine takes, on this machine.

    python benchmarks/article.py --seconds 1.5 --json results/2026-11-26-benchmarks/article.json

The same trainings on both sides: those of a record's ``results.csv``, tuning and judging, on the registered tasks.

loop     one model after the other: eager, fused attention, fused AdamW, all cores as threads; then its exam
engine   as a study runs it: the layout that a fresh trial finds, plain or compiled steps as its rule says, all workers
         at work; then the exams, side by side; compiling and the trials counted

Both are measured in turn, `--repeats` times, medians; rates of steps are carried over to whole trainings, exams are
measured whole. Settings with the same models, data and steps are measured once; so are designs of about the same FLOPs:
the middle one of `--designs` groups stands for its group, for all designs where a setting is less than 2 % of the
record's time. Every assumption is printed, and stands in the JSON file.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import platform
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import loop
from qkvlab import designs, tasks
from qkvlab.study.programs import Programs
from qkvlab.study.schedule import LOOK
from qkvlab.training import layout as layouts
from qkvlab.training.layout import Layout, cores
from qkvlab.training.one import train_one
from qkvlab.training.pool import Pool
from qkvlab.training.recipe import Run
from qkvlab.training.together import train_together
from qkvlab.training.workers import Order

RECORD = Path(__file__).parent.parent / "results" / "2026-11-25-article"
SMALL = 0.02
"""Share of the record's time below which one design stands for all of a setting."""
RATE = 0.003
ASSUMED = (
    "a training takes its steps at the measured rate; data and exam are measured whole",
    "designs that were not measured take as long as the measured one that stands for them",
    "workers always have something to do, groups are full, and exams of all workers do not slow each other",
    "each design that is compiled has a program of its own, made once by each worker; a study makes fewer",
    "starting Python, planning and storing are not counted on either side; neither is the user's time",
    "what the loop trains is known beforehand: it neither tunes nor stops by itself",
)


@dataclass(frozen=True)
class Arm:
    """One design in one setting, as often as the record trained it."""

    task: str
    setting: str
    design: str
    trainings: int
    seconds: float

    @property
    def steps(self) -> int:
        """Of one training."""
        return tasks.find(self.task).steps(self.setting)

    @property
    def flops(self) -> int:
        """Of one step."""
        design = designs.parse(self.design)
        return tasks.find(self.task).network(self.setting, design).step(design).both


@dataclass(frozen=True)
class Point:
    """What is measured: an arm, and those for which it stands, itself among them."""

    arm: Arm
    stands_for: tuple[Arm, ...]


def arms(path: Path) -> list[Arm]:
    """Read how often each design was trained in each setting, and how long that took."""
    found: dict[tuple[str, ...], float] = {}
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):  # a row for each number of a training
            cell = tuple(row[name] for name in ("task", "setting", "design", "role", "seed", "lr"))
            found[cell] = float(row["seconds"])
    count = Counter(cell[:3] for cell in found)
    spent: defaultdict[tuple[str, ...], float] = defaultdict(float)
    for cell, seconds in found.items():
        spent[cell[:3]] += seconds
    return [Arm(*key, trainings=n, seconds=spent[key]) for key, n in count.items()]


def points(every: Iterable[Arm], parts: int) -> list[Point]:
    """Choose what is measured; each arm is stood for by exactly one."""
    every = list(every)
    settings: defaultdict[tuple[str, str], list[Arm]] = defaultdict(list)
    for arm in every:
        settings[arm.task, arm.setting].append(arm)
    alike: defaultdict[Any, list[Arm]] = defaultdict(list)
    for (name, setting), own in settings.items():
        task = tasks.find(name)
        sizes = tuple(sorted((a.design, repr(task.network(setting, designs.parse(a.design)))) for a in own))
        alike[name, task.steps(setting), sizes] += own
    whole = sum(arm.seconds for arm in every)
    found = []
    for own in alike.values():
        own.sort(key=lambda arm: (arm.flops, arm.design))
        n = 1 if sum(arm.seconds for arm in own) < SMALL * whole else min(parts, len({arm.design for arm in own}))
        for i in range(n):
            group = own[i * len(own) // n : (i + 1) * len(own) // n]
            found.append(Point(group[len(group) // 2], tuple(group)))
    return found


def order(point: Point, models: int, unit: int) -> Order:
    """Return a group of the point's models."""
    arm = point.arm
    return Order(arm.task, arm.setting, arm.design, tuple((seed, RATE) for seed in range(models)), unit=unit)


def measured(point: Point, layout: Layout, pool: Pool, seconds: float, repeats: int) -> dict[str, Any]:
    """Measure a point on both sides in turn."""
    arm, task, design = point.arm, tasks.find(point.arm.task), designs.parse(point.arm.design)
    left = {((each.task, each.setting), each.design): each.trainings for each in point.stands_for}
    program = Programs().of(((arm.task, arm.setting), arm.design), layout, left, math.inf)
    unit = layout.compiled.unit if layout.compiled is not None and program is not None else 0
    group = order(point, unit or layout.group, unit)
    runs = [Run(*run) for run in group.runs]
    loops, engines, own_exams, exams, ready = [], [], [], [], 0.0
    for repeat in range(repeats):
        loops.append(loop.loop_rate(task, arm.setting, arm.design, seconds))
        own_exams.append(_timed(lambda: train_one(task, arm.setting, design, Run(0, RATE), steps=0)))
        begun = time.perf_counter()
        speed = pool.rate(group, layout.threads, everywhere=layout.processes > 1, seconds=seconds)
        if speed.remark:
            raise SystemExit(speed.remark)
        if not repeat:  # later ones find their program
            ready = time.perf_counter() - begun - seconds
        engines.append(speed.rate)
        threads = torch.get_num_threads()
        torch.set_num_threads(layout.threads)
        exams.append(_timed(lambda: train_together(task, arm.setting, design, runs, steps=0)) / len(runs))
        torch.set_num_threads(threads)
    found = {
        "task": arm.task,
        "settings": sorted({each.setting for each in point.stands_for}),
        "design": arm.design,
        "stands_for": sorted({each.design for each in point.stands_for}),
        "steps": arm.steps,
        "loop_rate": statistics.median(loops),
        "engine_rate": statistics.median(engines),
        "loop_exam": statistics.median(own_exams),
        "engine_exam": statistics.median(exams) / layout.processes,
        "unit": unit,
        "ready": ready if unit else 0.0,
    }
    return found | carried(found, [each.trainings for each in point.stands_for], layout)


def carried(found: dict[str, Any], trainings: list[int], layout: Layout) -> dict[str, Any]:
    """Return the seconds of all trainings of some arms on both sides, from what was measured of one."""
    count = sum(trainings)
    # a program is made by each worker that gets a group of the arm
    share = sum(min(1.0, math.ceil(n / LOOK) / layout.processes) for n in trainings)
    return {
        "trainings": count,
        "loop_seconds": count * (found["steps"] / found["loop_rate"] + found["loop_exam"]),
        "engine_seconds": count * (found["steps"] / found["engine_rate"] + found["engine_exam"])
        + share * found["ready"],
        "compiling_seconds": share * found["ready"],
    }


def tried(task: str, own: list[Point]) -> tuple[Layout, Pool, float]:
    """Find the layout of a task as a study does; also the seconds that this takes."""
    begun = time.perf_counter()
    first = own[0]
    steps = sum(arm.trainings * arm.steps for point in own for arm in point.stands_for)
    facts = tasks.find(task).facts(first.arm.setting)
    found, pool = layouts.find(order(first, 1, 0), facts, lambda text: print(f"{task}: {text}"), model_steps=steps)
    return found, pool, time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", type=Path, default=RECORD, help="folder with results.csv and registration.json")
    parser.add_argument("--seconds", type=float, default=1.5, help="of each measurement of steps")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--designs", type=int, default=2, help="measured in each setting")
    parser.add_argument("--tasks", help="only these, for a shorter look")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(cores())
    chosen = points(arms(args.record / "results.csv"), args.designs)
    names = list(dict.fromkeys(point.arm.task for point in chosen))
    rows, trials = [], {}
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache  # trials are made and counted, as by a study on a new machine
        for name in names if args.tasks is None else args.tasks.split(","):
            own = [point for point in chosen if point.arm.task == name]
            layout, pool, spent = tried(name, own)
            trials[name] = {"seconds": spent, "layout": {k: str(v) for k, v in vars(layout).items()}}
            for point in own:
                rows.append(measured(point, layout, pool, args.seconds, args.repeats))
                print(_line(rows[-1]), flush=True)
            pool.close()
    total = summed(rows, trials)
    print(json.dumps(total, indent=1))
    for each in ASSUMED:
        print(f"- {each}")
    if args.json:
        machine = {"machine": platform.platform(), "cores": cores(), "torch": str(torch.__version__)}
        document = {**machine, "record": args.record.name, **total, "assumed": ASSUMED, "trials": trials, "rows": rows}
        args.json.write_text(json.dumps(document, indent=1) + "\n")


def summed(rows: list[dict[str, Any]], trials: dict[str, Any]) -> dict[str, Any]:
    """Add both sides up."""
    theirs = sum(row["loop_seconds"] for row in rows)
    ours = sum(row["engine_seconds"] for row in rows) + sum(each["seconds"] for each in trials.values())
    return {
        "trainings": sum(row["trainings"] for row in rows),
        "loop_hours": theirs / 3600,
        "engine_hours": ours / 3600,
        "compiling_hours": sum(row["compiling_seconds"] for row in rows) / 3600,
        "engine_by_loop": ours / theirs,
        "goal": 1 / 3,
    }


def _timed(work: Any) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _line(row: dict[str, Any]) -> str:
    how = f"compiled by {row['unit']}, {row['ready']:.0f} s" if row["unit"] else "plain"
    return (
        f"{row['task']:>9} {row['settings'][0]:<27} {row['design']:<8} {row['trainings']:>6,} x {row['steps']:>4}  "
        f"loop {row['loop_rate']:7.1f}/s exam {row['loop_exam']:.2f} s  engine {row['engine_rate']:7.1f}/s exam "
        f"{row['engine_exam']:.2f} s ({how})  {row['engine_seconds'] / row['loop_seconds']:.3f}"
    )


if __name__ == "__main__":
    main()
