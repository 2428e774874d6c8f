"""What a worker does, wherever it runs: begin, train a group that was ordered, measure, answer in plain data."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qkvlab.training.device import settle
from qkvlab.training.faults import OutOfMemory, is_of_memory
from qkvlab.training.halving import Contest

if TYPE_CHECKING:
    from qkvlab.contracts import Products
    from qkvlab.training.together import Together


@dataclass(frozen=True)
class Order:
    """One group to train: models of one design on one setting.

    Attributes:
        task: name.
        setting: of the task.
        design: name.
        runs: (seed, learning rate) of each model.
        keep: places in ``runs`` whose weights are wanted back.
        device: where to train.
        text: a file that the task reads instead of its own data.
        unit: models of one compiled program; 0 for steps that are not compiled, of all models at once.
        program: the design whose program it is, one that can hold the weights of these models; empty for their own.
        products: precision of matrix products in training, see `steps`.
        contest: how hopeless rates stop, where rates are tuned; None where all train to their end.
        at_once: of a contest, the models of one program that is not compiled.
    """

    task: str
    setting: str
    design: str
    runs: tuple[tuple[int, float], ...]
    keep: tuple[int, ...] = ()
    device: str = "cpu"
    text: Path | None = None
    unit: int = 0
    program: str = ""
    products: Products = "fp32"
    contest: Contest | None = None
    at_once: int = 1


@dataclass(frozen=True)
class Speed:
    """How fast a group is trained.

    Attributes:
        rate: model-steps per second, over all processes that were measured.
        cost: seconds of work for a model-step, see `_work`; of the process that needed most.
        ready: seconds of work until the first step was done, compiling included; of the process that needed most.
        remark: why steps were not compiled although the order says so; empty otherwise.
    """

    rate: float
    cost: float = 0.0
    ready: float = 0.0
    remark: str = ""


@dataclass(frozen=True)
class Delivery:
    """What a worker sends back: plain data, one entry per run.

    Attributes:
        losses: training losses.
        metrics: as `Task.measure` names them.
        diverged: whether a loss or weight stopped being finite.
        steps: that were taken.
        weights: for every place that was to be kept, its parameters by name.
        seconds: wall time of the group, without compiling.
        models: in one program.
        versions: of python, torch and numpy in the worker; ``compiled`` is the design whose program took the steps.
        remark: why steps were not compiled although the order says so; empty otherwise.
    """

    losses: list[tuple[float, ...]]
    metrics: list[dict[str, float]]
    diverged: list[bool]
    steps: list[int]
    seconds: float
    models: int
    weights: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    remark: str = ""


def train(order: Order) -> Delivery:
    """Train one group in this process."""
    import torch

    from qkvlab import designs, tasks
    from qkvlab.training.recipe import Run
    from qkvlab.training.together import Compiled, train_compiled, train_together
    from qkvlab.training.tuning import train_rates

    begun = time.perf_counter()
    what = tasks.find(order.task, order.text), order.setting, designs.parse(order.design), [Run(*r) for r in order.runs]
    device, products, unit = order.device, order.products, order.unit
    host = designs.parse(order.program or order.design) if unit else None
    if order.contest is not None:
        made = train_rates(
            *what, contest=order.contest, size=unit or order.at_once, compile=bool(unit), host=host,
            device=device, products=products,
        )  # fmt: skip
    elif unit:
        made = train_compiled(*what, unit=unit, host=host, device=device, products=products)
    else:
        made = Compiled(train_together(*what, device=device, products=products), 0.0, "")
    trained = made.trained
    return Delivery(
        losses=[t.losses for t in trained],
        metrics=[t.metrics for t in trained],
        diverged=[t.diverged for t in trained],
        steps=[t.steps for t in trained],
        seconds=time.perf_counter() - begun - made.compiling,
        models=order.unit or (len(trained) if order.contest is None else min(order.at_once, len(trained))),
        weights={i: {n: w.numpy() for n, w in trained[i].state.items()} for i in order.keep},
        versions={
            "python": sys.version.split()[0],
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            **({"compiled": order.program or order.design} if order.unit and not made.remark else {}),
        },
        remark=made.remark,
    )


def begin(threads: int, device: str) -> None:
    """Make this process a worker.

    Args:
        threads: of PyTorch.
        device: that ``cuda`` means here.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the coordinator's to handle
    # a worker compiles by itself: helpers of its own would outlive it when it is killed
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    import torch

    torch.set_num_threads(threads)
    if device.startswith("cuda:"):
        torch.cuda.set_device(device)


def ready() -> None:
    """Do nothing: who can be called has begun."""


def answer(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[bool, Any]:
    """Call a function; return (True, what it returned) or (False, what it raised), both ready to be sent."""
    try:
        return True, function(*arguments)
    except Exception as error:
        if is_of_memory(error):
            return False, OutOfMemory((str(error).splitlines() or ["no room left"])[0][:200])
        error.add_note("".join(traceback.format_exception(error)))
        try:
            return False, pickle.loads(pickle.dumps(error))
        except Exception:  # of a class that cannot travel
            return False, RuntimeError("\n".join(error.__notes__))


_warm: tuple[Together, float, int] | None = None
"""The group of a trial, its seconds until the first step, and the threads that there were; set by `warm_up`."""


def warm_up(order: Order, threads: int) -> None:
    """Make a group ready to be measured on so many threads; compiling may take a while."""
    import torch

    from qkvlab import designs, tasks
    from qkvlab.training.recipe import Run
    from qkvlab.training.together import Together

    global _warm
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    begun = _work(order.device)
    runs = [Run(*run) for run in order.runs]
    task, design = tasks.find(order.task, order.text), designs.parse(order.design)
    group = Together(
        task, order.setting, design, runs, device=order.device, compile=bool(order.unit), products=order.products
    )
    group.step()
    taken = _work(order.device) - begun
    for _ in range(2):
        group.step()
    _warm = group, taken, before


def measure(seconds: float) -> Speed:
    """Train the group of `warm_up` for some seconds and say how fast that was."""
    import torch

    global _warm
    assert _warm is not None, "warm_up comes first"
    (group, ready, before), _warm = _warm, None
    work, begun, steps = _work(group.device), time.perf_counter(), 0
    while not steps or (steps + 3 < group.total and time.perf_counter() - begun < seconds):
        group.step()
        steps += 1
    count = steps * len(group.runs)
    cost = (_work(group.device) - work) / count
    rate = count / (time.perf_counter() - begun)
    torch.set_num_threads(before)
    return Speed(rate, cost, ready, group.remark)


def _work(device: str) -> float:
    """Seconds of the processors, children (a compiler) included, which others' work hardly moves; else of the clock."""
    settle(device)
    return sum(os.times()[:4]) if device == "cpu" else time.perf_counter()
