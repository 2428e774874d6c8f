"""Every example of every design, found and not listed, keeps the contract; an outside design can too."""

from dataclasses import dataclass

import pytest

from qkvlab.contracts import Dims, Memory, Words
from qkvlab.designs import Design, Matrix, examples
from qkvlab.designs.design import split_heads
from qkvlab.errors import Refusal
from qkvlab.testing import CHECKS, check_design, sizes


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("design", examples().values(), ids=str)
def test_every_example_keeps_the_contract(design, check):
    check(design)


def test_sizes_are_as_different_as_the_design_admits():
    assert sizes(examples()["QKV"]) == Dims(d_model=18, heads=4, d_head=6, d_value=10)
    assert sizes(examples()["QKX"]) == Dims(d_model=40, heads=4, d_head=6, d_value=10)
    assert sizes(examples()["XXX"]) == Dims(d_model=24, heads=4, d_head=6, d_value=6)


@dataclass(frozen=True)
class LowRankQuery(Design):
    """A design of somebody else: q = x A B through ``rank`` channels; k and v have their own matrices."""

    rank: int

    @property
    def name(self):
        return f"low-rank-query-{self.rank}"

    @property
    def words(self):
        return Words(f"Q 的矩阵秩为 {self.rank}", f"a query matrix of rank {self.rank}")

    def kv_heads(self, dims):
        return dims.heads

    def matrices(self, dims):
        if self.rank > dims.d_model:
            raise Refusal(f"rank must be at most d_model; got rank={self.rank}, d_model={dims.d_model}.")
        return {
            "down": Matrix(dims.d_model, self.rank),
            "up": Matrix(self.rank, dims.heads * dims.d_head),
            "k": Matrix(dims.d_model, dims.heads * dims.d_head),
            "v": Matrix(dims.d_model, dims.heads * dims.d_value),
        }

    def ask(self, weights, x, dims, positions):
        return split_heads(x @ weights["down"] @ weights["up"], dims.heads)

    def remember(self, weights, x, dims, positions):
        return Memory({"k": x @ weights["k"], "v": x @ weights["v"]}, positions)

    def recall(self, weights, memory, dims):
        return split_heads(memory.kept["k"], dims.heads), split_heads(memory.kept["v"], dims.heads)


def test_a_design_from_outside_can_keep_the_contract():
    check_design(LowRankQuery(rank=3))


@dataclass(frozen=True)
class Wordless(LowRankQuery):
    @property
    def words(self):
        return Words("", "")


def test_the_contract_says_which_design_and_which_check_failed():
    with pytest.raises(AssertionError, match=r"^low-rank-query-3: words_in_both_languages: words must not be"):
        check_design(Wordless(rank=3))


def test_a_design_that_refuses_everything_is_told_so():
    with pytest.raises(AssertionError, match=r"refuses every size.*rank must be at most d_model"):
        sizes(LowRankQuery(rank=10**6))
