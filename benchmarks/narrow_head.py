"""How much faster is one narrow head (64 of 768 channels) than one head of full width? Interleaved, paired ratios.

    python benchmarks/narrow_head.py [--pairs 60] [--threads 1] [--json FILE]

One attention layer with one head, forward only, on random x: making q, k and v, the attention itself and the output
matrix. Both sides take turns, so that whatever else the machine does falls on both; each pair is one ratio, narrow
time by full time, each time the median of a few calls. For comparison also twelve narrow heads, which are full width.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import torch

from qkvlab import designs
from qkvlab.attention import Attention

D_MODEL, NARROW, TOKENS, BATCH = 768, 64, 128, 4
CALLS = 5


def layer(name: str, heads: int) -> Attention:
    """Build one attention layer of a design."""
    return Attention(designs.parse(name), d_model=D_MODEL, heads=heads).eval()


def seconds(attention: Attention, x: torch.Tensor) -> float:
    """Time one forward call: the median of a few."""
    times = []
    for _ in range(CALLS):
        begun = time.perf_counter()
        attention(x)
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    x = torch.randn(BATCH, TOKENS, D_MODEL)
    sides = {"narrow": layer(f"QKV/h{NARROW}", 1), "full": layer("QKV", 1), "twelve": layer(f"QKV/h{NARROW}", 12)}
    found: dict[str, list[float]] = {name: [] for name in sides}
    with torch.no_grad():
        for attention in sides.values():
            seconds(attention, x)
        for _ in range(args.pairs):
            for name, attention in sides.items():
                found[name].append(seconds(attention, x))
    ratios = [a / b for a, b in zip(found["narrow"], found["full"], strict=True)]
    document = {
        "d_model": D_MODEL, "d_head": NARROW, "tokens": TOKENS, "batch": BATCH, "threads": args.threads,
        "torch": torch.__version__, "machine": f"{platform.system()} {platform.machine()}",
        "median_ms": {name: round(1000 * statistics.median(times), 3) for name, times in found.items()},
        "median_ratio": round(statistics.median(ratios), 4),
        "ratios": [round(ratio, 4) for ratio in ratios],
    }  # fmt: skip
    print({key: value for key, value in document.items() if key != "ratios"})
    if args.json:
        args.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
