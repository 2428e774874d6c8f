"""How fast is the attention layer: beside the layers of others, and each cheaper design beside QKV?

    python benchmarks/layer.py [--points forward,learning,decoding,designs] [--seconds 240] [--threads 2] [--json FILE]
    python benchmarks/layer.py --device cuda --seconds 60 --json FILE

d_model 512, 8 heads, no biases, the same weights on all sides; before anything is timed all sides must compute the same
numbers. Sides take turns in one process in an order that rotates, so that whatever else the machine does falls on all.
A ratio is the median over the rounds of our time by that of the peer whose median is the lowest. Our layer is prepared
(`Attention.prepare`): without gradients its matrices stand side by side, and its own kernel attends where there is a
C++ compiler; as it comes it stands beside. Designs are held against QKV in the same way, both prepared, beside what
they cost: FLOPs of the layer, or bytes read in one step of decoding.

On a GPU a turn ends when the card is done; where its kernels are short, what is timed is how long Python takes to start
them. ``--scale 8`` has eight times the batch, so that the card decides.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from origin import origin
from peers import Ours, peers
from qkvlab import Attention, cost
from qkvlab.designs import Design, parse
from qkvlab.designs.work import work
from qkvlab.errors import BadInput
from qkvlab.training.device import settle

D_MODEL, HEADS = 512, 8
SHAPES, CONTEXTS, BATCH = ((8, 128), (4, 512), (1, 2048)), (128, 4096), 8
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
DESIGNS = (
    *("QKK", "QQV", "QKQ", "QQQ", "XKV", "QXV", "QKX", "XXV", "XKX", "QXX", "XXX"),
    *("QKV/kv1", "QKV/kv2", "QKK/kv2", "QKV/window64", "QKV/rank64", "MLA64", "MLA64/rope", "QKV/h32"),
)  # fmt: skip
SHOWN_AS_THEY_ARE = ("QKV/rope", "QKK/rope")
POINTS = ("forward", "learning", "decoding", "designs")


@dataclass(frozen=True)
class Place:
    """Where layers are timed.

    Attributes:
        device: cpu or cuda.
        scale: how many times the batch.
    """

    device: str = "cpu"
    scale: int = 1

    def build(self, design: str | Design, dtype: torch.dtype) -> Attention:
        """One layer with weights of the seed."""
        torch.manual_seed(1)
        return Attention(design, d_model=D_MODEL, heads=HEADS).to(self.device, dtype).eval()

    def draw(self, batch: int, *rest: int, dtype: torch.dtype) -> Tensor:
        drawn = torch.randn(self.scale * batch, *rest, generator=torch.Generator().manual_seed(0))
        return drawn.to(self.device, dtype)


def learning(side: Any, x: Tensor, causal: bool, along: Tensor) -> Callable[[], list[Tensor]]:
    """Return a call that makes the output and the gradient of x and of every weight."""
    leaves = [x, *side.module.parameters()]

    def call() -> list[Tensor]:
        out = side.forward(x, causal)
        return [out.detach(), *torch.autograd.grad(out, leaves, along)[:1]]

    return call


def turns(sides: dict[str, Callable[[], Any]], seconds: float, device: str = "cpu") -> dict[str, list[float]]:
    """Time each side in turn until the time is used: at least 5 rounds, each the mean of calls of some 5 ms."""
    begun = time.perf_counter()
    calls = {}
    for name, call in sides.items():
        call()
        once = min(_clocked(call, 1, device) for _ in range(3))
        calls[name] = max(1, min(50, round(0.005 / once)))
    found: dict[str, list[float]] = {name: [] for name in sides}
    names = list(sides)
    for turn in range(1000):
        for name in (*names[turn % len(names) :], *names[: turn % len(names)]):
            found[name].append(_clocked(sides[name], calls[name], device))
        if turn >= 4 and time.perf_counter() - begun > seconds:
            break
    return found


def _clocked(call: Callable[[], Any], times: int, device: str) -> float:
    settle(device)
    begun = time.perf_counter()
    for _ in range(times):
        call()
    settle(device)
    return (time.perf_counter() - begun) / times


def ratio(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def same(name: str, got: list[Tensor], wanted: list[Tensor], dtype: torch.dtype) -> None:
    """Stop where a side computes something else."""
    for a, b in zip(got, wanted, strict=True):
        assert a.shape == b.shape, f"{name} makes {tuple(a.shape)}; ours is {tuple(b.shape)}"
        gap = float((a.double() - b.double()).abs().max() / b.double().abs().max())
        limit = 2e-5 if dtype == torch.float32 else 5e-2
        assert gap < limit, f"{name} differs by {gap:.1e} of the largest number in {dtype}"


def beside_others(kind: str, seconds: float, place: Place) -> list[dict[str, Any]]:
    """QKV and its peers at one kind of points."""
    rows: list[dict[str, Any]] = []
    for precision, dtype in PRECISIONS.items():
        layer, other = (place.build("QKV", dtype) for _ in range(2))
        sides = [Ours(layer), *peers(layer), Ours(other, prepared=False)]
        if kind == "decoding":
            for context in CONTEXTS:
                past, x = (place.draw(BATCH, tokens, D_MODEL, dtype=dtype) for tokens in (context, 1))
                # a cache made later lies better in memory, by 5-8 %: each side has one in either order
                one, other = ({side.name: side.decode(past) for side in order} for order in (sides, sides[::-1]))
                calls = {name: _in_turn([step, other[name]], x) for name, step in one.items() if step is not None}
                with torch.no_grad():
                    row = _row(f"decoding, {context} kept, {precision}", calls, dtype, seconds, place)
                rows.append({**row, "no cache": [name for name in one if name not in calls]})
            continue
        for batch, tokens in SHAPES:
            x = place.draw(batch, tokens, D_MODEL, dtype=dtype)
            for causal in (False, True):
                label = f"{kind}, {batch} x {tokens}, {'causal' if causal else 'full'}, {precision}"
                calls = {side.name: _bound(side.forward, x, causal) for side in sides}
                if kind == "learning":
                    given, along = x.clone().requires_grad_(), place.draw(batch, tokens, D_MODEL, dtype=dtype)
                    calls = {side.name: learning(side, given, causal, along) for side in sides}
                with torch.set_grad_enabled(kind == "learning"):
                    rows.append(_row(label, calls, dtype, seconds, place))
    return rows


def _bound(call: Callable[..., Any], *args: Any) -> Callable[[], Any]:
    return lambda: call(*args)


def _in_turn(steps: list[Callable[[Tensor], Tensor]], x: Tensor) -> Callable[[], Tensor]:
    order = itertools.cycle(steps)
    return lambda: next(order)(x)


def _row(
    label: str, calls: dict[str, Callable[[], Any]], dtype: torch.dtype, seconds: float, place: Place
) -> dict[str, Any]:
    wanted = _listed(calls["qkvlab"]())
    for name, call in calls.items():
        same(f"{label}: {name}", _listed(call()), wanted, dtype)
    found = turns(calls, seconds, place.device)
    best = min(
        (name for name in calls if not name.startswith("qkvlab")), key=lambda name: statistics.median(found[name])
    )
    ratios = {name: round(ratio(found["qkvlab"], found[name]), 3) for name in calls if name != "qkvlab"}
    row = {
        "point": label,
        "ms": {name: round(1000 * statistics.median(times), 3) for name, times in found.items()},
        "best peer": best,
        "ratio to best": ratios[best],
        "ratios": ratios,
        "rounds": len(found["qkvlab"]),
    }
    shown = "  ".join(f"{name} {ms:.3f}" for name, ms in row["ms"].items())
    print(f"{label:42s} {row['ratio to best']:.3f} of {best} | ms: {shown}", flush=True)
    return row


def _listed(made: Any) -> list[Tensor]:
    return made if isinstance(made, list) else [made]


def beside_qkv(seconds: float, place: Place) -> list[dict[str, Any]]:
    """Every cheaper design by QKV: time beside FLOPs, and decoding beside bytes."""
    designs = {}
    for name in ("QKV", *DESIGNS, *SHOWN_AS_THEY_ARE):
        try:
            designs[name] = parse(name)
        except BadInput:
            print(f"{name}: not a design of this version")
    rows = []
    for label, make, price in _situations(place):
        calls, costs = {}, {}
        for name, design in designs.items():
            layer = place.build(design, torch.float32)
            calls[name], costs[name] = make(layer), price(layer)
        found = turns(calls, seconds, place.device)
        print(f"{label}: QKV {1000 * statistics.median(found['QKV']):.3f} ms")
        for name in designs:
            if name == "QKV":
                continue
            time_ratio, cost_ratio = ratio(found[name], found["QKV"]), costs[name] / costs["QKV"]
            rows.append({
                "point": label, "design": name, "time ratio": round(time_ratio, 3), "cost ratio": round(cost_ratio, 3),
                "over": round(time_ratio - cost_ratio, 3), "ms": round(1000 * statistics.median(found[name]), 3),
            })  # fmt: skip
            print(f"    {name:14s} time {time_ratio:.3f}  cost {cost_ratio:.3f}  over {time_ratio - cost_ratio:+.3f}")
    return rows


def _situations(
    place: Place,
) -> list[tuple[str, Callable[[Attention], Callable[[], Any]], Callable[[Attention], float]]]:
    found = []
    for batch, tokens in SHAPES[:2]:
        x = place.draw(batch, tokens, D_MODEL, dtype=torch.float32)

        def forward(layer: Attention, x: Tensor = x) -> Callable[[], Any]:
            return _bound(torch.no_grad()(Ours(layer).forward), x, True)

        def learn(layer: Attention, x: Tensor = x) -> Callable[[], Any]:
            return learning(Ours(layer), x.clone().requires_grad_(), True, x)

        def flops(layer: Attention, tokens: int = tokens) -> float:
            return _flops(layer, tokens)

        found.append((f"forward, {batch} x {tokens}, causal, fp32, FLOPs", forward, flops))
        found.append((f"learning, {batch} x {tokens}, causal, fp32, FLOPs", learn, flops))
    past = place.draw(BATCH, CONTEXTS[-1], D_MODEL, dtype=torch.float32)

    def decode(layer: Attention) -> Callable[[], Any]:
        return _bound(torch.no_grad()(Ours(layer).decode(past)), past[:, :1].contiguous())

    found.append((f"decoding, {CONTEXTS[-1]} kept, fp32, bytes", decode, partial(_bytes, place=place)))
    return found


def _flops(layer: Attention, tokens: int) -> float:
    # of one sequence: all but the pairs that causality and the window hide, which the fast route need not make
    reach = layer.design.window or tokens
    hidden = tokens**2 - sum(min(i + 1, reach) for i in range(tokens))
    return cost(layer.design, layer.dims, tokens).forward_flops - hidden * work(layer.design, layer.dims).pair


def _bytes(layer: Attention, place: Place) -> float:
    # weights and what is read of the cache in one step
    one = cost(layer.design, layer.dims, CONTEXTS[-1], bytes_per_number=4)
    return one.read_weight_bytes + place.scale * BATCH * one.read_cache_bytes


def _summary(document: dict[str, Any]) -> None:
    points = [row for kind in POINTS[:3] for row in document.get(kind, [])]
    if points:
        over = [f"{row['point']} ({row['ratio to best']:.3f})" for row in points if row["ratio to best"] > 1.03]
        print(
            f"QKV is within 3 % of the best peer at {len(points) - len(over)} of {len(points)} points; not at:", *over
        )
    designs = document.get("designs", [])
    if designs:
        allowed = {True: 0.15, False: 0.10}
        over = [
            f"{row['design']}, {row['point']} ({row['over']:+.3f})"
            for row in designs
            if row["design"] not in SHOWN_AS_THEY_ARE and row["over"] > allowed[row["point"].startswith("decoding")]
        ]
        judged = sum(row["design"] not in SHOWN_AS_THEY_ARE for row in designs)
        print(f"designs cost what they should, within .10 (decoding .15), at {judged - len(over)} of {judged}; not:")
        print(*(f"    {line}" for line in over), sep="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", default=",".join(POINTS), help="some of: " + ", ".join(POINTS))
    parser.add_argument("--seconds", type=float, default=240, help="for all points together")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--scale", type=int, default=1, help="times the batch")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    wanted = [kind for kind in args.points.split(",") if kind]
    unknown = sorted(set(wanted) - set(POINTS))
    if unknown:
        parser.error(f"unknown points {', '.join(unknown)}; known: {', '.join(POINTS)}")
    # weights of a row of each kind; there are 12 of forward and of learning, 4 of decoding, 5 of designs
    shares = {"forward": 1.0, "learning": 2.0, "decoding": 1.0, "designs": 12.0}
    whole = sum({"forward": 12, "learning": 24, "decoding": 4, "designs": 60}[kind] for kind in wanted)
    begun = time.perf_counter()
    place = Place(args.device, args.scale)
    card = torch.cuda.get_device_name() if args.device == "cuda" else args.device
    document: dict[str, Any] = {**origin(), "device": card, "scale": args.scale, "d_model": D_MODEL, "heads": HEADS}
    for kind in wanted:
        seconds = args.seconds * shares[kind] / whole
        document[kind] = beside_qkv(seconds, place) if kind == "designs" else beside_others(kind, seconds, place)
    _summary(document)
    print(f"{time.perf_counter() - begun:.0f} s")
    if args.json:
        args.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
