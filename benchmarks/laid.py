"""Designs by one program instead of one each: what compiling takes, and a step. Processor time, sides in turn.

    python benchmarks/laid.py [--tasks library,text] [--designs QQV,XXV] [--rounds 40] [--json FILE]

Each design is compiled by itself with an empty cache, and laid into the program of its host. Rounds take some steps of
four models by the one, by the other and by plain steps, in turn; a ratio is the median over rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # compiled here, where its time is counted
os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp()

import torch

from qkvlab import designs, tasks
from qkvlab.designs.laying import host
from qkvlab.training.effort import work
from qkvlab.training.layout import UNIT
from qkvlab.training.recipe import Run
from qkvlab.training.together import Together

SETTINGS = {"library": "synonym/fixed", "sentence": "two-layers/positions", "text": "plain"}
STEPS = 5
"""Of each side in a round."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default=",".join(SETTINGS))
    parser.add_argument("--designs", default="QQV,XXV,uniform")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name in args.tasks.split(","):
        task, setting = tasks.find(name), SETTINGS[name]
        runs = [Run(seed, 0.003) for seed in range(UNIT)]
        _, first = _made(task, setting, "QKV", runs, compile=True)
        for guest in args.designs.split(","):
            design = designs.parse(guest)
            network = task.network(setting, design)
            holds = host(design, network.dims)
            ways = ({}, {"compile": True}, {"compile": True, "host": holds})
            made = [_made(task, setting, guest, runs, **how) for how in ways]
            (plain, base), (own, compiling), (laid, laying) = made
            taken = [[_step(group) for group in (plain, own, laid)] for _ in range(args.rounds + 2)][2:]
            row = {
                "task": name,
                "setting": setting,
                "design": guest,
                "compiling_host": round(first - base, 1),
                "compiling_own": round(compiling - base, 1),
                "laying": round(laying - base, 2),
                "own_ms": round(1000 * statistics.median(own for _, own, _ in taken), 3),
                "laid_by_own": round(statistics.median(laid / own for _, own, laid in taken), 3),
                "plain_by_own": round(statistics.median(plain / own for plain, own, _ in taken), 2),
                "flops_ratio": round(network.step(holds).both / network.step(design).both, 3),
                "work_ratio": round(work(network, holds) / work(network, design), 3),
            }
            rows.append(row)
            print(row, flush=True)
    if args.json:
        args.json.write_text(json.dumps({"torch": torch.__version__, "rows": rows}, indent=1) + "\n")


def _made(task: tasks.Task, setting: str, name: str, runs: list[Run], **how: Any) -> tuple[Together, float]:
    """Return a group and the seconds that making it took, those of the compiler too."""
    begun = sum(os.times()[:4])
    group = Together(task, setting, designs.parse(name), runs, **how)
    assert not group.remark, group.remark
    return group, sum(os.times()[:4]) - begun


def _step(group: Together) -> float:
    begun = time.process_time()
    for _ in range(STEPS):
        group.losses.clear()  # the first step again: a schedule ends, a benchmark does not
        group.step()
    return (time.process_time() - begun) / STEPS


if __name__ == "__main__":
    main()
