"""A test must be able to fail: designs with planted bugs, and the check of the contract that catches each."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from qkvlab.contracts import Memory, Words
from qkvlab.designs import Design, Way
from qkvlab.designs.design import split_heads
from qkvlab.designs.frozen import Frozen
from qkvlab.designs.projections import Projections
from qkvlab.designs.signed import Signed
from qkvlab.designs.uniform import Uniform
from qkvlab.errors import BadInput
from qkvlab.testing import CHECKS

QKV, QQV, QKK = Way("QKV"), Way("QQV"), Way("QKK")


@dataclass(frozen=True)
class KeysAndValuesSwapped(Way):
    def recall(self, weights, memory, dims):
        k, v = super().recall(weights, memory, dims)
        return v, k


@dataclass(frozen=True)
class HeadsBeforeTokens(Way):
    def ask(self, weights, x, dims, positions):
        return super().ask(weights, x, dims, positions).swapaxes(-3, -2)


@dataclass(frozen=True)
class SharedMatrixUsedTwice(Way):
    def project(self, weights, x, dims, positions):
        return Design.project(self, weights, x, dims, positions)


@dataclass(frozen=True)
class MemoryKeepsADuplicate(Way):
    def remember(self, weights, x, dims, positions):
        kept = x @ weights["k"]
        return Memory({"k": kept, "v": 1 * kept}, positions)

    def recall(self, weights, memory, dims):
        return split_heads(memory.kept["k"], dims.heads), split_heads(memory.kept["v"], dims.heads)


@dataclass(frozen=True)
class MemoryKeepsInVain(Way):
    def remember(self, weights, x, dims, positions):
        return Memory({**super().remember(weights, x, dims, positions).kept, "x": x}, positions)


@dataclass(frozen=True)
class CostForgetsTheCache(Way):
    def cost(self, dims):
        return replace(super().cost(dims), cache_per_token=dims.heads * dims.d_head)


@dataclass(frozen=True)
class CostCountsAMatrixTwice(Way):
    def cost(self, dims):
        extra = dims.d_model * dims.heads * dims.d_head
        return replace(super().cost(dims), parameters=super().cost(dims).parameters + extra)


@dataclass(frozen=True)
class CostCountsOneFlopPerMultiplyAdd(Way):
    def cost(self, dims):
        return replace(super().cost(dims), flops_per_token=super().cost(dims).parameters)


@dataclass(frozen=True)
class ProductThatIsNotCounted(Way):
    def finish(self, weights, heads, dims, like=None):
        return heads if isinstance(heads, np.ndarray) else heads @ heads.new_ones(dims.d_value, dims.d_value)


@dataclass(frozen=True)
class NeighbourLeaks(Way):
    def remember(self, weights, x, dims, positions):
        before = x.roll(1, -2) if hasattr(x, "roll") else x
        return super().remember(weights, x + 1e-6 * before, dims, positions)


@dataclass(frozen=True)
class BatchLeaks(Way):
    def ask(self, weights, x, dims, positions):
        return super().ask(weights, x - x.mean(0, keepdim=True), dims, positions)


@dataclass(frozen=True)
class ProjectForgetsTheSigns(Signed):
    def project(self, weights, x, dims, positions):
        return QQV.project(weights, x, dims, positions)


@dataclass(frozen=True)
class QueryIsCutOffTheGraph(Way):
    def ask(self, weights, x, dims, positions):
        return super().ask(weights, x, dims, positions).detach()


@dataclass(frozen=True)
class MatrixIsNeverLearned(Way):
    def recall(self, weights, memory, dims):
        k, v = super().recall(weights, memory, dims)
        return k * 0, v


@dataclass(frozen=True)
class FrozenIsTrained(Frozen):
    def build(self, dims):
        module = super().build(dims)
        for parameter in module.parameters():
            parameter.requires_grad_(True)
        return module


@dataclass(frozen=True)
class AlwaysDoublePrecision(Uniform):
    def recall(self, weights, memory, dims):
        k, v = super().recall(weights, memory, dims)
        return k.double(), v.double()


@dataclass(frozen=True)
class RandomAtEveryCall(Way):
    def ask(self, weights, x, dims, positions):
        return super().ask(weights, x, dims, positions) + x.new_empty(1).normal_()


@dataclass(frozen=True)
class OneKeyHeadTooFew(Way):
    def kv_heads(self, dims):
        return dims.heads - 1

    def matrices(self, dims):
        return QKV.matrices(dims)

    def recall(self, weights, memory, dims):
        return QKV.recall(weights, memory, dims)


@dataclass(frozen=True)
class BranchesOnNumbers(Way):
    def ask(self, weights, x, dims, positions):
        q = super().ask(weights, x, dims, positions)
        return q if float(q.detach().sum()) > 0 else -q


class SharedByCopies(Projections):
    def __deepcopy__(self, memo):
        return self


@dataclass(frozen=True)
class CopiesShareTheirNumbers(Way):
    def build(self, dims):
        return SharedByCopies(self, dims)


@dataclass(frozen=True)
class SilentRefusal(Way):
    def matrices(self, dims):
        try:
            return super().matrices(dims)
        except BadInput as problem:
            raise type(problem)("these sizes do not work") from problem


@dataclass(frozen=True)
class NameOfAnother(Way):
    @property
    def name(self):
        return "QQQ"


@dataclass(frozen=True)
class OnlyEnglish(Way):
    @property
    def words(self):
        return Words("one matrix", "one matrix")


class Changeable(Way):
    __setattr__ = object.__setattr__


class Unequal(Way):
    __eq__ = object.__eq__
    __hash__ = object.__hash__


BUGS = [
    ("shapes", KeysAndValuesSwapped("QKV")),
    ("shapes", HeadsBeforeTokens("QKV")),
    ("shapes", OneKeyHeadTooFew("QKV")),
    ("each_matrix_is_used_once", SharedMatrixUsedTwice("QQV")),
    ("flops_equal_cost", SharedMatrixUsedTwice("QQV")),
    ("flops_equal_cost", CostCountsOneFlopPerMultiplyAdd("QKV")),
    ("parameters_equal_cost", CostCountsAMatrixTwice("QKV")),
    ("parameters_equal_cost", FrozenIsTrained()),
    ("layer_equals_cost", CostCountsAMatrixTwice("QKV")),
    ("layer_equals_cost", ProductThatIsNotCounted("QKV")),
    ("cache_equals_cost", CostForgetsTheCache("QKV")),
    ("cache_equals_cost", MemoryKeepsADuplicate("QKK")),
    ("cache_equals_cost", MemoryKeepsInVain("QKV")),
    ("tokens_are_projected_alone", NeighbourLeaks("QKV")),
    ("tokens_are_projected_alone", BatchLeaks("QKV")),
    ("the_future_changes_nothing", NeighbourLeaks("QKV")),
    ("project_equals_ask_and_remember", ProjectForgetsTheSigns()),
    ("project_equals_ask_and_remember", RandomAtEveryCall("QKV")),
    ("saving_and_loading", RandomAtEveryCall("QKV")),
    ("copies_are_independent", CopiesShareTheirNumbers("QKV")),
    ("many_at_once_equal_each_alone", BranchesOnNumbers("QKV")),
    ("gradients_are_right", QueryIsCutOffTheGraph("QKV")),
    ("gradients_reach_every_trained_matrix", QueryIsCutOffTheGraph("QKV")),
    ("gradients_reach_every_trained_matrix", MatrixIsNeverLearned("QKV")),
    ("gradients_reach_every_trained_matrix", FrozenIsTrained()),
    ("other_precisions", AlwaysDoublePrecision()),
    ("refusals_name_the_numbers", SilentRefusal("XXX")),
    ("name_parses_back", NameOfAnother("QKV")),
    ("words_in_both_languages", OnlyEnglish("QKV")),
    ("frozen_and_hashable", Changeable("QKV")),
    ("frozen_and_hashable", Unequal("QKV")),
]
JUDGES = {check.__name__: check for check in CHECKS}


@pytest.mark.parametrize(("judge", "bug"), BUGS, ids=lambda part: getattr(type(part), "__name__", part))
def test_the_contract_catches_it(judge, bug):
    with pytest.raises(AssertionError) as caught:
        JUDGES[judge](bug)
    assert str(caught.value), "a failing check says what it found"


def test_every_check_of_a_design_has_caught_something():
    of_designs = {
        check.__name__ for check in CHECKS if not check.__module__.endswith((".attending", ".decoding", ".packing"))
    }
    assert of_designs <= {judge for judge, _ in BUGS}
