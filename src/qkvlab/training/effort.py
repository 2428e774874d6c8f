"""How much longer one training step takes than another, and what it would take on a card that is not here.

On this machine two trials measured one design of each task, alone and in a group: what a step takes to be started, and
what its work takes. On a card nothing is measured; its peaks are published numbers, and what small models reach of
them is what they reached on another card.
"""

from __future__ import annotations

from dataclasses import dataclass

from qkvlab.designs import Design
from qkvlab.errors import unknown
from qkvlab.tasks.network import Network
from qkvlab.training.memory import SINGLE, step_numbers

FLOPS_PER_BYTE = 50.0
"""What it takes a CPU to handle a byte that a step keeps, in FLOPs: 25 fits the designs of the recorded study best, 25
to 100 the widths of `benchmarks/scaling.py`."""

REACHED_FLOPS, REACHED_BYTES = 0.6, 0.8
"""Shares of the published peaks that batched products of a few dozen rows and passes over memory are taken to reach."""
LAUNCH = 3e-6
"""Seconds that a kernel is taken to wait for the one before it, in steps that a card repeats by itself (`recorded`).
All three were chosen by nine groups on one H200 (`benchmarks/card.py`): they give the rates of eight within 16 %, of
the ninth within 39 %."""
KERNELS, KERNELS_PER_LAYER = 110, 100
"""Of one step, as PyTorch's dispatcher counted them for the models here: 208, 305 and 499 in 1, 2 and 4 layers."""
PASSES, STATE_PASSES = 5, 12
"""How often a number that a step keeps is written or read, and one that is trained: gradient, clipping and AdamW."""


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """Published peaks of a card.

    Attributes:
        name: as its maker calls it.
        flops: per second in float32 without tensor cores, which PyTorch leaves aside in float32 unless told.
        bandwidth: bytes per second.
        memory: bytes.
    """

    name: str
    flops: float
    bandwidth: float
    memory: float


GPUS = {
    "h200": Gpu(name="NVIDIA H200 SXM", flops=67e12, bandwidth=4.8e12, memory=141e9),
    "h100": Gpu(name="NVIDIA H100 SXM", flops=67e12, bandwidth=3.35e12, memory=80e9),
    "a100": Gpu(name="NVIDIA A100 SXM 80 GB", flops=19.5e12, bandwidth=2.039e12, memory=80e9),
    "l40s": Gpu(name="NVIDIA L40S", flops=91.6e12, bandwidth=0.864e12, memory=48e9),
    "rtx4090": Gpu(name="NVIDIA GeForce RTX 4090", flops=82.6e12, bandwidth=1.008e12, memory=24e9),
    "v100": Gpu(name="NVIDIA V100 SXM2", flops=15.7e12, bandwidth=0.9e12, memory=32e9),
    "l4": Gpu(name="NVIDIA L4", flops=30.3e12, bandwidth=0.3e12, memory=24e9),
    "t4": Gpu(name="NVIDIA T4", flops=8.1e12, bandwidth=0.32e12, memory=16e9),
}
"""From the makers' data sheets, non-tensor float32 and the largest memory of the model named."""


def gpu(name: str) -> Gpu:
    """Return a card of the table.

    Raises:
        BadInput: there is none of this name; all known ones are listed.
    """
    found = GPUS.get(name.lower())
    if found is None:
        raise unknown("GPU", name, GPUS)
    return found


def work(network: Network, design: Design) -> float:
    """Return the work of one model-step in FLOPs, bytes that it keeps counted in; only ratios mean anything."""
    kept = step_numbers(network, design)
    return network.step(design).both + FLOPS_PER_BYTE * SINGLE * (kept.width + kept.scores + kept.logits)


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast one worker of this machine is.

    Attributes:
        kernel: seconds that starting a kernel takes, however many models it serves.
        per_work: seconds of a unit of work.
    """

    kernel: float
    per_work: float

    @classmethod
    def of(cls, network: Network, design: Design, *, one: float, many: float, models: int) -> Pace:
        """Find the pace from the seconds of a step of one model and of a group.

        Where noise has it that a group is slower than its models one by one, starting is taken for free.
        """
        starting = max(0.0, (models * one - many) / (models - 1)) if models > 1 else 0.0
        starting = min(starting, 0.95 * min(one, many))
        return cls(kernel=starting / kernels(network), per_work=(many - starting) / (models * work(network, design)))

    def step(self, network: Network, design: Design, models: int) -> float:
        """Predict the seconds of one step of a group."""
        return self.kernel * kernels(network) + self.per_work * models * work(network, design)


def kernels(network: Network) -> int:
    """Return about how many kernels a step starts."""
    return KERNELS + KERNELS_PER_LAYER * network.layers


def seconds_on(card: Gpu, network: Network, design: Design, group: int) -> float:
    """Extrapolate the seconds of one step of one model in a group: products, passes, and kernels that wait."""
    kept = step_numbers(network, design)
    moved = PASSES * (kept.width + kept.scores + kept.logits) + STATE_PASSES * network.trained(design)
    busy = network.step(design).both / (card.flops * REACHED_FLOPS) + moved * SINGLE / (card.bandwidth * REACHED_BYTES)
    return busy + kernels(network) * LAUNCH / group
