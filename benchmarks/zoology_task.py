"""Zoology's examples as a task of the engine: MQAR whose vectors of words are learned, drawn by Zoology's own code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import zoology_loop as loop
from qkvlab.tasks.recall import PAIRS, TOKENS, WORDS, Recall
from qkvlab.tasks.task import Examples

if TYPE_CHECKING:
    from qkvlab.designs import Design
    from qkvlab.models.decoder import Decoder

SETTING = "deep"
START = 0.02
"""Standard deviation of vectors of words and places at the start, as in its model."""


@dataclass(frozen=True)
class Zoology(Recall):
    """Zoology's own examples, with vectors of words that are learned.

    Attributes:
        drawn: a file that `keep` wrote.
        epochs: how often all examples are gone through, in the same order.
    """

    heads: int = 1
    batch: int = 512
    exam: int = 3000
    drawn: str = ""
    epochs: int = 1

    name = "zoology"

    def steps(self, setting: str) -> int:
        return self.epochs * (len(self._read("targets")) // self.batch)

    def given(self, setting: str, seed: int) -> dict[str, np.ndarray]:
        sizes = {"words": WORDS, "positions": TOKENS}
        noise = {name: self.rng("", seed, name).standard_normal((n, self.d_model)) for name, n in sizes.items()}
        return {name: (START * vectors).astype(np.float32) for name, vectors in noise.items()}

    def batches(self, setting: str, seed: int) -> Examples:
        def cut(name: str) -> np.ndarray:
            found = self._read(name)
            found = found[: len(found) // self.batch * self.batch]
            return np.tile(found.reshape(-1, self.batch, found.shape[-1]), (self.epochs, 1, 1))

        return Examples((cut("tokens"), cut("places")), cut("targets"))

    def held_out(self, setting: str, seed: int) -> Examples:
        return Examples((self._read("exam_tokens"), self._read("exam_places")), self._read("exam_targets"))

    def model(self, setting: str, design: Design) -> Decoder:
        from qkvlab.models.decoder import Decoder

        return Decoder(
            design, words=WORDS, tokens=TOKENS, d_model=self.d_model, heads=self.heads, layers=2, hidden=0
        )  # fmt: skip

    def _read(self, name: str) -> np.ndarray:
        with np.load(self.drawn) as file:
            return file[name]


def keep(file: Path, training: Any, exam: Any) -> None:
    """Write what Zoology drew: tokens, the places that are asked and their targets."""
    found = {}
    for prefix, part in (("", training), ("exam_", exam)):
        (segment,) = part.dataset.segments
        tokens, targets = segment.inputs.numpy(), segment.labels.numpy()
        places = np.nonzero(targets != loop.NOT_ASKED)[1].reshape(-1, PAIRS)
        answers = np.take_along_axis(targets, places, axis=1)
        found |= {f"{prefix}tokens": tokens, f"{prefix}places": places, f"{prefix}targets": answers}
    np.savez(file, **found)
