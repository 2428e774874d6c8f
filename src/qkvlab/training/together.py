"""Many models as one batched program: `torch.func.vmap` over stacked weights of ordinary modules.

The models of a group share design, task and setting and differ in seed and learning rate. Clipping and AdamW act on
the stacked weights; no number of one model enters another, so one that diverges disturbs nobody.

    m model    all stacked tensors lead with it
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, vmap

from qkvlab.contracts import Products
from qkvlab.designs import Design
from qkvlab.tasks import Task
from qkvlab.training import recipe
from qkvlab.training.adamw import StackedAdamW
from qkvlab.training.laid import Given, Laid
from qkvlab.training.recipe import Run, Trained
from qkvlab.training.recorded import Recorded
from qkvlab.training.steps import CannotCompile, Stack, Step, compiled, own_kernel, plain

_programs: dict[tuple[Any, ...], Step | CannotCompile] = {}
"""What this process has compiled or laid into what it has compiled, or could not."""


class Together:
    """A group of models under training; `step` moves all of them, `finish` examines them.

    Args:
        task: what is learned.
        setting: of the task.
        design: of every model.
        runs: seeds and rates, one model each.
        device: where to compute.
        compile: whether steps are compiled; a process compiles once for each design, setting and number of models.
        host: whose program takes the compiled steps, a `designs.laying.host`; the design's own unless given.
        products: precision of matrix products in training; exams are in fp32.

    Attributes:
        remark: why steps are not compiled although they should be; empty otherwise.
        compiling: seconds that this took.
    """

    def __init__(
        self,
        task: Task,
        setting: str,
        design: Design,
        runs: Sequence[Run],
        *,
        device: str = "cpu",
        compile: bool = False,
        host: Design | None = None,
        products: Products = "fp32",
    ) -> None:
        self.task, self.setting, self.runs, self.device = task, setting, runs, device
        self.products: Products = products
        self.skeleton = task.model(setting, design).to("meta")
        starts = {run.seed: recipe.start(task, setting, design, run.seed).state_dict() for run in runs}
        stacked = {
            name: torch.stack([starts[run.seed][name] for run in runs]).to(device)
            for name, _ in self.skeleton.named_parameters()
        }
        trained = {name for name, p in self.skeleton.named_parameters() if p.requires_grad}
        self.weights = {name: w for name, w in stacked.items() if name in trained}
        self.fixed = {name: w for name, w in stacked.items() if name not in trained}
        self.total = task.steps(setting)
        self.optimiser = StackedAdamW(self.weights, [run.lr for run in runs])
        self.inputs, self.targets = _on_device(runs, [task.batches(setting, s) for s in _seeds(runs)], device)
        self.losses: list[Tensor] = []
        self.take, self.remark, self.compiling = plain(self.skeleton, products), "", 0.0
        if compile:
            self._compile(design, host or design)
        self.stand()
        self.before = task.before(setting, [run.seed for run in runs], self._call)

    def stand(self) -> None:
        """Make the next step one of the weights, data and optimiser that are there now."""
        self._move = Recorded(self._moved) if self.optimiser.on_cuda else self._moved

    def step(self) -> None:
        """Take one optimiser step with every model, on its own batch."""
        i = len(self.losses)
        self.optimiser.scale(recipe.schedule(i, self.total))
        self.losses.append(self._move(self.targets[i], *(a[i] for a in self.inputs)))

    def finish(self) -> list[Trained]:
        """Examine the models on held-out data: one `Trained` per run, in order."""
        self.stand()  # what a recorded step keeps for itself, the exam needs
        after = self.task.measure(self.setting, [run.seed for run in self.runs], self._call)
        metrics = [{**old, **new} for old, new in zip(self.before, after, strict=True)]
        curves = self.curves(recipe.stretch(len(self.losses)))
        return [self.as_trained(i, curves[i], metrics[i]) for i in range(len(self.runs))]

    def curves(self, stretch: int) -> list[list[float]]:
        """Return the losses so far of every model, means over stretches of so many steps."""
        losses = torch.stack(self.losses) if self.losses else torch.zeros(0, len(self.runs))
        return recipe.stretches(losses, stretch)

    def as_trained(self, i: int, curve: Sequence[float], metrics: dict[str, float]) -> Trained:
        """Return a model as it is now, with the numbers that are said of it."""
        every = {**self.weights, **self.fixed}
        # means over stretches of losses are finite where all of these are
        finite = all(map(math.isfinite, curve)) and all(torch.isfinite(w[i]).all() for w in every.values())
        state = {name: w[i].cpu().clone() for name, w in every.items()}
        return Trained(tuple(curve), metrics, not finite, state, len(self.losses))

    def _moved(self, targets: Tensor, *inputs: Tensor) -> Tensor:
        gradients, losses = self.take(self.weights, self.fixed, targets, *inputs)
        self.optimiser.step(gradients)
        return losses

    def _given(self, i: int) -> Given:
        return self.weights, self.fixed, self.targets[i], *(a[i] for a in self.inputs)

    def _compile(self, design: Design, host: Design) -> None:
        # facts are what a setting registers: they fix every size of its models
        facts = json.dumps(self.task.facts(self.setting), sort_keys=True)
        key = (self.task.name, self.setting, facts, len(self.runs), self.device, self.products, host.name)
        begun = time.perf_counter()
        try:
            if host == design:
                step = plain(own_kernel(self.skeleton), self.products)
                self.take = _once(key, lambda: compiled(step, *self._given(0)))
            else:
                self.take = _once((*key, design.name), lambda: self._laid(key, host))
        except CannotCompile as error:
            self.remark = str(error)
        self.compiling = time.perf_counter() - begun

    def _laid(self, key: tuple[Any, ...], host: Design) -> Step:
        model = self.task.model(self.setting, host).to("meta")
        laid, given = Laid(self.skeleton, model, self.weights, self.fixed), self._given(0)
        laid.require_equal(plain(self.skeleton), plain(model), *given)
        step = plain(own_kernel(model), self.products)
        return laid.step(_once(key, lambda: compiled(step, *laid.given(*given))))

    def _call(self, method: str, *arrays: np.ndarray) -> np.ndarray:
        module = _Method(self.skeleton, method)

        def one(state: Stack, *given: Tensor) -> Tensor:
            return functional_call(module, {f"model.{name}": w for name, w in state.items()}, given)

        tensors = [torch.from_numpy(a).to(self.device) for a in arrays]
        with torch.no_grad():
            return vmap(one)({**self.weights, **self.fixed}, *tensors).cpu().numpy()


def train_together(
    task: Task,
    setting: str,
    design: Design,
    runs: Sequence[Run],
    *,
    steps: int | None = None,
    device: str = "cpu",
    products: Products = "fp32",
) -> list[Trained]:
    """Train all runs as one program; arguments as `Together`, ``steps`` stops before the schedule ends."""
    return _trained(Together(task, setting, design, runs, device=device, products=products), steps)


@dataclass(frozen=True)
class Compiled:
    """What training by compiled steps gave.

    Attributes:
        trained: one per run.
        compiling: seconds that were spent on compiling.
        remark: why steps were not compiled; empty when they were.
    """

    trained: list[Trained]
    compiling: float
    remark: str


def train_compiled(
    task: Task,
    setting: str,
    design: Design,
    runs: Sequence[Run],
    *,
    unit: int,
    host: Design | None = None,
    steps: int | None = None,
    device: str = "cpu",
    products: Products = "fp32",
) -> Compiled:
    """Train runs by compiled steps; arguments as `train_together`.

    Args:
        unit: models of the program. One unit is trained after the other; the last is filled up with copies of its last
            run, since a program of another size would have to be compiled for it.
        host: see `Together`.
    """
    trained: list[Trained] = []
    seconds, remark = 0.0, ""
    for begin in range(0, len(runs), unit):
        part = list(runs[begin : begin + unit])
        full = part + [part[-1]] * (unit - len(part))
        group = Together(task, setting, design, full, device=device, compile=True, host=host, products=products)
        trained += _trained(group, steps)[: len(part)]
        seconds, remark = seconds + group.compiling, group.remark
    return Compiled(trained, seconds, remark)


def _trained(group: Together, steps: int | None) -> list[Trained]:
    for _ in range(group.total if steps is None else steps):
        group.step()
    return group.finish()


def _once(key: tuple[Any, ...], make: Callable[[], Step]) -> Step:
    """Return what was made under a key before, or could not be, or make it."""
    if key not in _programs:
        try:
            _programs[key] = make()
        except CannotCompile as error:
            _programs[key] = error
    found = _programs[key]
    if isinstance(found, CannotCompile):
        raise found
    return found


class _Method(torch.nn.Module):
    # functional_call runs forward only; this lends it another method of the model
    def __init__(self, model: torch.nn.Module, method: str) -> None:
        super().__init__()
        self.model = model
        self.method = method

    def forward(self, *inputs: Tensor) -> Tensor:
        return getattr(self.model, self.method)(*inputs)


def _seeds(runs: Sequence[Run]) -> list[int]:
    return sorted({run.seed for run in runs})


def _on_device(runs: Sequence[Run], data: Sequence, device: str) -> tuple[list[Tensor], Tensor]:
    # data are made once per seed; rates of one seed look at the same rows: (steps, m, batch, ...)
    place = {seed: i for i, seed in enumerate(_seeds(runs))}
    index = torch.tensor([place[run.seed] for run in runs])

    def stack(arrays: list[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack(arrays, axis=1)).to(device)[:, index]

    inputs = [stack([d.inputs[i] for d in data]) for i in range(len(data[0].inputs))]
    return inputs, stack([d.targets for d in data])
