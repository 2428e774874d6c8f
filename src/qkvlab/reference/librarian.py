"""A trained reader of the library, run by the reference: one question, one shelf, an answer in milliseconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qkvlab.reference.attention import Array
from qkvlab.reference.reader import read


@dataclass(frozen=True)
class Answer:
    """What one question found on one shelf of n books.

    Attributes:
        scores: (n,), of the question with every book, mean over heads.
        weights: (n,), attention on every book, mean over heads; they sum to 1.
        content: the content that is most like what came back.
        book: place of the book with that content; None when no book on the shelf has it.
    """

    scores: Array
    weights: Array
    content: int
    book: int | None


class Librarian:
    """A model of the task ``library`` as its study saved it.

    Args:
        design: name of the design.
        state: parameters by the names of the trained module.
    """

    def __init__(self, design: str, state: Mapping[str, Array]) -> None:
        self.design = design
        state = {name: np.asarray(w, np.float32) for name, w in state.items()}  # shipped ones are float16
        self.words, self.contents = state["words"], state["contents"]
        prefix = "attention.projections."
        self.matrices = {n.removeprefix(prefix): w for n, w in state.items() if n.startswith(prefix)}
        self.matrices["out"] = state["attention.out.weight"].T  # nn.Linear keeps columns first

    def answer(self, question: int, labels: Sequence[int], contents: Sequence[int] | None = None) -> Answer:
        """Ask one question.

        Args:
            question: token asked.
            labels: token on each book's spine.
            contents: content of each book; 0, 1, 2, ... unless given.
        """
        inside = np.arange(len(labels)) if contents is None else np.asarray(contents)
        d_model = self.words.shape[-1]
        reading = read(
            self.design, self.matrices, self.words, self.contents,
            questions=np.array([question]), labels=np.asarray(labels), on_shelf=inside, heads=1, d_head=d_model,
        )  # fmt: skip
        content = int(reading.logits[0].argmax())
        found = np.flatnonzero(inside == content)
        return Answer(
            scores=reading.scores[:, 0].mean(0),
            weights=reading.weights[:, 0].mean(0),
            content=content,
            book=int(found[0]) if len(found) else None,
        )
