"""`recall`: keys and their values stand first, then the keys come again, and each must give its value.

This is multi-query associative recall (MQAR; Arora et al., "Zoology", arXiv 2312.04927) at its shortest length: 64
tokens over 8192 words, four pairs of a key and a value, then each key once more. How long after the pairs a key
comes again follows a power law, and all other places hold words at random. Keys are words of the lower half of
the vocabulary, values of the upper half.

Word vectors are given, for a run here meets each word only a few dozen times. Keys have the even channels and values
the odd ones: what is looked up and what is said lie apart. With all channels for both, the baseline missed the bar in
pilot runs of this length.

Settings say how a value learns which key stood before it. ``conv``: a causal convolution over three tokens, then one
attention layer. ``deep``: two attention layers. Both have learned positions and no feed-forward part.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from qkvlab.contracts import Dims, Words
from qkvlab.tasks.network import Network
from qkvlab.tasks.task import Call, Examples, Task
from qkvlab.tasks.title import Title

if TYPE_CHECKING:
    from qkvlab.designs import Design
    from qkvlab.models.decoder import Decoder

TOKENS = 64
WORDS = 8192
KEYS = WORDS // 2
"""Words below are keys, the others are values."""
PAIRS = 4
POWER = 0.01
"""Exponent a of the power law: a key comes again in slot g, two tokens wide, with a weight of g^(a - 1)."""
POSITION = 0.3
"""Standard deviation of the vectors of places at the start; those of words have 1."""
PART = 64
"""Sequences that are examined at once: logits over all words are large."""


@dataclass(frozen=True)
class Shape:
    """What a setting's model is made of, besides the design.

    Attributes:
        layers: of attention.
        span: tokens that the convolution mixes; 1 for no convolution.
        steps: optimiser steps of a run.
    """

    layers: int
    span: int
    steps: int


SHAPES = {"conv": Shape(layers=1, span=3, steps=300), "deep": Shape(layers=2, span=1, steps=500)}
"""Pilot runs of the baseline, and of no other design, chose the steps."""
_TITLES = {
    "conv": Words("卷积加一层注意力", "convolution and one layer"),
    "deep": Words("两层注意力", "two layers"),
}
_HOW = {
    "conv": Words(
        "先对三个词作因果卷积，再接一层注意力", "a causal convolution over three words, then one attention layer"
    ),
    "deep": Words("两层注意力，没有卷积", "two attention layers, no convolution"),
}


@dataclass(frozen=True)
class Recall(Task):
    """Multi-query associative recall with given word vectors.

    Attributes:
        d_model: width.
        heads: query heads.
        batch: sequences per step.
        exam: held-out sequences per seed.
        looked_at: how many of them are searched for tokens that look at themselves.
    """

    d_model: int = 64
    heads: int = 4
    batch: int = 16
    exam: int = 512
    looked_at: int = 32

    name = "recall"
    version = 1
    words = Words("回忆：键再次出现时，说出它的值", "recall: when a key comes again, its value is wanted")
    metric = "error"
    delta = 0.05
    rates = (0.003, 0.01, 0.03)
    tune_seeds = (0, 1)
    sources = (*(f"tasks/{file}" for file in ("task.py", "recall.py")), "models/decoder.py", "models/blocks.py")

    def settings(self) -> tuple[str, ...]:
        return tuple(SHAPES)

    def describe(self, setting: str) -> Words:
        return Words(
            f"先给 {PAIRS} 对键和值，之后键再次出现时要说出它的值；{_HOW[setting].zh}",
            f"{PAIRS} keys stand first, each with its value; when a key comes again its value is wanted; "
            f"{_HOW[setting].en}",
        )

    def title(self, setting: str) -> Title:
        return Title(Words("键值回忆", "recall of pairs"), _TITLES[setting])

    def bar(self, setting: str) -> float:
        return 0.05

    def chance(self, setting: str) -> float:
        """Name one of the values that were shown, whichever key is asked."""
        return 1 - 1 / PAIRS

    def steps(self, setting: str) -> int:
        return SHAPES[setting].steps

    def facts(self, setting: str) -> dict[str, Any]:
        shape = SHAPES[setting]
        return {
            "version": self.version, "d_model": self.d_model, "heads": self.heads, "layers": shape.layers,
            "span": shape.span, "positions": "learned", "hidden": 0,
            "tokens": TOKENS, "words": WORDS, "pairs": PAIRS, "power": POWER, "vectors": "fixed",
            "batch": self.batch, "steps": shape.steps, "held_out_sequences": self.exam,
        }  # fmt: skip

    def network(self, setting: str, design: Design) -> Network:
        shape = SHAPES[setting]
        return Network(
            dims=self._dims, layers=shape.layers, hidden=0, tokens=TOKENS, asked=PAIRS, classes=WORDS,
            learned=shape.span - 1 + TOKENS, given=WORDS, x_learns=True, answers_learn=False,
            batch=self.batch, numbers=TOKENS + 2 * PAIRS, exam=PART, traced=self.looked_at,
        )  # fmt: skip

    @property
    def _dims(self) -> Dims:
        return Dims.of(self.d_model, self.heads)

    def given(self, setting: str, seed: int) -> dict[str, np.ndarray]:
        span = SHAPES[setting].span
        words = self.rng("", seed, "words").standard_normal((WORDS, self.d_model)) * math.sqrt(2)
        words[:KEYS, 1::2] = 0
        words[KEYS:, 0::2] = 0
        places = self.rng("", seed, "positions").standard_normal((TOKENS, self.d_model)) * POSITION
        found = {"words": words, "positions": places}
        if span > 1:  # as convolutions usually begin (He et al., arXiv 1502.01852, as PyTorch has it)
            bound = 1 / math.sqrt(span)
            found["local"] = self.rng("", seed, "local").uniform(-bound, bound, (span - 1, self.d_model))
        return {name: vectors.astype(np.float32) for name, vectors in found.items()}

    def batches(self, setting: str, seed: int) -> Examples:
        steps = self.steps(setting)
        found = draw(self.rng("", seed, "train"), steps * self.batch)
        shape = (steps, self.batch, -1)
        return Examples(tuple(a.reshape(shape) for a in found.inputs), found.targets.reshape(shape))

    def held_out(self, setting: str, seed: int) -> Examples:
        """Draw the exam of a seed; see `draw`."""
        return draw(self.rng("", seed, "exam"), self.exam)

    def model(self, setting: str, design: Design) -> Decoder:
        from qkvlab.models.decoder import Decoder

        shape = SHAPES[setting]
        return Decoder(
            design, words=WORDS, tokens=TOKENS, d_model=self.d_model, heads=self.heads,
            layers=shape.layers, hidden=0, span=shape.span, learned=False,
        )  # fmt: skip

    def measure(self, setting: str, seeds: Sequence[int], call: Call) -> list[dict[str, float]]:
        exams = [self.held_out(setting, seed) for seed in seeds]
        parts = [self._wrong(exams, slice(i, i + PART), call) for i in range(0, self.exam, PART)]
        errors = np.concatenate(parts, axis=1).mean((1, 2)).tolist()
        return [{"error": error, **own} for error, own in zip(errors, self._own(exams, call), strict=True)]

    def before(self, setting: str, seeds: Sequence[int], call: Call) -> list[dict[str, float]]:
        exams = [self.held_out(setting, seed) for seed in seeds]
        return [{f"{name}_before": share for name, share in own.items()} for own in self._own(exams, call)]

    def _wrong(self, exams: Sequence[Examples], part: slice, call: Call) -> np.ndarray:
        # 1 where an answer is not the value wanted, NaN where the model has none: (models, part, pairs)
        logits = call("forward", *(np.stack([exam.inputs[i][part] for exam in exams]) for i in (0, 1)))
        wrong = logits.argmax(-1) != np.stack([exam.targets[part] for exam in exams])
        return np.where(np.isfinite(logits).all(-1), wrong, math.nan)

    def _own(self, exams: Sequence[Examples], call: Call) -> list[dict[str, float]]:
        # the first token of a sequence sees nobody else
        own = call("own", np.stack([exam.inputs[0][: self.looked_at] for exam in exams]))[..., 1:]
        return [{f"own_{i}": float(layer.mean()) for i, layer in enumerate(layers, start=1)} for layers in own]


def draw(rng: np.random.Generator, n: int) -> Examples:
    """Draw sequences.

    Returns:
        Inputs (n, tokens) and the places (n, pairs) where a key comes again; targets (n, pairs) are the values.
    """
    keys, values = _distinct(rng, n, 0, KEYS), _distinct(rng, n, KEYS, WORDS)
    tokens = rng.integers(0, WORDS, (n, TOKENS))
    tokens[:, 0 : 2 * PAIRS : 2], tokens[:, 1 : 2 * PAIRS : 2] = keys, values
    places = 2 * PAIRS + 2 * _slots(rng, n)
    np.put_along_axis(tokens, places, keys, axis=1)
    return Examples((tokens, places), values)


def _distinct(rng: np.random.Generator, n: int, low: int, high: int) -> np.ndarray:
    found = rng.integers(low, high, (n, PAIRS))
    while (twice := (np.diff(np.sort(found, axis=1), axis=1) == 0).any(1)).any():
        found[twice] = rng.integers(low, high, (int(twice.sum()), PAIRS))
    return found


def _slots(rng: np.random.Generator, n: int) -> np.ndarray:
    # the largest of log weight + Gumbel noise are draws without replacement (Yellott 1977)
    weight = np.arange(1, (TOKENS - 2 * PAIRS) // 2 + 1) ** (POWER - 1)
    order = np.argsort(-(np.log(weight) + rng.gumbel(size=(n, len(weight)))), axis=1)
    # likelier slots are drawn first; shuffled, so that the first pair is not the likelier one to be asked soon
    return rng.permuted(order[:, :PAIRS], axis=1)


TASK = Recall()
