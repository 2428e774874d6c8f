"""``/qknorm``: each query and key divided by its root mean square, times trained gains (Qwen3, Gemma 3).

Scores then depend on directions and gains only (Dehghani et al., arXiv 2302.05442, norm queries and keys so that scores
cannot grow without bound). ``/qknorm-eps1e-5`` sets the number that is added to the mean square.
"""

from __future__ import annotations

from dataclasses import dataclass

from qkvlab.contracts import Array, Dims, Words
from qkvlab.designs.design import Design, Matrix, Weights, rms_normed
from qkvlab.designs.turned import Role, Turned
from qkvlab.designs.ways import Way
from qkvlab.errors import BadInput

EPSILON = 1e-6


@dataclass(frozen=True)
class QKNorm(Turned):
    """The inner design with normed queries and keys; heads share the gains, q and k have their own.

    Attributes:
        epsilon: added to the mean square.
    """

    epsilon: float = EPSILON

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.epsilon < 1:
            raise BadInput(f"the epsilon of a norm must lie between 0 and 1; got {self.name}.")

    @property
    def name(self) -> str:
        option = "" if self.epsilon == EPSILON else f"-eps{self.epsilon!r}"
        return f"{self.inner.name}/qknorm{option}"

    @property
    def words(self) -> Words:
        inner = self.inner.words
        return Words(f"{inner.zh}，Q、K 归一化", f"{inner.en}; queries and keys normed")

    def matrices(self, dims: Dims) -> dict[str, Matrix]:
        gain = Matrix(1, self.head_sizes(dims).channels, start=1.0, multiplies=False)
        return {**super().matrices(dims), "q_gain": gain, "k_gain": gain}

    def turn(self, weights: Weights, heads: Array, dims: Dims, positions: Array | None, role: Role) -> Array:
        return rms_normed(heads, self.epsilon) * weights[f"{role}_gain"][0]


def _make(inner: Design, epsilon: str | None) -> Design:
    return QKNorm(inner, float(epsilon) if epsilon else EPSILON)


PART = (r"qknorm(?:-eps([0-9]+(?:\.[0-9]+)?(?:e-[0-9]+)?))?", _make)
EXAMPLES = (QKNorm(Way("QKV", 2)), QKNorm(Way("QKK"), 0.1), QKNorm(Way("QQV")))
SHOWN = (QKNorm(Way("QKV")),)
