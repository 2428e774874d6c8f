"""``/bias``: a number added behind each matrix and behind W_O (BERT, GPT-2); ``/biasqkv``: not behind W_O (Qwen2).

A matrix that two of q, k and v share has one bias. Behind the keys of a plain softmax it changes nothing, since every
score of a query grows alike; a norm, a rotation, a cap, a sink or a bias shared with q gives it a meaning.
"""

from __future__ import annotations

from dataclasses import dataclass

from qkvlab.contracts import Dims, Words
from qkvlab.designs.around import Around
from qkvlab.designs.design import Design, Matrix
from qkvlab.designs.ways import Way
from qkvlab.errors import Refusal


@dataclass(frozen=True)
class Bias(Around):
    """The inner design, each of whose products with x has a bias.

    Attributes:
        behind_out: whether W_O has one too.
    """

    behind_out: bool = True

    @property
    def name(self) -> str:
        return f"{self.inner.name}/bias{'' if self.behind_out else 'qkv'}"

    @property
    def words(self) -> Words:
        inner = self.inner.words
        if self.behind_out:
            return Words(f"{inner.zh}，带偏置", f"{inner.en}; with biases")
        return Words(f"{inner.zh}，Q、K、V 带偏置", f"{inner.en}; with biases on Q, K and V")

    @property
    def out_bias(self) -> bool:
        return self.behind_out

    def matrices(self, dims: Dims) -> dict[str, Matrix]:
        found = super().matrices(dims)
        products = self.products(dims)
        if not products and not self.behind_out:
            raise Refusal(f"{self.inner.name} has no matrix at d_model={dims.d_model} that a bias could stand behind.")
        for name in products:
            matrix = found[name]
            found[f"{name}_bias"] = Matrix(1, matrix.columns, trained=matrix.trained, start=0.0, multiplies=False)
        return found


def _make(inner: Design, only: str | None) -> Design:
    return Bias(inner, behind_out=not only)


PART = (r"bias(qkv)?", _make)
EXAMPLES = (Bias(Way("QKV")), Bias(Way("QKK", 2), behind_out=False), Bias(Way("QQV")))
SHOWN = (Bias(Way("QKV")), Bias(Way("QKV"), behind_out=False))
