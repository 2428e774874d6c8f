"""How far is the attention layer from the truth, beside what everybody writes in the same precision?

    python benchmarks/accuracy.py [--designs QKV,QQV] [--draws 16] [--json FILE]

For every example of the catalogue, all routes and fp32 and bf16: the largest error, against float64, of the output and
of the gradient of x and of every matrix, mean over the draws, divided by that of `naive.py`. Goal: at most 2. Causal,
384 tokens of 64 (more than a block, enough for halves and for 1 / root to go into a matrix), 4 heads; the float64 naive
code is the truth, and must first equal the layer's own float64 output and gradients. Where the truth is 0 (the gradient
of a key bias, of the scores of one key) a ratio means nothing: such errors stand beside the largest number of the call.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from naive import naive
from origin import origin
from qkvlab import Attention
from qkvlab.attention.layer import Route
from qkvlab.designs import Design, examples, parse
from qkvlab.testing.sizes import redrawn

D_MODEL, HEADS, TOKENS = 64, 4, 384
ROUTES: tuple[Route, ...] = ("plain", "fused", "native")
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
ROUNDING = {"fp32": 2.0**-24, "bf16": 2.0**-9}
GOAL = 2.0

Found = dict[str, Tensor]


def catalogue() -> list[Design]:
    """Every example, with tables as long as the text."""
    return [parse(re.sub(r"/learned\d+", f"/learned{TOKENS}", name)) for name in examples()]


def built(design: Design, seed: int, route: Route = "plain") -> Attention:
    """One layer in float64, gains and sinks off the numbers at which they start."""
    torch.manual_seed(seed)
    layer = Attention(design, d_model=D_MODEL, heads=HEADS, route=route)
    redrawn(layer.projections)
    return layer.double()


def by_layer(layer: Attention, x: Tensor, along: Tensor) -> Found:
    """Output and gradients of one of ours."""
    x = x.detach().clone().requires_grad_()
    leaves = {"x": x, **{name: p for name, p in layer.named_parameters() if p.requires_grad}}
    return _found(layer(x, causal=True), leaves, along)


def by_naive(layer: Attention, x: Tensor, along: Tensor) -> Found:
    """Output and gradients of the naive code at the same weights."""
    x = x.detach().clone().requires_grad_()
    leaves = {"x": x} | {
        name: p.detach().clone().requires_grad_() for name, p in layer.named_parameters() if p.requires_grad
    }
    weights = {name: leaves.get(f"projections.{name}", p) for name, p in layer.projections.named_parameters()}
    weights["out"] = leaves["out.weight"].T
    if layer.out.bias is not None:
        weights["out_bias"] = leaves["out.bias"]
    kv = layer.design.kv_heads(layer.dims)
    out = naive(layer.design.name, weights, x, heads=layer.dims.heads, c=layer.dims.d_head, kv=kv)
    return _found(out, leaves, along)


def _found(out: Tensor, leaves: dict[str, Tensor], along: Tensor) -> Found:
    # what no number depends on (positions of one key, a bias that cancels) has gradient 0
    made = torch.autograd.grad(out, list(leaves.values()), along, allow_unused=True, materialize_grads=True)
    return {"output": out.detach(), **{f"d {name}": g for name, g in zip(leaves, made, strict=True)}}


def error(found: Found, truth: Found) -> dict[str, float]:
    """Largest error of each."""
    return {name: float((found[name].double() - exact).abs().max()) for name, exact in truth.items()}


def judged(design: Design, draws: int) -> list[dict[str, Any]]:
    """The ratios of one design; stops where the naive code means something else."""
    sums: dict[tuple[str, str, str], list[float]] = {}
    for seed in range(draws):
        generator = torch.Generator().manual_seed(1000 + seed)
        x, along = torch.randn(2, 1, TOKENS, D_MODEL, generator=generator, dtype=torch.float64)
        for precision, dtype in PRECISIONS.items():
            rounded = built(design, seed).to(dtype)  # the truth is that of the rounded numbers
            x_low, along_low = x.to(dtype), along.to(dtype)
            exact = built(design, seed)
            exact.load_state_dict(rounded.state_dict())
            truth = by_naive(exact, x_low.double(), along_low.double())
            if seed == 0:
                same(design.name, by_layer(exact, x_low.double(), along_low.double()), truth)
            largest = max(float(number.abs().max()) for number in truth.values())
            theirs = error(by_naive(rounded, x_low, along_low), truth)
            for route in ROUTES:
                ours = built(design, seed, route).to(dtype)
                ours.load_state_dict(rounded.state_dict())
                for name, gap in error(by_layer(ours, x_low, along_low), truth).items():
                    total = sums.setdefault((route, precision, name), [0.0] * 4)
                    size = float(truth[name].abs().max())
                    for at, number in enumerate((gap, theirs[name], size, largest)):
                        total[at] += number / draws
    return [
        {"design": design.name, "route": route, "precision": precision, "of": name, "ours": ours, "naive": theirs,
         "ratio": ratio(ours, theirs, size, largest), "beside largest": ours / largest}
        for (route, precision, name), (ours, theirs, size, largest) in sums.items()
    ]  # fmt: skip


def ratio(ours: float, theirs: float, size: float, largest: float) -> float | None:
    """Ours by theirs; None where the truth is 0, with which no error can be compared."""
    return None if size < 1e-12 * largest else ours / theirs


def same(name: str, ours: Found, truth: Found) -> None:
    """Stop where float64 code and float64 layer differ."""
    assert set(ours) == set(truth), f"{name}: {sorted(set(ours) ^ set(truth))}"
    for what, exact in truth.items():
        gap = float((ours[what] - exact).abs().max() / exact.abs().max().clamp(min=1e-3))
        assert gap < 1e-9, f"{name}: the naive code means something else; {what} differs by {gap:.1e} of its largest"


def main(judge: Callable[[Design, int], list[dict[str, Any]]] = judged) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--designs", help="names with commas between; the whole catalogue unless given")
    parser.add_argument("--draws", type=int, default=16)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    designs = [parse(name) for name in args.designs.split(",")] if args.designs else catalogue()
    begun, rows, zeros = time.perf_counter(), [], []
    for design in designs:
        every = judge(design, args.draws)
        mine = [row for row in every if row["ratio"] is not None]
        zeros += [row for row in every if row["ratio"] is None]
        rows += mine
        print(f"{design.name:42s} {_words(max(mine, key=lambda row: row['ratio']))}", flush=True)
    rows.sort(key=lambda row: -row["ratio"])
    above = [row for row in rows if row["ratio"] > GOAL]
    print(f"\n{len(above)} of {len(rows)} errors are more than {GOAL} times that of naive code; the largest ratios:")
    for row in rows[:12]:
        print(f"    {row['design']:40s} {_words(row)}")
    print(f"{len(zeros)} gradients are 0 in truth; the largest errors beside the largest number of their call:")
    for row in sorted(zeros, key=lambda row: -row["beside largest"] / ROUNDING[row["precision"]])[:4]:
        print(f"    {row['design']:40s} {row['beside largest']:.1e}  {_words(row)}")
    print(f"{time.perf_counter() - begun:.0f} s")
    if args.json:
        document = {**origin(), "draws": args.draws, "goal": GOAL, "above": len(above), "rows": rows, "zeros": zeros}
        args.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def _words(row: dict[str, Any]) -> str:
    errors = f"{row['ours']:.1e} against {row['naive']:.1e}"
    shown = "   -  " if row["ratio"] is None else f"{row['ratio']:6.2f}"
    return f"{shown}  {row['precision']} {row['route']:5s}  {errors}  {row['of']}"


if __name__ == "__main__":
    main()
