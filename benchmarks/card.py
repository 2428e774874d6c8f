"""How fast are many small Transformers trained on one GPU, by the loop that anybody would write?

    python benchmarks/card.py --json FILE
    python benchmarks/card.py --points 32x64x64 --sizes 128 --rounds 5

The two-layer language models of `engine.py`, one step each: forward, gradients, clipping, fused AdamW.

loop       one model, as a user would write it: ordinary modules, fused attention, data on the card
launched   several models as one batched program, its kernels started by Python one by one
plain      the same as the engine does it: a step is recorded once and repeated by the card (`training/recorded.py`)
compiled   the same by compiled steps
bf16       by compiled steps whose products are in bf16; the loop stays in fp32

All take turns in one process; medians over the rounds. ``by_loop`` is their rate of model-steps by that of the loop,
``of_matmul`` the rate of floating-point operations by that of one large fp32 product, without tensor cores as PyTorch
has it unless told. ``foreseen`` is what `qkvlab study --plan --gpu` says of this card.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import loop
from engine import POINTS, SETTING, flops, matmul_rate, sized
from origin import origin
from qkvlab import designs
from qkvlab.tasks.task import Task
from qkvlab.training import effort, memory
from qkvlab.training.device import settle
from qkvlab.training.recipe import Run
from qkvlab.training.together import Together

SIZES, COMPILED = (8, 32, 128), (32, 128)
"""Models in a group: of all ways, and of those that compile."""
WAYS = ("launched", "plain", "compiled", "bf16")
WARM_UP, TURN = 6, 30
"""Steps that are not counted, and of a turn."""
LARGE = 8192
"""Rows of the one product."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", default=",".join("x".join(map(str, point)) for point in POINTS))
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="models in a group")
    parser.add_argument("--compiled", default=",".join(map(str, COMPILED)), help="of which these are compiled, too")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="of the loop and of the product, in each round")
    parser.add_argument("--design", default="QKV")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("this PyTorch sees no CUDA device")
    whole, some = ([int(text) for text in sizes.split(",") if text] for sizes in (args.sizes, args.compiled))
    sides = [(way, n) for way in args.ways.split(",") for n in (whole if way in ("launched", "plain") else some)]
    document: dict[str, Any] = {**origin(), "device": torch.cuda.get_device_name(), "design": args.design, "rows": []}
    for text in args.points.split(","):
        point = tuple(map(int, text.split("x")))
        document["rows"].append(measured(point, args.design, sides, args.seconds, args.rounds))
        if args.json:
            args.json.write_text(json.dumps(document, indent=1) + "\n")


class Side:
    """A group that takes steps in one way.

    Attributes:
        seconds: until its first steps were done: drawing data, compiling, recording.
        peak: bytes on the card.
    """

    def __init__(self, task: Task, design: str, way: str, size: int) -> None:
        gc.collect()
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        begun = time.perf_counter()
        compile, products = way in ("compiled", "bf16"), "bf16" if way == "bf16" else "fp32"
        runs = [Run(i, 0.01) for i in range(size)]
        self.group = Together(
            task, SETTING, designs.parse(design), runs,
            device="cuda", compile=compile, products=products,  # type: ignore[arg-type]
        )  # fmt: skip
        if self.group.remark:
            raise SystemExit(self.group.remark)
        if way == "launched":
            self.group._move = self.group._moved
        self.take(WARM_UP)
        self.seconds = time.perf_counter() - begun
        self.peak = torch.cuda.max_memory_allocated() - before

    def take(self, steps: int) -> float:
        """Return the seconds of so many steps."""
        begun = time.perf_counter()
        for _ in range(steps):
            self.group.step()
        settle("cuda")
        return time.perf_counter() - begun


def measured(
    point: tuple[int, ...], design: str, sides: list[tuple[str, int]], seconds: float, rounds: int
) -> dict[str, Any]:
    """Measure one size in all ways, in turn."""
    card = next(card for name, card in effort.GPUS.items() if name.upper() in torch.cuda.get_device_name().upper())
    task, parsed = replace(sized(point), train_steps=WARM_UP + TURN * rounds), designs.parse(design)
    network, operations = task.network(SETTING, parsed), flops(point, design)
    groups = {}
    for way, size in sides:
        groups[way, size] = Side(task, design, way, size)
        print(f"{way} {size}: ready after {groups[way, size].seconds:.1f} s", flush=True)
    loops, peaks, found = [], [], {key: [] for key in groups}
    for turn in range(rounds):
        loops.append(loop.loop_rate(sized(point), SETTING, design, seconds, "cuda"))
        peaks.append(matmul_rate(seconds / 4, LARGE, "cuda"))
        order = [*list(groups)[turn % len(groups) :], *list(groups)[: turn % len(groups)]]
        for key in order:
            found[key].append(key[1] * TURN / groups[key].take(TURN))
    alone, peak = statistics.median(loops), statistics.median(peaks)
    row: dict[str, Any] = {
        "point": "x".join(map(str, point)), "loop": round(alone, 1), "mflops_per_step": round(operations / 1e6, 1),
        "matmul_tflops": round(peak / 1e12, 2), "sides": [],
    }  # fmt: skip
    print(f"{row['point']}: loop {alone:.0f} steps/s, one product {peak / 1e12:.1f} TFLOP/s", flush=True)
    for (way, size), rates in found.items():
        rate = statistics.median(rates)
        says = effort.seconds_on(card, network, parsed, size)
        row["sides"].append({
            "way": way, "models": size, "rate": round(rate, 1), "by_loop": round(rate / alone, 2),
            "of_matmul": round(rate * operations / peak, 3), "ready_seconds": round(groups[way, size].seconds, 2),
            "bytes_of_steps": groups[way, size].peak, "foreseen_rate": round(1 / says, 1),
            "foreseen_bytes": memory.on_device(network, parsed, steps=task.train_steps, group=size),
        })  # fmt: skip
        each = row["sides"][-1]
        print(
            f"  {way:9s} {size:4d} models  {rate:9.0f} model-steps/s  {each['by_loop']:6.2f} by loop  "
            f"{each['of_matmul']:.2f} of matmul  foreseen {each['foreseen_rate']:9.0f}  "
            f"{each['bytes_of_steps'] / 2**20:6.0f} MiB, foreseen {each['foreseen_bytes'] / 2**20:6.0f}",
            flush=True,
        )
    return row


if __name__ == "__main__":
    main()
