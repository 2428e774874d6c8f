"""``/rank8``: every matrix of the inner design is a product, W = down up, through 8 channels.

What a matrix of full size could say with fewer numbers: r (d_model + columns) instead of d_model columns. As the rank
comes to d_model, every W can be written so (Bhojanapalli et al., arXiv 2002.07028, on heads that are too narrow to).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from qkvlab.contracts import Dims, Words
from qkvlab.designs.around import Around
from qkvlab.designs.design import Matrix
from qkvlab.designs.ways import Way
from qkvlab.errors import BadInput, Refusal


@dataclass(frozen=True)
class LowRank(Around):
    """The inner design, through whose matrices x passes by way of few channels.

    Attributes:
        rank: channels between the two factors.
    """

    rank: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rank < 1:
            raise BadInput(f"a rank must be at least 1; got /rank{self.rank}.")

    @property
    def name(self) -> str:
        return f"{self.inner.name}/rank{self.rank}"

    @property
    def words(self) -> Words:
        inner = self.inner.words
        return Words(f"{inner.zh}，矩阵的秩为 {self.rank}", f"{inner.en}; matrices of rank {self.rank}")

    def matrices(self, dims: Dims) -> dict[str, Matrix]:
        found = super().matrices(dims)
        products = self.products(dims)
        if not products:
            raise Refusal(
                f"{self.inner.name} has no matrix at d_model={dims.d_model} that /rank{self.rank} could split."
            )
        for name in products:
            matrix = found[name]
            most = min(matrix.rows, matrix.columns)
            if self.rank > most:
                raise Refusal(
                    f"the matrix {name} is {matrix.rows} x {matrix.columns} at d_model={dims.d_model}, so its rank is "
                    f"at most {most}; got /rank{self.rank}."
                )
            found[f"{name}_down"] = Matrix(matrix.rows, self.rank, trained=matrix.trained)
            found[name] = replace(matrix, rows=self.rank)
        return found


PART = (r"rank([0-9]{1,5})", lambda inner, rank: LowRank(inner, int(rank)))
EXAMPLES = (LowRank(Way("QKV", 2), 3), LowRank(Way("QKK"), 4))
SHOWN = (LowRank(Way("QKV"), 64),)
