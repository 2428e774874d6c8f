"""How fast are many small Transformers trained here, by the loop that anybody would write?

    python benchmarks/engine.py --seconds 4 --repeats 3 --json FILE

Two-layer language models of several sizes, one step each: forward, gradients, clipping, fused AdamW.

loop      one model after the other, as a user would write it: ordinary modules, fused attention, all cores as threads
plain     several models as one batched program in each of as many single-threaded processes as there are cores
compiled  the same by compiled steps
bf16      by compiled steps whose products are in bf16 (`qkvlab study --products bf16`); the loop stays in fp32

All are measured in turn in every repeat; medians. What compiling costs is counted by the study that it is part of:
``studies`` says how many times as fast 60 models of 600 steps are trained, compiling included. ``of_matmul`` is the
rate of floating-point operations by that of one large fp32 product on all cores, measured in the same run.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

import loop
from origin import origin
from qkvlab import designs, tasks
from qkvlab.tasks.task import Task
from qkvlab.training import recipe
from qkvlab.training.layout import UNIT, cores
from qkvlab.training.recipe import Run
from qkvlab.training.together import Together

POINTS = ((16, 16, 32), (64, 16, 32), (32, 64, 64), (64, 32, 128))
"""(batch, tokens, d_model)."""
GROUPS = (4, 8, 16)
"""Sizes of plain groups; the fastest counts."""
WAYS: tuple[tuple[str, int], ...] = (*(("plain", size) for size in GROUPS), ("compiled", UNIT), ("bf16", UNIT))
MODELS, STEPS = 60, 600
"""The study over which compiling is counted: models of one design, steps of each."""
SETTING = "plain"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--design", default="QKV")
    parser.add_argument("--points", default=",".join("x".join(map(str, point)) for point in POINTS))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(cores())
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(cores())
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        begin = {"initializer": _begin, "initargs": (barrier, cache)}
        with ProcessPoolExecutor(cores(), mp_context=context, **begin) as pool:
            for point in (tuple(map(int, text.split("x"))) for text in args.points.split(",")):
                rows.append(measured(point, args.design, args.seconds, args.repeats, pool))
                print(rows[-1], flush=True)
    if args.json:
        document = {**origin(), "design": args.design, "models": MODELS, "steps": STEPS, "rows": rows}
        args.json.write_text(json.dumps(document, indent=1) + "\n")


def sized(point: tuple[int, ...]) -> Task:
    """Return the language model's task at a size."""
    batch, tokens, d_model = point
    heads = max(1, d_model // 16)
    return replace(
        tasks.find("text"), batch=batch, tokens=tokens, d_model=d_model, heads=heads, hidden=4 * d_model, buckets=256
    )


def measured(
    point: tuple[int, ...], design: str, seconds: float, repeats: int, pool: ProcessPoolExecutor
) -> dict[str, Any]:
    """Measure one size in all ways, in turn, `repeats` times; rates are model-steps per second of the whole machine."""
    loops: list[float] = []
    peaks: list[float] = []
    batched: dict[tuple[str, int], list[float]] = {}
    ready = {"compiled": 0.0, "bf16": 0.0}
    for _ in range(repeats):
        loops.append(loop.loop_rate(sized(point), SETTING, design, seconds))
        peaks.append(matmul_rate(seconds / 4))
        for way, size in WAYS:
            futures = [pool.submit(batched_rate, point, design, size, way, seconds) for _ in range(cores())]
            found = [future.result() for future in futures]
            batched.setdefault((way, size), []).append(sum(rate for rate, _ in found))
            if way in ready:
                ready[way] = max(ready[way], *(spent for _, spent in found))
    alone, peak, operations = statistics.median(loops), statistics.median(peaks), flops(point, design)
    row: dict[str, Any] = {
        "point": "x".join(map(str, point)),
        "loop": round(alone, 1),
        "loop_of_matmul": round(alone * operations / peak, 3),
        "mflops_per_step": round(operations / 1e6, 1),
    }
    for way in dict.fromkeys(way for way, _ in WAYS):
        rate, size = max((statistics.median(rates), size) for (w, size), rates in batched.items() if w == way)
        work, spent = MODELS * STEPS, ready.get(way, 0.0)
        row[way] = {
            "rate": round(rate, 1),
            "group": size,
            "compiling_seconds": round(spent, 1),
            "by_loop": round(rate / alone, 2),
            "studies": round(work / alone / (work / rate + spent), 2),
            "of_matmul": round(rate * operations / peak, 3),
        }
    return row


def batched_rate(point: tuple[int, ...], design: str, size: int, way: str, seconds: float) -> tuple[float, float]:
    """Model-steps per second of one process, while all of them work, and seconds spent on compiling."""
    runs = [Run(i, 0.01) for i in range(size)]
    group = Together(
        sized(point), SETTING, designs.parse(design), runs,
        compile=way != "plain", products="bf16" if way == "bf16" else "fp32",
    )  # fmt: skip
    if group.remark:
        raise SystemExit(group.remark)
    _together.wait(timeout=300)
    return size * loop.rate(lambda i: group.step(), group.total, seconds), group.compiling


def matmul_rate(seconds: float, n: int = 1024, device: str = "cpu") -> float:
    """Floating-point operations per second of one large fp32 product on all cores, or on a card."""
    a, b = torch.randn(n, n, device=device), torch.randn(n, n, device=device)
    return 2 * n**3 * loop.rate(lambda i: torch.mm(a, b), 10**9, seconds, device)


def flops(point: tuple[int, ...], design: str) -> int:
    """Floating-point operations of one step of one model, products only, as torch counts them."""
    task = sized(point)
    model = recipe.start(task, SETTING, designs.parse(design), 0)
    data = task.batches(SETTING, 0)
    with FlopCounterMode(display=False) as counter:
        logits = model(torch.from_numpy(data.inputs[0][0]))
        F.cross_entropy(logits.flatten(0, -2), torch.from_numpy(data.targets[0]).flatten()).backward()
    return counter.get_total_flops()


_together: Any = None  # a barrier of all processes, set in each


def _begin(barrier: Any, cache: str) -> None:
    global _together
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache  # compiling is measured as on a machine that never did
    _together = barrier
    torch.set_num_threads(1)


if __name__ == "__main__":
    main()
