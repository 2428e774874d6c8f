"""`recall`: keys and their values stand first, then the keys come again, and each must give its value.

This is multi-query associative recall (MQAR; Arora et al., "Zoology", arXiv 2312.04927) at its shortest length: 64
tokens over 8192 words, four pairs of a key and a value, then each key once more. How long after the pairs a key
comes again follows a power law, and all other places hold words at random. Keys are words of the lower half of
the vocabulary, values of the upper half, so a word tells which of the two it can be and nothing else.

Settings say how a value learns which key stood before it. ``conv``: a causal convolution over three tokens, then one
attention layer. ``plain``: two attention layers and learned positions. No layer has a feed-forward part.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from qkvlab.contracts import Cost, Dims, Words
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


@dataclass(frozen=True)
class Shape:
    """What a setting's model is made of, besides the design.

    Attributes:
        layers: of attention.
        span: tokens that the convolution mixes; 1 for no convolution.
        positions: whether every place has a learned vector.
    """

    layers: int
    span: int
    positions: bool


SHAPES = {"conv": Shape(1, 3, False), "plain": Shape(2, 1, True)}
_TITLES = {
    "conv": Words("卷积加一层注意力", "convolution and one layer"),
    "plain": Words("两层注意力", "two layers"),
}


@dataclass(frozen=True)
class Recall(Task):
    """Multi-query associative recall with given word vectors.

    Attributes:
        d_model: width.
        heads: query heads.
        batch: sequences per step.
        exam: held-out sequences per seed.
        train_steps: optimiser steps.
    """

    d_model: int = 64
    heads: int = 4
    batch: int = 16
    exam: int = 512
    train_steps: int = 300

    name = "recall"
    version = 1
    words = Words("回忆：键再次出现时，说出它的值", "recall: when a key comes again, its value is wanted")
    metric = "error"
    delta = 0.05
    sources = (*(f"tasks/{file}" for file in ("task.py", "recall.py")), "models/decoder.py", "models/blocks.py")

    def settings(self) -> tuple[str, ...]:
        return tuple(SHAPES)

    def describe(self, setting: str) -> Words:
        shape = SHAPES[setting]
        if shape.span > 1:
            how = Words(
                f"{shape.span} 个词的因果卷积之后接 {shape.layers} 层注意力",
                f"a causal convolution over {shape.span} words, then {shape.layers} attention layer",
            )
        else:
            how = Words(f"{shape.layers} 层注意力，位置可训练", f"{shape.layers} attention layers, trained positions")
        return Words(
            f"先给 {PAIRS} 对键和值，之后键再次出现时要说出它的值；{how.zh}",
            f"{PAIRS} keys stand first, each with its value; when a key comes again its value is wanted; {how.en}",
        )

    def title(self, setting: str) -> Title:
        return Title(Words("键值回忆", "recall of pairs"), _TITLES[setting])

    def bar(self, setting: str) -> float:
        return 0.05

    def chance(self, setting: str) -> float:
        """Name one of the values that were shown, whichever key is asked."""
        return 1 - 1 / PAIRS

    def steps(self, setting: str) -> int:
        return self.train_steps

    def facts(self, setting: str) -> dict[str, Any]:
        shape = SHAPES[setting]
        return {
            "version": self.version, "d_model": self.d_model, "heads": self.heads, "layers": shape.layers,
            "span": shape.span, "positions": "learned" if shape.positions else "none", "hidden": 0,
            "tokens": TOKENS, "words": WORDS, "pairs": PAIRS, "power": POWER, "vectors": "fixed",
            "batch": self.batch, "steps": self.train_steps, "held_out_sequences": self.exam,
        }  # fmt: skip

    def cost(self, setting: str, design: Design) -> Cost:
        return design.cost(Dims.of(self.d_model, self.heads))

    def parameters(self, setting: str, design: Design) -> int:
        shape, d = SHAPES[setting], self.d_model
        layer = self.cost(setting, design).parameters + d * d
        rows = WORDS + shape.span - 1 + TOKENS * shape.positions
        return shape.layers * layer + rows * d

    def given(self, setting: str, seed: int) -> dict[str, np.ndarray]:
        vectors = self.rng("", seed, "vectors").standard_normal((WORDS, self.d_model))
        return {"words": vectors.astype(np.float32)}

    def batches(self, setting: str, seed: int) -> Examples:
        found = draw(self.rng("", seed, "train"), self.train_steps * self.batch)
        shape = (self.train_steps, self.batch, -1)
        return Examples(tuple(a.reshape(shape) for a in found.inputs), found.targets.reshape(shape))

    def held_out(self, setting: str, seed: int) -> Examples:
        """Draw the exam of a seed: inputs are sequences (exam, tokens) and asked places, targets the values (exam, pairs)."""
        return draw(self.rng("", seed, "exam"), self.exam)

    def model(self, setting: str, design: Design) -> Decoder:
        from qkvlab.models.decoder import Decoder

        shape = SHAPES[setting]
        return Decoder(
            design, words=WORDS, tokens=TOKENS * shape.positions, d_model=self.d_model, heads=self.heads,
            layers=shape.layers, hidden=0, span=shape.span, learned=False,
        )  # fmt: skip

    def measure(self, setting: str, seeds: Sequence[int], call: Call) -> list[dict[str, float]]:
        exams = [self.held_out(setting, seed) for seed in seeds]
        wrong = []
        for i in range(0, self.exam, 64):
            part = slice(i, i + 64)
            logits = call("forward", *(np.stack([e.inputs[j][part] for e in exams]) for j in (0, 1)))
            wrong.append(logits.argmax(-1) != np.stack([e.targets[part] for e in exams]))
        errors = np.concatenate(wrong, axis=1).mean((1, 2))
        return [{"error": float(e)} for e in errors]


def draw(rng: np.random.Generator, n: int) -> Examples:
    """Draw sequences.

    Returns:
        Inputs (n, tokens) and the places (n, pairs) where a key comes again; targets (n, pairs), the values wanted there.
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
