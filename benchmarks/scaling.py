"""How time and memory grow with models in a group, width, tokens and seeds, against what a plan predicts.

    python benchmarks/scaling.py --repeats 5 --json results/2026-11-26-benchmarks/scaling.json
    python benchmarks/scaling.py --task sentence --setting one-layer/positions --repeats 3 --no-memory

Time is process time of one thread, so that other programs on the machine do not count; every repeat goes once through
all points, and each point is the median over the repeats. As in `qkvlab study --plan`, two points are told, one model
and a group of `MODELS` at the task's own sizes, and the others are predicted from them. Memory is the peak of a worker
process started for each point, against the prediction from sizes and a measured baseline; the goal is 20 %.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qkvlab import __version__, designs, tasks
from qkvlab.tasks import Task
from qkvlab.training import effort, memory, trial
from qkvlab.training.workers import Order

MODELS = 8
GROUPS = (1, 2, 4, 8, 16, 24)
TIMES = (2, 4)
SEEDS = (8, 16, 32)
FEW = 2
"""Models at once at larger sizes, so that they fit this machine."""
GOAL = 0.2


@dataclasses.dataclass(frozen=True)
class Point:
    """One thing to measure.

    Attributes:
        grows: what differs from the point that the plan is told.
        times: how often the task's own size, or how many models or seeds.
        task: at this size.
        models: in a group.
        seeds: in all, trained group by group.
    """

    grows: str
    times: int
    task: Task
    models: int
    seeds: int


def points(task: Task) -> list[Point]:
    """Return the points; a task without a field of its own for a size has none for it."""
    fields = {field.name for field in dataclasses.fields(task)}  # type: ignore[arg-type]
    found = [Point("models", count, task, count, count) for count in GROUPS]
    found += [Point("seeds", count, task, MODELS, count) for count in SEEDS]
    for grows, together in (("d_model", ("d_model", "hidden")), ("tokens", ("tokens",))):
        if grows in fields:
            for times in (1, *TIMES):
                sizes = {name: times * getattr(task, name) for name in together if name in fields}
                found.append(Point(grows, times, dataclasses.replace(task, **sizes), FEW, FEW))  # type: ignore[type-var]
    return found


class Timed:
    """A point with its groups made, ready to take steps."""

    def __init__(self, point: Point, setting: str, design: str) -> None:
        from qkvlab.training.recipe import Run
        from qkvlab.training.together import Together

        runs = [Run(seed, 0.003) for seed in range(point.models)]
        self.point, self.rounds = point, point.seeds // point.models
        self.make: Callable[[], Together] = lambda: Together(point.task, setting, designs.parse(design), runs)
        self.group = self.make()
        self.group.step()

    def seconds(self, steps: int) -> float:
        """Return process seconds of so many steps of all seeds."""
        if len(self.group.losses) + self.rounds * steps > self.group.total:
            self.group = self.make()
            self.group.step()
        begun = time.process_time()
        for _ in range(self.rounds * steps):
            self.group.step()
        return time.process_time() - begun


def short(task: Task, steps: int) -> Task:
    """Return the task with few steps: data of all of them are drawn at once, and here only the steps are timed."""
    names = [f.name for f in dataclasses.fields(task) if f.name.endswith("steps")]  # type: ignore[arg-type]
    return dataclasses.replace(task, **dict.fromkeys(names, steps))  # type: ignore[type-var]


def times_of(task: Task, setting: str, design: str, repeats: int, steps: int) -> list[dict[str, Any]]:
    """Measure every point in every repeat and return the medians beside what the plan says."""
    parsed = designs.parse(design)
    timed = [Timed(point, setting, design) for point in points(short(task, 4 * max(SEEDS) // MODELS * steps))]
    measured: list[list[float]] = [[] for _ in timed]
    for repeat in range(repeats + 1):  # the first warms up
        for each, found in zip(timed, measured, strict=True):
            seconds = each.seconds(steps) / steps
            if repeat:
                found.append(seconds)
        print(f"repeat {repeat} of {repeats}", flush=True)
    alone, many = (
        statistics.median(found)
        for each, found in zip(timed, measured, strict=True)
        if each.point.grows == "models" and each.point.models in (1, MODELS)
    )
    pace = effort.Pace.of(task.network(setting, parsed), parsed, one=alone, many=many, models=MODELS)
    rows = []
    for each, found in zip(timed, measured, strict=True):
        point, median = each.point, statistics.median(found)
        says = each.rounds * pace.step(point.task.network(setting, parsed), parsed, point.models)
        rows.append(
            {
                "grows": point.grows,
                "times": point.times,
                "models": point.models,
                "seconds_per_step": median,
                "milliseconds_per_model_step": 1000 * median / point.seeds,
                "predicted": says,
                "told": point.grows == "models" and point.models in (1, MODELS),
                "measured_over_predicted": median / says,
                "spread": (max(found) - min(found)) / median,
            }
        )
    return rows


def _peak(task: Task, setting: str, design: str, models: int) -> int:
    import torch

    from qkvlab.training.recipe import Run
    from qkvlab.training.together import train_together

    torch.set_num_threads(1)
    train_together(task, setting, designs.parse(design), [Run(seed, 0.003) for seed in range(models)], steps=4)
    return memory.peak()


def peaks_of(task: Task, setting: str, design: str) -> list[dict[str, Any]]:
    """Start a worker for every point and return its peak beside what the plan says."""
    parsed = designs.parse(design)
    base = trial.find(Order(task.name, setting, design, ((0, 0.003),)), task.facts(setting)).base
    context = multiprocessing.get_context("spawn")
    rows = []
    for point in points(task):
        if point.grows == "seeds":  # groups follow each other; a worker holds one at a time
            continue
        network = point.task.network(setting, parsed)
        says = memory.of_worker(network, parsed, steps=point.task.steps(setting), group=point.models, base=base)
        with context.Pool(1) as pool:
            peak = pool.apply(_peak, (point.task, setting, design, point.models))
        rows.append(
            {
                "grows": point.grows,
                "times": point.times,
                "models": point.models,
                "bytes": peak,
                "predicted": says.total,
                "predicted_over_measured": says.total / peak,
                "within_goal": abs(says.total / peak - 1) <= GOAL,
                "parts": vars(says),
            }
        )
        print(_memory_line(rows[-1]), flush=True)
    return rows


def markdown(documents: list[dict[str, Any]], lang: str) -> str:
    """Return the page's table: milliseconds, MiB and both ratios; where the plan is told the time there is no ratio."""
    names = {"models": "模型", "seeds": "种子", "d_model": "d_model", "tokens": "tokens"}
    heads = ["task", "grows", "models at once", "ms", "measured / predicted", "MiB", "predicted / measured"]
    if lang == "zh":
        heads = ["任务", "放大", "同时的模型", "毫秒", "实测 / 预测", "MiB", "预测 / 实测"]
    lines = [heads, ["---"] * len(heads)]
    for document in documents:
        peaks = {(row["grows"], row["times"]): row for row in document["memory"]}
        for row in document["time"]:
            grows, peak = row["grows"], peaks.get((row["grows"], row["times"]))
            lines.append(
                [
                    document["task"],
                    f"{names[grows] if lang == 'zh' else grows} x {row['times']}",
                    str(row["models"]),
                    f"{row['milliseconds_per_model_step']:.2f}",
                    "–" if row["told"] else f"{row['measured_over_predicted']:.2f}",
                    f"{peak['bytes'] / 2**20:.0f}" if peak else "–",
                    f"{peak['predicted_over_measured']:.2f}" if peak else "–",
                ]
            )
    rule, rows = lines.pop(1), ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([rows[0], "|" + "|".join(rule) + "|", *rows[1:]])


def _time_line(row: dict[str, Any]) -> str:
    return (
        f"{row['grows']:>8} x {row['times']:<3} {row['models']:>3} at once  "
        f"{row['milliseconds_per_model_step']:9.3f} ms per model-step  "
        f"measured / predicted {row['measured_over_predicted']:.2f}  spread {row['spread']:.2f}"
    )


def _memory_line(row: dict[str, Any]) -> str:
    return (
        f"{row['grows']:>8} x {row['times']:<3} {row['models']:>3} at once  {row['bytes'] / 2**20:7.0f} MiB  "
        f"predicted / measured {row['predicted_over_measured']:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="text")
    parser.add_argument("--setting", help="of the task; its first unless given")
    parser.add_argument("--design", default="QKV")
    parser.add_argument("--repeats", type=int, default=5, help="rounds through all points")
    parser.add_argument("--steps", type=int, default=3, help="of every point in a round")
    parser.add_argument("--no-memory", action="store_true", help="leave out the workers whose memory is measured")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    task = tasks.find(args.task)
    setting = task.setting(args.setting or task.settings()[0])
    rows = times_of(task, setting, args.design, args.repeats, args.steps)
    for row in rows:
        print(_time_line(row))
    peaks = [] if args.no_memory else peaks_of(task, setting, args.design)
    if peaks:
        print(f"{sum(row['within_goal'] for row in peaks)} of {len(peaks)} peaks are within {GOAL:.0%}")
    if args.json:
        document = {
            "task": task.name, "setting": setting, "design": args.design, "repeats": args.repeats,
            "steps": args.steps, "qkvlab": __version__, "torch": str(torch.__version__),
            "machine": f"{platform.system()} {platform.machine()}", "time": rows, "memory": peaks,
        }  # fmt: skip
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
