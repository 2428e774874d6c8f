"""`library`: a question is asked, labelled books stand on a shelf, the content of the right one must come back.

A book is x = vector of its label + vector of its content; a question is x = vector of its word. One attention
layer lets questions read the shelf, and what it returns is compared with all contents. So q and k must find
the book, and v must carry the content out.

Settings are ``question/vectors``: the question is one of `shelves.QUESTIONS`; vectors are ``fixed`` (given, not
trained; synonyms at cosine 0, or at another with ``/cos0.3``) or ``learned``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from qkvlab.contracts import Dims, Words
from qkvlab.tasks.network import Network
from qkvlab.tasks.shelves import BOOKS, CONCEPTS, QUESTIONS, count_of, draw, draw_full, relevant
from qkvlab.tasks.task import Call, Examples, Task
from qkvlab.tasks.title import Title
from qkvlab.tasks.vocabulary import SLOTS

if TYPE_CHECKING:
    from qkvlab.designs import Design
    from qkvlab.models.reader import Reader

VARIANTS = ("cos0.3", "cos0.6", "d64")
"""Reported beside ``synonym/fixed``: synonyms that lie together, and vectors narrower than there are words."""
_TITLES = {
    "same-word": Title(Words("原词", "same word")),
    "synonym": Title(Words("同义词", "synonym")),
    "unseen-synonym": Title(Words("没见过的同义词", "unseen synonym")),
    "related": Title(Words("相关词", "related word")),
    "directed": Title(Words("下一本书", "next book"), Words("三本一圈", "rings of three")),
    "directed-long": Title(Words("下一本书", "next book"), Words("24 本一大圈", "one ring of 24")),
    "directed-acyclic": Title(Words("下一本书", "next book"), Words("不成圈", "no ring")),
}
_VECTORS = {False: Words("给定向量", "given vectors"), True: Words("可训练向量", "trained vectors")}
_ASKS = {
    "same-word": Words("书脊上写着问的那个词", "a label is the very word that is asked"),
    "synonym": Words("书脊上写着同义词，旁边有相关词", "a label is a synonym; related words stand beside it"),
    "unseen-synonym": Words(
        "训练见过 a-b 和 b-c，考 a-c", "trained on a-b and b-c, asked a-c: synonyms never seen together"
    ),
    "related": Words(
        "要找相关词的书（本概念不在架上）", "the book of a related word is wanted; the concept itself is absent"
    ),
    "directed": Words(
        "要找课程的下一本；上一本和本概念都在架上（三元循环）",
        "the next book of a course is wanted; the previous one and the concept itself are there (cycles of three)",
    ),
    "directed-long": Words("同上，但 24 个概念排成一个大圈", "the same on one cycle of all 24 concepts"),
    "directed-acyclic": Words(
        "同三元循环，但不再从头开始（无环）", "the same courses of three without the step back to the start (no cycle)"
    ),
}


@dataclass(frozen=True)
class Library(Task):
    """The library with real bilingual words.

    Attributes:
        d_model: width. Pilot runs before the first registration chose 96: there the baseline errs on fewer than
            3 of 100 questions for a synonym or for what comes next. At 64, narrower than the 120 words, designs that
            share q and k lost more than the baseline, so that width is a setting of its own.
        contents: how many different contents exist; those on one shelf differ.
        batch: shelves per step.
        exam: held-out shelves per seed.
        train_steps: optimiser steps.
    """

    d_model: int = 96
    contents: int = 16
    batch: int = 16
    exam: int = 400
    train_steps: int = 200

    name = "library"
    version = 1
    words = Words(
        "图书馆：用问题找书，把内容取回来",
        "the library: a question finds its book and brings its content back",
    )
    metric = "error"
    delta = 0.05
    sources = (
        *(f"tasks/{file}" for file in ("task.py", "library.py", "shelves.py", "vocabulary.py", "vocabulary.json")),
        "models/reader.py",
    )
    shown = ("synonym/fixed", "synonym/learned", "directed/fixed")

    def settings(self) -> tuple[str, ...]:
        first = ("same-word", "synonym", "directed", "directed-long", "directed-acyclic")
        rest = tuple(q for q in QUESTIONS if q not in first)
        return (
            *(f"{q}/fixed" for q in first),
            *(f"{q}/learned" for q in first),
            *(f"{q}/{x}" for q in rest for x in ("fixed", "learned")),
            *(f"synonym/fixed/{variant}" for variant in VARIANTS),
        )

    def describe(self, setting: str) -> Words:
        named = Setting.parse(setting)
        if named.learned:
            how = Words("词向量可训练", "vectors are trained")
        elif named.cosine:
            how = Words(
                f"词向量给定，同义词夹角余弦 {named.cosine}", f"vectors are given, synonyms at cosine {named.cosine}"
            )
        else:
            how = Words("词向量给定、两两无关", "vectors are given and unrelated")
        if named.d_model:
            how = Words(f"{how.zh}，只有 {named.d_model} 维", f"{how.en}, only {named.d_model} wide")
        asks = _ASKS[named.question]
        return Words(f"{asks.zh}；{how.zh}", f"{asks.en}; {how.en}")

    def title(self, setting: str) -> Title:
        named = Setting.parse(setting)
        own = _TITLES[named.question]
        variant = own.variant
        if named.cosine:
            variant = Words(f"余弦 {named.cosine}", f"cosine {named.cosine}")
        elif named.d_model:
            variant = Words(f"只有 {named.d_model} 维", f"only {named.d_model} wide")
        return Title(own.head, variant, _VECTORS[named.learned])

    def chance(self, setting: str) -> float:
        return 1 - 1 / BOOKS

    def steps(self, setting: str) -> int:
        return self.train_steps

    def facts(self, setting: str) -> dict[str, Any]:
        named = Setting.parse(setting)
        return {
            "version": self.version, "d_model": self._width(setting), "heads": 1, "layers": 1, "books": BOOKS,
            "words": CONCEPTS * SLOTS, "contents": self.contents, "batch": self.batch, "steps": self.train_steps,
            "held_out": self.exam, "vectors": "learned" if named.learned else "fixed", "cosine": named.cosine,
        }  # fmt: skip

    def network(self, setting: str, design: Design) -> Network:
        named, vectors = Setting.parse(setting), CONCEPTS * SLOTS + self.contents
        asked = count_of(named.question)
        return Network(
            dims=Dims.of(self._width(setting)), layers=1, hidden=0, tokens=BOOKS, asked=asked, classes=self.contents,
            learned=vectors if named.learned else 0, given=0 if named.learned else vectors,
            x_learns=named.learned, answers_learn=named.learned,
            batch=self.batch, numbers=2 * asked + 2 * BOOKS, exam=self.exam, traced=CONCEPTS * SLOTS,
        )  # fmt: skip

    def _width(self, setting: str) -> int:
        return Setting.parse(setting).d_model or self.d_model

    def given(self, setting: str, seed: int) -> dict[str, np.ndarray]:
        cosine, d = Setting.parse(setting).cosine, self._width(setting)
        rng = self.rng("", seed, "vectors")  # the same vectors in every setting, fixed or as a start
        own = rng.standard_normal((CONCEPTS, SLOTS, d))
        shared = rng.standard_normal((CONCEPTS, 1, d))
        contents = rng.standard_normal((self.contents, d))
        words = math.sqrt(cosine) * shared + math.sqrt(1 - cosine) * own
        return {
            "words": words.reshape(-1, d).astype(np.float32),
            "contents": contents.astype(np.float32),
        }

    def batches(self, setting: str, seed: int) -> Examples:
        rng = self.rng(setting, seed, "train")
        found = self._examples(setting, rng, self.train_steps * self.batch, held_out=False)
        shape = (self.train_steps, self.batch)
        return Examples(
            tuple(a.reshape(*shape, *a.shape[1:]) for a in found.inputs),
            found.targets.reshape(*shape, -1),
        )

    def held_out(self, setting: str, seed: int) -> Examples:
        """Draw the exam of a seed: inputs (questions, labels, contents) and the right contents, (exam, ...)."""
        return self._examples(setting, self.rng(setting, seed, "exam"), self.exam, held_out=True)

    def full_shelves(self, setting: str, seed: int) -> Examples:
        """Draw a shelf with four relevant books for each question; targets are booleans (120, 1, books)."""
        question = Setting.parse(setting).question
        rng = self.rng(setting, seed, "coverage")
        shelf = draw_full(question, rng)
        contents = self._contents(rng, len(shelf.labels))
        marks = relevant(question, shelf.asked[:, :, None], shelf.labels[:, None, :])
        return Examples((shelf.asked, shelf.labels, contents), marks)

    def _examples(self, setting: str, rng: np.random.Generator, n: int, *, held_out: bool) -> Examples:
        question = Setting.parse(setting).question
        shelf = draw(question, rng, n, held_out=held_out)
        contents = self._contents(rng, n)
        return Examples((shelf.asked, shelf.labels, contents), np.take_along_axis(contents, shelf.right, axis=1))

    def _contents(self, rng: np.random.Generator, n: int) -> np.ndarray:
        return np.argsort(rng.random((n, self.contents)), axis=1)[:, :BOOKS]

    def model(self, setting: str, design: Design) -> Reader:
        from qkvlab.models.reader import Reader

        return Reader(
            design,
            words=CONCEPTS * SLOTS,
            contents=self.contents,
            d_model=self._width(setting),
            learned=Setting.parse(setting).learned,
        )

    def measure(self, setting: str, seeds: Sequence[int], call: Call) -> list[dict[str, float]]:
        exams = [self.held_out(setting, seed) for seed in seeds]
        full = [self.full_shelves(setting, seed) for seed in seeds]
        logits = call("forward", *_stacked(exams))
        weights = call("weights", *_stacked(full))
        # attention is "received" where it exceeds the equal share that `uniform` gives to every book
        found = weights > 1.001 / BOOKS
        rows = []
        for i, exam in enumerate(exams):
            finite = bool(np.isfinite(logits[i]).all())
            error = float((logits[i].argmax(-1) != exam.targets).mean()) if finite else math.nan
            coverage = float(found[i][full[i].targets].mean()) if finite else math.nan
            rows.append({"error": error, "coverage": coverage})
        return rows


@dataclass(frozen=True)
class Setting:
    """A setting's name, taken apart.

    Attributes:
        question: one of `shelves.QUESTIONS`.
        learned: whether vectors are trained.
        cosine: between given vectors of synonyms.
        d_model: width of every vector; None for the task's own.
    """

    question: str
    learned: bool
    cosine: float = 0.0
    d_model: int | None = None

    @classmethod
    def parse(cls, name: str) -> Setting:
        """Read a name.

        >>> Setting.parse("synonym/fixed/cos0.3")
        Setting(question='synonym', learned=False, cosine=0.3, d_model=None)
        """
        question, vectors, *rest = name.split("/")
        cosine = next((float(part.removeprefix("cos")) for part in rest if part.startswith("cos")), 0.0)
        width = next((int(part.removeprefix("d")) for part in rest if part.startswith("d")), None)
        return cls(question, vectors == "learned", cosine, width)


def _stacked(examples: Sequence[Examples]) -> tuple[np.ndarray, ...]:
    return tuple(np.stack(arrays) for arrays in zip(*(e.inputs for e in examples), strict=True))


TASK = Library()
