"""Peak memory of a worker that trains a group, from sizes alone: what is held, what a step keeps, what an exam takes.

The counts of numbers per token, score and logit were measured once on live tensors of a step (torch 2.13, plain route,
under vmap) and hold for every size; `benchmarks/scaling.py` holds the sum against real workers. On the CPU, glibc gives
back at once only what was larger than 32 MiB in one piece. Smaller pieces stay: what is as wide as the model is used
again by the exam, whose scores and logits are larger pieces and find no room there.
"""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass
from pathlib import Path

from qkvlab.designs import Design
from qkvlab.tasks.network import Network

SINGLE, WHOLE = 4, 8
"""Bytes of a number in float32, and of a whole number."""
KEPT_BY_MALLOC = 32 * 2**20
"""The largest piece that glibc may keep when it is freed (M_MMAP_THRESHOLD's own limit)."""

# of a training step, per sequence: numbers for each channel of d_model, hidden channel, score and logit
FULL, HIDDEN, SCORES, LOGITS = 20, 4, 3, 4
"""Of each token in a layer where all ask."""
REMEMBERED, ASKING = 8, 12
"""Of each token in a layer where some ask only: of those that are remembered, and of those that ask."""
ENDS = 14
"""Of each token outside the layers, where anything there learns."""
# of an exam, without gradients
LOOK_FULL, LOOK_ACROSS, LOOK_HIDDEN, LOOK_SCORES, LOOK_LOGITS = 14, 3, 2, 3, 2.25
TRACED_SCORES = 5
WORKSPACE = 128 * 2**20
"""Of a recorded step on a CUDA card, for its libraries: what small groups on one H200 took beside their tensors."""
DRAWN = 2
"""Copies of the data that drawing them leaves behind, beside the data themselves."""


@dataclass(frozen=True, kw_only=True)
class Kinds:
    """Numbers of one model, by the kind of tensor they stand in.

    Attributes:
        width: as wide as the model: vectors, queries, keys, values, feed-forward channels.
        scores: of queries with keys, and weights.
        logits: of answers.
        largest: numbers of the largest single tensor of scores, and of logits.
    """

    width: float
    scores: float
    logits: float
    largest: tuple[int, int] = (0, 0)


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Peak memory of one worker in bytes, by what it holds.

    Attributes:
        base: interpreter, PyTorch and what they load.
        weights: trained or not, of all models.
        gradients: of what is trained.
        moments: both of AdamW.
        data: batches of all steps, and what drawing them leaves behind.
        activations: kept of a step for its gradients.
        exam: what examining takes beside all that.
    """

    base: int
    weights: int
    gradients: int
    moments: int
    data: int
    activations: int
    exam: int

    @property
    def total(self) -> int:
        """Everything together."""
        return sum(vars(self).values())


def step_numbers(network: Network, design: Design) -> Kinds:
    """Count what one training step of one model keeps until its gradients are made."""
    d, heads, asked = _sizes(network, design)
    width, scores = float(ENDS * d * network.tokens * network.x_learns), 0.0
    for layer in range(network.layers):
        if network.asked is None or layer < network.layers - 1:
            width += (FULL * d + HIDDEN * network.hidden) * network.tokens
            scores += SCORES * heads * network.tokens**2
        else:
            width += REMEMBERED * d * network.tokens + (ASKING * d + HIDDEN * network.hidden) * asked
            scores += SCORES * heads * network.tokens * asked
    one = heads * network.tokens * (network.tokens if network.layers > 1 else asked)
    logits = asked * network.classes
    return Kinds(
        width=width * network.batch,
        scores=scores * network.batch,
        logits=float(LOGITS * logits * network.batch),
        largest=(one * network.batch, logits * network.batch),
    )


def exam_numbers(network: Network, design: Design) -> Kinds:
    """Count what examining one model takes at once."""
    d, heads, asked = _sizes(network, design)
    full = network.asked is None or network.layers > 1
    asking = network.tokens if full else asked
    per_token = (LOOK_FULL if full else LOOK_ACROSS) * d
    width = per_token * (network.tokens + (0 if full else asked)) + LOOK_HIDDEN * network.hidden * asking
    pairs = heads * network.tokens * asking
    return Kinds(
        width=float(width * max(network.exam, network.traced)),
        scores=float(pairs * max(LOOK_SCORES * network.exam, TRACED_SCORES * network.traced)),
        logits=LOOK_LOGITS * asked * network.classes * network.exam,
    )


def of_worker(
    network: Network, design: Design, *, steps: int, group: int, base: int, held: int | None = None
) -> Memory:
    """Predict the peak memory of a worker that trains a group of models with different seeds.

    Args:
        network: sizes of the model and of its data.
        design: of all models.
        steps: optimiser steps of a run.
        group: models that are trained at once.
        base: what a worker takes before its first model.
        held: models whose state it holds, where those are more: rates that are held against each other.
    """
    trained, every, held = network.trained(design), network.parameters(design), max(group, held or 0)
    data = steps * network.batch * network.numbers * WHOLE
    step, exam = step_numbers(network, design), exam_numbers(network, design)
    stays = [largest * group * SINGLE <= KEPT_BY_MALLOC for largest in step.largest]
    width = max(0.0, exam.width - step.width)
    scores = exam.scores if stays[0] else max(0.0, exam.scores - step.scores)
    logits = exam.logits if stays[1] else max(0.0, exam.logits - step.logits)
    return Memory(
        base=base,
        weights=held * every * SINGLE,
        gradients=held * trained * SINGLE,
        moments=2 * held * trained * SINGLE,
        data=(held + DRAWN * group) * data,
        activations=round(group * (step.width + step.scores + step.logits) * SINGLE),
        exam=round(group * max(width + scores, logits) * SINGLE),  # layers first, then answers
    )


def on_device(network: Network, design: Design, *, steps: int, group: int) -> int:
    """Predict the peak memory of a group on an accelerator, whose allocator uses freed memory again."""
    found = of_worker(network, design, steps=steps, group=group, base=0)
    held = found.weights + found.gradients + found.moments + found.data // (1 + DRAWN)
    exam = exam_numbers(network, design)
    return WORKSPACE + held + max(found.activations, round(group * max(exam.width + exam.scores, exam.logits) * SINGLE))


def peak() -> int:
    """Return the peak memory of this process so far, in bytes."""
    try:
        # ru_maxrss of a child begins at what its parent held when it was started; this does not
        lines = Path("/proc/self/status").read_text("ascii").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration, ValueError):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


def _sizes(network: Network, design: Design) -> tuple[int, int, int]:
    heads = design.head_sizes(design.sizes(network.dims)).queries
    return network.dims.d_model, heads, network.tokens if network.asked is None else network.asked
