"""The contract of a design, for authors inside and outside this package.

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_my_design(check):
        check(MyDesign())

Each check raises `AssertionError` with a text that says what was found and what to do.
"""

from __future__ import annotations

from collections.abc import Callable

from qkvlab.designs import Design
from qkvlab.testing import attending, costs, decoding, learning, packing, projecting, recipe
from qkvlab.testing.sizes import sizes

__all__ = ["CHECKS", "Check", "check_design", "sizes"]

Check = Callable[[Design], None]

CHECKS: tuple[Check, ...] = (
    recipe.frozen_and_hashable,
    recipe.name_parses_back,
    recipe.words_in_both_languages,
    recipe.refusals_name_the_numbers,
    costs.parameters_equal_cost,
    costs.flops_equal_cost,
    costs.layer_equals_cost,
    costs.cache_equals_cost,
    costs.each_matrix_is_used_once,
    projecting.shapes,
    projecting.tokens_are_projected_alone,
    projecting.project_equals_ask_and_remember,
    projecting.saving_and_loading,
    projecting.copies_are_independent,
    attending.attends_as_defined,
    attending.routes_agree,
    attending.the_future_changes_nothing,
    attending.padding_may_hold_anything,
    attending.seeing_nothing_gives_zero,
    packing.packed_texts_are_alone,
    packing.nested_texts_are_alone,
    decoding.steps_equal_all_at_once,
    decoding.decoding_holds_what_cost_says,
    decoding.decoded_rows_are_alone,
    decoding.what_is_forgotten_is_gone,
    learning.gradients_are_right,
    learning.gradients_reach_every_trained_matrix,
    learning.many_at_once_equal_each_alone,
    learning.other_precisions,
)


def check_design(design: Design) -> None:
    """Judge a design by the whole contract.

    Raises:
        AssertionError: the first check that fails, with the design's name, the check's name and what to do.

    >>> from qkvlab.designs import parse
    >>> check_design(parse("QQV"))
    """
    for check in CHECKS:
        try:
            check(design)
        except AssertionError as problem:
            raise AssertionError(f"{design}: {check.__name__}: {problem}") from problem
