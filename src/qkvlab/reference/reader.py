"""The reader of the library task in NumPy: a question finds its book, and the book's content comes back.

    Q questions    N books    C contents    d d_model    h heads

A question is the vector of its words. A book stands on the shelf as the vector of its label plus the vector
of its content. Attention of the questions over the books returns r; r is compared with every content.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qkvlab.reference.attention import Array, trace

Ids = NDArray[np.integer]


@dataclass(frozen=True)
class Reading:
    """What the questions found.

    Attributes:
        scores: (..., h, Q, N), of every question with every book.
        weights: (..., h, Q, N), the attention of every question.
        returned: (..., Q, d), what came back.
        logits: (..., Q, C), how alike what came back is to each content.
    """

    scores: Array
    weights: Array
    returned: Array
    logits: Array


def read(
    name: str,
    weights: Mapping[str, Array],
    words: Array,
    contents: Array,
    *,
    questions: Ids,
    labels: Ids,
    on_shelf: Ids,
    heads: int,
    d_head: int,
    kv_heads: int | None = None,
) -> Reading:
    """Ask every question of one shelf.

    Args:
        name: of the design.
        weights: its matrices and ``out``, as in `qkvlab.reference.attention.trace`.
        words: (W, d), the vectors of all words.
        contents: (C, d), the vectors of all contents.
        questions: (..., Q), the words asked.
        labels: (..., N), the words on the books' labels.
        on_shelf: (..., N), the contents of the books.
        heads: query heads.
        d_head: channels of a query or key.
        kv_heads: key heads; what the name says, else heads.
    """
    books = words[labels] + contents[on_shelf]
    steps = trace(name, weights, words[questions], books, heads=heads, d_head=d_head, kv_heads=kv_heads)
    logits = steps.output @ contents.T / contents.dtype.type(contents.shape[-1] ** 0.5)
    return Reading(steps.scores, steps.weights, steps.output, logits)
