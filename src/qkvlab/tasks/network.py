"""The sizes of the model that a task trains: parameters, FLOPs of a step and data follow from them, without PyTorch.

All models here are alike in outline: vectors of words, layers of attention with or without a feed-forward part, and a
product with a matrix of answers at the tokens that are asked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from qkvlab.contracts import Cost, Dims
from qkvlab.designs import Design
from qkvlab.designs.learning import Flops, learning
from qkvlab.tasks.task import joining


@dataclass(frozen=True, kw_only=True)
class Network:
    """What a task's model is made of, besides the design.

    Attributes:
        dims: of every attention layer.
        layers: of attention.
        hidden: width of the feed-forward part of a layer; 0 for none.
        tokens: that are remembered in a sequence; in all layers but the last they also ask.
        asked: tokens that ask in the last layer and are answered; None where all do.
        classes: logits of an answer.
        learned: trained vectors of d_model numbers: words, places, matrices of answers.
        given: vectors that are never trained.
        x_learns: whether anything before the first layer is trained.
        answers_learn: whether the matrix of answers is trained.
        batch: sequences of a step.
        numbers: whole numbers that a sequence and its targets are.
        exam: held-out sequences that are examined at once.
        traced: sequences whose attention is looked at at once; 0 for none.
    """

    dims: Dims
    layers: int
    hidden: int
    tokens: int
    asked: int | None
    classes: int
    learned: int
    given: int
    x_learns: bool
    answers_learn: bool
    batch: int
    numbers: int
    exam: int
    traced: int

    def cost(self, design: Design) -> Cost:
        """Return what q, k and v of all layers cost."""
        one = design.cost(self.dims)
        return Cost(*(self.layers * n for n in (one.parameters, one.flops_per_token, one.cache_per_token)))

    def parameters(self, design: Design) -> int:
        """Count all numbers of the model, trained or not.

        Raises:
            Refusal: the design cannot exist at these sizes.
        """
        return self._held(design, sum(m.rows * m.columns for m in design.matrices(self.dims).values()), self.given)

    def trained(self, design: Design) -> int:
        """Count the numbers that are trained."""
        trained = sum(m.rows * m.columns for m in design.matrices(self.dims).values() if m.trained)
        return self._held(design, trained, 0)

    def _held(self, design: Design, matrices: int, given: int) -> int:
        d = self.dims.d_model
        layer = matrices + joining(design, self.dims) + 2 * self.hidden * d
        return self.layers * layer + (self.learned + given) * d

    def step(self, design: Design) -> Flops:
        """Count the matrix products of one training step of one model, as PyTorch counts them on the plain route."""
        dims = design.sizes(self.dims)
        answered = self.tokens if self.asked is None else self.asked
        found = Flops(0, 0)
        for layer in range(self.layers):
            learns = self.x_learns or layer > 0
            part = learning(design, dims, learns)
            whole = self.asked is None or layer < self.layers - 1
            asking = self.tokens if whole else answered
            joined = 2 * dims.heads * dims.d_value * dims.d_model * asking
            fed = 4 * dims.d_model * self.hidden * asking  # W_O before it is trained, so what is fed always learns
            found += part.itself(self.tokens) if whole else part.across(asking, self.tokens)
            found += Flops(joined, joined * (1 + part.learns)) + Flops(fed, 2 * fed)
        logits = 2 * dims.d_model * self.classes * answered
        return (found + Flops(logits, logits * (1 + self.answers_learn))) * self.batch

    def wider(self, times: int) -> Network:
        """Return the same network with so many times the width of everything, heads included in number as before."""
        d = self.dims
        dims = replace(d, d_model=d.d_model * times, d_head=d.d_head * times, d_value=d.d_value * times)
        return replace(self, dims=dims, hidden=self.hidden * times)

    def longer(self, times: int) -> Network:
        """Return the same network over so many times the tokens, asked ones included."""
        asked = None if self.asked is None else self.asked * times
        return replace(self, tokens=self.tokens * times, asked=asked, numbers=self.numbers * times)
