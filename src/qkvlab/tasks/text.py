"""`text`: a language model over the characters of real text, judged on text that it has not seen.

The text is the documentation that ships with Python, or any UTF-8 file. The model looks up the last characters (hashed
n-grams, up to `Text.grams` of them) and has to find everything further back through attention; so a design is judged by
what attention adds to counting. It counts only where QKV beats the interpolated 5-gram that read the same training
characters (see `ngram`).

Settings: ``plain``, and ``params`` and ``flops``, where the width of the feed-forward part makes up for what a design
saves (see `matching`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from qkvlab.contracts import Dims, Words
from qkvlab.tasks import corpus, matching
from qkvlab.tasks.corpus import Corpus
from qkvlab.tasks.network import Network
from qkvlab.tasks.task import Call, Examples, Match, Task
from qkvlab.tasks.title import Title

if TYPE_CHECKING:
    from qkvlab.designs import Design
    from qkvlab.models.speller import Speller

_SETTINGS: dict[str, tuple[Match, Title, Words]] = {
    "plain": (
        "none",
        Title(Words("下一个字符", "next character")),
        Words("读到这里，下一个字符是什么", "which character comes next, from what stands before"),
    ),
    "params": (
        "params",
        Title(Words("下一个字符", "next character"), Words("参数一样多", "equal parameters")),
        Words("同上，用前馈层补足省下的参数", "the same; saved parameters go back into the feed-forward part"),
    ),
    "flops": (
        "flops",
        Title(Words("下一个字符", "next character"), Words("计算量一样", "equal FLOPs")),
        Words("同上，用前馈层补足省下的计算量", "the same; saved FLOPs go back into the feed-forward part"),
    ),
}


@dataclass(frozen=True)
class Text(Task):
    """The next character of real text.

    Attributes:
        corpus: the text; None for the documentation that ships with Python.
        d_model: width.
        heads: query heads.
        layers: blocks.
        hidden: feed-forward width of QKV, and of every design where nothing is matched.
        tokens: characters in a window.
        grams: longest n-gram that is looked up.
        buckets: vectors that the n-grams of one length share.
        batch: windows per step.
        train_steps: optimiser steps.
    """

    corpus: Corpus | None = None
    d_model: int = 64
    heads: int = 4
    layers: int = 2
    hidden: int = 128
    tokens: int = 64
    grams: int = 3
    buckets: int = 1024
    batch: int = 16
    train_steps: int = 600

    name = "text"
    version = 1
    words = Words("真实文本：猜下一个字符", "real text: the next character")
    metric = "nats"
    delta = 0.02
    halves = True
    sources = (
        *(f"tasks/{file}.py" for file in ("task", "text", "corpus", "ngram", "matching")),
        "models/blocks.py",
        "models/speller.py",
    )
    rates = (0.005, 0.01, 0.02)
    tune_seeds = (0,)

    def reading(self, file: Path | None) -> Self:
        return self if file is None else replace(self, corpus=corpus.of(file))

    @property
    def read(self) -> Corpus:
        """The text, cut into training and held-out part."""
        return self.corpus or corpus.documentation()

    def settings(self) -> tuple[str, ...]:
        return tuple(_SETTINGS)

    def describe(self, setting: str) -> Words:
        return _SETTINGS[setting][2]

    def title(self, setting: str) -> Title:
        return _SETTINGS[setting][1]

    def match(self, setting: str) -> Match:
        return _SETTINGS[setting][0]

    def bar(self, setting: str) -> float:
        """Nats per held-out character of the interpolated 5-gram that counted the same training characters."""
        return self.read.five_gram

    def chance(self, setting: str) -> float:
        """Nats per held-out character of the frequencies of single characters, which need no context at all."""
        return self.read.one_gram

    def steps(self, setting: str) -> int:
        return self.train_steps

    def facts(self, setting: str) -> dict[str, Any]:
        text = self.read
        return {
            "version": self.version, "text": text.name, "sha256": text.sha256, "characters": text.characters,
            "training_characters": len(text.training), "held_out_characters": len(text.held_out),
            "classes": text.classes, "nats_5gram": round(self.bar(setting), 4), "d_model": self.d_model,
            "heads": self.heads, "layers": self.layers, "hidden": self.hidden, "match": self.match(setting),
            "tokens": self.tokens, "grams": self.grams, "buckets": self.buckets, "batch": self.batch,
            "steps": self.train_steps,
        }  # fmt: skip

    def network(self, setting: str, design: Design) -> Network:
        vectors = self.read.classes + self.tokens + (self.grams - 1) * self.buckets
        return Network(
            dims=self._dims, layers=self.layers, hidden=self._hidden(setting, design), tokens=self.tokens, asked=None,
            classes=self.read.classes, learned=vectors, given=0, x_learns=True, answers_learn=True,
            batch=self.batch, numbers=2 * self.tokens, exam=_CHUNK, traced=2 * _CHUNK,
        )  # fmt: skip

    @property
    def _dims(self) -> Dims:
        return Dims.of(self.d_model, self.heads)

    def _hidden(self, setting: str, design: Design) -> int:
        return matching.hidden(design, self._dims, self.hidden, self.match(setting))

    def given(self, setting: str, seed: int) -> dict[str, np.ndarray]:
        """Start positions as waves (Vaswani et al., arXiv 1706.03762): from noise, "just before" is learned slowly."""
        angles = np.arange(self.tokens)[:, None] * np.geomspace(
            math.pi / 2, math.pi / 2 / self.tokens, self.d_model // 2
        )
        return {"positions": (WAVE * np.concatenate([np.sin(angles), np.cos(angles)], axis=1)).astype(np.float32)}

    def batches(self, setting: str, seed: int) -> Examples:
        text = self.read.training
        begins = self.rng("", seed, "train").integers(len(text) - self.tokens, size=(self.train_steps, self.batch))
        windows = text[begins[..., None] + np.arange(self.tokens + 1)]
        return Examples((windows[..., :-1],), windows[..., 1:])

    def held_out(self) -> Examples:
        """Return windows in which each held-out character is asked once, in the second half: inputs, targets (n, t)."""
        half = self.tokens // 2
        text = np.concatenate([self.read.training[-half - 1 :], self.read.held_out])
        begins = np.arange(0, len(text) - self.tokens, half)
        windows = text[begins[:, None] + np.arange(self.tokens + 1)]
        return Examples((windows[:, :-1],), windows[:, 1:])

    def model(self, setting: str, design: Design) -> Speller:
        from qkvlab.models.speller import Speller

        return Speller(
            design, classes=self.read.classes, tokens=self.tokens, d_model=self.d_model, heads=self.heads,
            layers=self.layers, hidden=self._hidden(setting, design), grams=self.grams, buckets=self.buckets,
        )  # fmt: skip

    def measure(self, setting: str, seeds: Sequence[int], call: Call) -> list[dict[str, float]]:
        exam = self.held_out()
        (inputs,), targets = exam.inputs, exam.targets
        found = []
        for begin in range(0, len(inputs), _CHUNK):
            part = slice(begin, begin + _CHUNK)
            nats = call("nats", _for_each(seeds, inputs[part]), _for_each(seeds, targets[part]))
            found.append(nats[..., self.tokens // 2 :])
        nats = np.concatenate(found, axis=1).mean((1, 2), dtype=np.float64)
        own = self._own(seeds, call)
        return [
            {"nats": float(loss), "nats_5gram": self.bar(setting)}
            | {f"own_{i}": share for i, share in enumerate(row, 1)}
            for loss, row in zip(nats, own, strict=True)
        ]

    def before(self, setting: str, seeds: Sequence[int], call: Call) -> list[dict[str, float]]:
        return [_per_layer("own_{}_before", shares) for shares in self._own(seeds, call)]

    def _own(self, seeds: Sequence[int], call: Call) -> list[list[float]]:
        # share of rows whose largest weight is their own, (models, layers); the first row sees nothing else
        windows = self.held_out().inputs[0][: 2 * _CHUNK]
        own = call("own", _for_each(seeds, windows))[..., 1:]
        return own.mean((2, 3), dtype=np.float64).tolist()


WAVE = 0.3
"""Size of the positions' waves at the start, beside characters whose vectors start with entries of about 0.07."""
_CHUNK = 32
"""Windows that are examined at once."""


def _per_layer(name: str, values: Sequence[float]) -> dict[str, float]:
    return {name.format(layer): value for layer, value in enumerate(values, start=1)}


def _for_each(seeds: Sequence[int], array: np.ndarray) -> np.ndarray:
    return np.broadcast_to(array, (len(seeds), *array.shape)).copy()


TASK = Text()
