"""How much faster is training many models at once than one after the other? Interleaved, medians of ratios.

    python benchmarks/batched.py [--repeats 5] [--setting synonym/fixed] [--json FILE]

Both sides train the same seeds of the same design to the end and examine them. One by one: plain PyTorch, fused AdamW,
all cores as threads. Batched: the layout that the measured trial chose on this machine. Start-up of the worker
processes is reported apart; it is paid once per study.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

from qkvlab import designs, tasks
from qkvlab.training.layout import cores, find
from qkvlab.training.one import train_one_by_one
from qkvlab.training.recipe import Run
from qkvlab.training.workers import Order

LIMIT = 3600.0  # seconds that a group may take


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--setting", default="synonym/fixed")
    parser.add_argument("--designs", default="QKV,QQV,XXV")
    parser.add_argument("--one", type=int, default=6, help="models trained one by one in each repeat")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(cores())
    task = tasks.find("library")
    steps = task.steps(args.setting)
    begun = time.perf_counter()
    layout, workers = find(Order("library", args.setting, "QKV", ((0, 0.003),)), task.facts(args.setting), print)
    workers.train(Order("library", args.setting, "QKV", ((0, 0.003),)), LIMIT).result()
    print(f"layout {layout}, ready after {time.perf_counter() - begun:.1f} s")
    rows = []
    for name in args.designs.split(","):
        ones, togethers = [], []
        for repeat in range(args.repeats + 1):  # the first pair warms up and is not counted
            runs = [Run(seed, 0.003) for seed in range(args.one)]
            begun = time.perf_counter()
            train_one_by_one(task, args.setting, designs.parse(name), runs)
            one = len(runs) * steps / (time.perf_counter() - begun)
            count = layout.processes * 2
            groups = [tuple((1000 * g + i, 0.003) for i in range(layout.group)) for g in range(count)]
            begun = time.perf_counter()
            futures = [workers.train(Order("library", args.setting, name, group), LIMIT) for group in groups]
            for future in futures:
                future.result()
            together = count * layout.group * steps / (time.perf_counter() - begun)
            if repeat:
                ones.append(one)
                togethers.append(together)
        ratios = [b / a for a, b in zip(ones, togethers, strict=True)]
        row = {
            "design": name,
            "one_by_one_steps_per_s": round(statistics.median(ones)),
            "batched_steps_per_s": round(statistics.median(togethers)),
            "ratio_median": round(statistics.median(ratios), 2),
            "ratio_min": round(min(ratios), 2),
            "ratio_max": round(max(ratios), 2),
        }
        rows.append(row)
        print(row, flush=True)
    workers.close()
    if args.json:
        document = {"setting": args.setting, "layout": vars(layout), "cores": cores(), "rows": rows}
        args.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
