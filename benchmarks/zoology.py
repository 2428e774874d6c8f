"""How fast is Zoology's MQAR trained here, by its own loop and by the engine, and how well is it learned?

    git clone https://github.com/HazyResearch/zoology ~/zoology
    git -C ~/zoology checkout dbcb60d2bd10a3cc7a89ee60c446c44900a4687f
    python -m pip install einops pandas tqdm
    python benchmarks/zoology.py --zoology ~/zoology --json FILE
    python benchmarks/zoology.py --zoology ~/zoology --json FILE --accuracy 4

The first should take about five minutes of two quiet cores. The configuration is that of figure 2 of "Zoology" (arXiv
2312.04927) for attention, 64 tokens and d_model 64: 4 pairs over 8192 words, all other places hold word 0, two layers
with one head and no feed-forward part, 512 sequences a step, four rates. (Its next commit, d88d6f5, gives the loss
vectors instead of logits and fails at the first step.)

as_is      its Trainer on its model and its data (`zoology_loop`); all cores as threads, one model after the other
asked      the same with logits at questions alone: the same loss and gradients from a sixteenth of the logits
undropped  and without its dropout, which models here do not have
plain      the engine: the models of a seed at all rates as one program, in as many processes as there are cores
compiled   the same by compiled steps

All are measured in turn in every repeat; medians. The engine trains a model of the same outline on the examples that
Zoology drew (`zoology_task`): learned vectors of words that give the logits too, learned places, two causal layers with
one head. What differs: norms have no gains and layers no biases; no dropout; warm-up, a cosine by step instead of by
epoch, clipping, weight decay .01 instead of .1; and larger starts of matrices.

``sweep`` says what its rates times some seeds take, everything counted: compiling, and exams (its loop has one after
every epoch, the engine one at the end). With ``--accuracy EPOCHS`` both sides are trained on all examples so often: the
first seed chooses a rate for each side, the others are judged. Zoology's models are then trained by ``asked``. That is
long: a quarter of an hour for each epoch, with two quiet cores and four seeds, is a prediction that nobody has tried.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import zoology_loop as loop
from origin import origin
from qkvlab import designs
from qkvlab.training.layout import UNIT, cores
from qkvlab.training.recipe import Run
from qkvlab.training.together import Together, train_compiled
from zoology_task import SETTING, Zoology, keep

TURN = 3
"""Steps of an epoch of its loop where it is timed; the first epoch is not counted."""
LONG = 100
"""Epochs of so few steps that the engine may take when it is timed."""
EPOCHS = 4
"""Of the sweep, unless accuracy is measured."""


@dataclass(frozen=True)
class Sizes:
    """Numbers of sequences.

    Attributes:
        batch: of a step.
        examples: of an epoch; its 100,000 in whole steps.
        exam: held-out ones.
    """

    batch: int = 512
    examples: int = 195 * 512
    exam: int = 3000

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return self.examples // self.batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoology", type=Path, required=True, help="a checkout of it")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement of the engine")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--accuracy", type=int, default=0, metavar="EPOCHS", help="train both sides for so many")
    parser.add_argument("--batch", type=int, default=Sizes.batch, help="fewer than Zoology's for a quick look")
    parser.add_argument("--examples", type=int, default=Sizes.examples, help="of an epoch, likewise")
    parser.add_argument("--exam", type=int, default=Sizes.exam, help="held-out examples, likewise")
    parser.add_argument("--seeds", type=int, default=4, help="of the sweep; the first chooses rates")
    parser.add_argument("--group", type=int, default=UNIT, help="models of one program of the engine, at most 4")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    sizes = Sizes(args.batch, args.examples, args.exam)
    configurations = loop.configurations(args.zoology)
    rates = [config.learning_rate for config in configurations]
    torch.set_num_threads(cores())
    facts = {**origin(), "rates": rates}
    document: dict[str, Any] = {
        **facts,
        "zoology": loop.COMMIT,
        "epochs": args.accuracy or EPOCHS,
        "seeds": args.seeds,
        "group": args.group,
        **vars(sizes),
    }
    with tempfile.TemporaryDirectory() as folder:
        few, whole = Path(folder) / "few.npz", Path(folder) / "whole.npz"
        with workers() as pool:
            document["speed"] = speed(
                configurations[0], rates[: args.group], sizes, args.seconds, args.repeats, few, pool
            )
        document["sweep"] = sweep(document["speed"], sizes, len(rates) * args.seeds, document["epochs"])
        print(json.dumps(document, indent=1), flush=True)
        if args.accuracy:
            keep(whole, *loop.loaders(loop.sized(configurations[0], **vars(sizes), cache=folder)))
            document["accuracy"] = accuracy(args.zoology, whole, rates, args.group, sizes, args.accuracy, args.seeds)
            print(json.dumps(document["accuracy"], indent=1))
    if args.json:
        args.json.write_text(json.dumps(document, indent=1) + "\n")


@contextmanager
def workers() -> Iterator[ProcessPoolExecutor]:
    """Give as many single-threaded processes as there are cores, which find nothing that was compiled before."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(cores())
    with (
        tempfile.TemporaryDirectory() as cache,
        ProcessPoolExecutor(cores(), mp_context=context, initializer=_begin, initargs=(barrier, cache)) as pool,
    ):
        yield pool


def speed(
    config: Any, rates: list[float], sizes: Sizes, seconds: float, repeats: int, file: Path, pool: ProcessPoolExecutor
) -> dict[str, Any]:
    """Measure all ways in turn, `repeats` times; rates are model-steps per second of the whole machine."""
    few = Sizes(sizes.batch, TURN * sizes.batch, min(sizes.batch, sizes.exam))
    loops = {
        name: (loop.sized(config, **vars(few), epochs=epochs, dropout=dropout), asked)
        for name, epochs, asked, dropout in (
            ("as_is", 2, False, True),
            ("asked", 6, True, True),
            ("undropped", 6, True, False),
        )
    }
    data = loop.loaders(loops["as_is"][0])
    keep(file, *data)
    found: dict[str, list[float]] = {}
    tests, exams, ready, apart = [], [], 0.0, 0.0
    for _ in range(repeats):
        losses = {}
        for name, (sized, asked) in loops.items():
            followed = loop.trained(sized, data, 0, asked=asked)
            losses[name] = followed.losses
            found.setdefault(name, []).append(TURN / statistics.median(followed.epochs[1:]))
            tests += followed.tests[1:]
        # of the first epoch: rates of later ones depend on how many epochs there are
        first = zip(losses["as_is"][:TURN], losses["asked"][:TURN], strict=True)
        apart = max(apart, *(abs(a - b) for a, b in first))
        for name in ("plain", "compiled"):
            orders = [pool.submit(engine, str(file), rates, few, name == "compiled", seconds) for _ in range(cores())]
            done = [order.result() for order in orders]
            found.setdefault(name, []).append(sum(rate for rate, _, _ in done))
            exams += [exam for _, _, exam in done]
            ready = max(ready, *(compiling for _, compiling, _ in done))
    middle = {name: statistics.median(values) for name, values in found.items()}
    return {
        "model_steps_per_second": {name: round(value, 3) for name, value in middle.items()},
        "all": {name: [round(value, 3) for value in values] for name, values in found.items()},
        "by_as_is": {name: round(value / middle["as_is"], 2) for name, value in middle.items()},
        "by_asked": {name: round(value / middle["asked"], 2) for name, value in middle.items()},
        "asked_is_as_is_within": apart,
        "compiling_seconds": round(ready, 1),
        "test_seconds": round(sizes.exam / few.exam * statistics.median(tests), 2),
        "exam_seconds": round(sizes.exam / few.exam * statistics.median(exams) / cores(), 2),
    }


def sweep(speed: dict[str, Any], sizes: Sizes, trainings: int, epochs: int) -> dict[str, Any]:
    """Say what a sweep takes each side, everything counted, from what was measured."""
    steps, rate = sizes.steps, speed["model_steps_per_second"]
    hours = {
        name: trainings * epochs * (steps / rate[name] + speed["test_seconds"]) / 3600
        for name in ("as_is", "asked", "undropped")
    }
    for name in ("plain", "compiled"):
        ready = speed["compiling_seconds"] if name == "compiled" else 0.0
        hours[name] = (trainings * (epochs * steps / rate[name] + speed["exam_seconds"]) + ready) / 3600
    times = {name: round(hours["as_is"] / value, 2) for name, value in hours.items()}
    return {"trainings": trainings, "hours": {name: round(h, 3) for name, h in hours.items()}, "as_is_by": times}


def engine(file: str, rates: list[float], few: Sizes, compile: bool, seconds: float) -> tuple[float, float, float]:
    """Return model-steps per second of one process while all work, seconds of compiling, and of a model's exam."""
    task = Zoology(drawn=file, epochs=LONG, batch=few.batch, exam=few.exam)
    group = Together(task, SETTING, designs.parse("QKV"), [Run(0, rate) for rate in rates], compile=compile)
    if group.remark:
        raise SystemExit(group.remark)
    group.step()
    _together.wait(timeout=600)
    begun, done = time.perf_counter(), 0
    while done + 1 < group.total and time.perf_counter() - begun < seconds:
        group.step()
        done += 1
    rate = len(rates) * done / (time.perf_counter() - begun)
    begun = time.perf_counter()
    group.finish()
    return rate, group.compiling, (time.perf_counter() - begun) / len(rates)


def accuracy(
    checkout: Path, file: Path, rates: list[float], group: int, sizes: Sizes, epochs: int, seeds: int
) -> dict[str, Any]:
    """Train both sides on all examples; the first seed chooses a rate for each side, the others judge."""
    begun = time.perf_counter()
    with workers() as pool:  # fresh ones, so that compiling counts
        orders = [pool.submit(learned, str(file), rates, group, sizes, seed, epochs) for seed in range(seeds)]
        ours = np.array([order.result() for order in orders])
    minutes = (time.perf_counter() - begun) / 60
    best = int(np.nanargmax(ours[0]))
    with workers() as pool:

        def theirs(wanted: list[tuple[int, int]]) -> list[list[float]]:
            orders = [pool.submit(followed, checkout, file.parent, sizes, *one, epochs) for one in wanted]
            return [order.result() for order in orders]

        first = theirs([(place, 0) for place in range(len(rates))])
        chosen = max(range(len(rates)), key=lambda place: first[place][-1])
        judged = theirs([(chosen, seed) for seed in range(1, seeds)])
    return {
        "engine": {
            "minutes_of_the_whole_sweep": round(minutes, 2),
            "first_seed": ours[0].tolist(),
            "rate": rates[best],
            "judged": ours[1:, best].tolist(),
            "all": ours.tolist(),
        },
        "zoology": {
            "first_seed": first,
            "rate": rates[chosen],
            "judged": judged,
        },
    }


def learned(file: str, rates: list[float], group: int, sizes: Sizes, seed: int, epochs: int) -> list[float]:
    """Train a seed at all rates by compiled steps; return accuracies."""
    runs = [Run(seed, rate) for rate in rates]
    task = Zoology(drawn=file, epochs=epochs, batch=sizes.batch, exam=sizes.exam)
    made = train_compiled(task, SETTING, designs.parse("QKV"), runs, unit=group)
    return [1 - trained.metrics["error"] for trained in made.trained]


def followed(checkout: Path, cache: Path, sizes: Sizes, place: int, seed: int, epochs: int) -> list[float]:
    """Train one of its models by its loop, logits at questions alone; return accuracies after each epoch."""
    config = loop.configurations(checkout)[place]
    config = loop.sized(config, **vars(sizes), epochs=epochs, cache=cache)
    return loop.trained(config, loop.loaders(config), seed, asked=True).accuracies


_together: Any = None  # a barrier of all processes, set in each


def _begin(barrier: Any, cache: str) -> None:
    global _together
    _together = barrier
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # as the workers of a study
    torch.set_num_threads(1)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache  # what compiling takes is measured, not what reading takes


if __name__ == "__main__":
    main()
