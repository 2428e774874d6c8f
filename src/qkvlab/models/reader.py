"""The reader: questions look at a shelf of books through one attention layer and bring a content back.

b shelf    q question    n book    w words    m contents    d d_model
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qkvlab.attention import Attention
from qkvlab.designs import Design


class Reader(nn.Module):
    """Vectors of words and contents, one attention layer, and a comparison with all contents.

    Args:
        design: how q, k and v are made.
        words: size of the vocabulary.
        contents: how many contents exist.
        d_model: width of every vector.
        heads: query heads.
        learned: whether the vectors are trained.
    """

    def __init__(
        self, design: Design, *, words: int, contents: int, d_model: int, heads: int = 1, learned: bool
    ) -> None:
        super().__init__()
        self.words = nn.Parameter(torch.randn(words, d_model), requires_grad=learned)
        self.contents = nn.Parameter(torch.randn(contents, d_model), requires_grad=learned)
        # six questions and eight books: plain products are faster than a fused kernel, above all under vmap
        self.attention = Attention(design, d_model=d_model, heads=heads, route="plain")

    def forward(self, questions: Tensor, labels: Tensor, contents: Tensor) -> Tensor:
        """Whole numbers (b, q), (b, n), (b, n) -> logits over contents (b, q, m)."""
        asked, books = self._vectors(questions, labels, contents)
        returned = self.attention(asked, self.attention.remember(books))
        return returned @ self.contents.mT / math.sqrt(self.contents.shape[-1])

    def weights(self, questions: Tensor, labels: Tensor, contents: Tensor) -> Tensor:
        """Attention of each question on each book, mean over heads: (b, q, n)."""
        asked, books = self._vectors(questions, labels, contents)
        return self.attention.trace(asked, self.attention.remember(books)).weights.mean(-3)

    def _vectors(self, questions: Tensor, labels: Tensor, contents: Tensor) -> tuple[Tensor, Tensor]:
        books = F.embedding(labels, self.words) + F.embedding(contents, self.contents)
        return F.embedding(questions, self.words), books
