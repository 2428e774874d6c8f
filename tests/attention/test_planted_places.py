"""Bugs planted where people's code meets the layer, and the test that catches each."""

import pytest
import test_bad_input
import test_places
import torch

from qkvlab.attention import cache, fitting, layer
from qkvlab.designs import parse
from qkvlab.designs.projections import Projections
from qkvlab.errors import BadInput

require_memory_of = fitting.require_memory
reset_of = Projections.reset_parameters


def weights_held_from_the_start(self):
    if "held" not in vars(self):
        vars(self)["held"] = dict(self._parameters)
    return {name: vars(self)["held"][name] for name in self._names}


def starts_are_drawn_too(self):
    for weight in self.parameters():
        torch.nn.init.normal_(weight)


def nothing_is_drawn_again(self):
    if not any(weight.isnan().any() for weight in self.parameters() if not weight.is_meta):
        reset_of(self)


def every_matrix_is_followed(layer):
    return True


def widths_are_not_looked_at(memory, x, design, dims):
    if not isinstance(memory, layer.Memory):
        require_memory_of(memory, x, design, dims)


def everything_is_cast(name, x, other, whose):
    x.data = x.to(other.dtype)


def all_tokens_are_welcome(x, dims, weight):
    return None


def numbers_are_looked_at(x, dims, weight):
    if not x.isfinite().all():
        raise BadInput("x must be finite.")


PLACES, INPUT = test_places, test_bad_input
CAUGHT = (
    AssertionError,
    BadInput,
    RuntimeError,
    AttributeError,
    StopIteration,
    pytest.fail.Exception,
)  # no refusal, or no result
BUGS = [
    (PLACES.test_called_with_other_weights, "QKV", Projections, "weights", property(weights_held_from_the_start)),
    (PLACES.test_a_matrix_may_be_parametrized, "QKV", Projections, "weights", property(weights_held_from_the_start)),
    (PLACES.test_made_in_inference_mode, "QKV", cache, "can_be_followed", every_matrix_is_followed),
    (PLACES.test_built_on_meta, "QKV/qknorm", Projections, "reset_parameters", starts_are_drawn_too),
    (PLACES.test_built_on_meta, "QKV", Projections, "reset_parameters", nothing_is_drawn_again),
    (INPUT.test_memories_that_do_not_fit, "QKV", layer, "require_memory", widths_are_not_looked_at),
    (INPUT.test_memories_that_do_not_fit, "QKV", fitting, "_require_beside", everything_is_cast),
    (INPUT.test_tokens_that_do_not_fit, "QKV", fitting, "_require_beside", everything_is_cast),
    (INPUT.test_tokens_that_do_not_fit, "QKV", layer, "require_tokens", all_tokens_are_welcome),
    (INPUT.test_numbers_are_left_alone, "QKV", layer, "require_tokens", numbers_are_looked_at),
]


@pytest.mark.parametrize(
    ("judge", "name", "where", "what", "bug"), BUGS, ids=lambda part: getattr(part, "__name__", "")
)
def test_it_is_caught(judge, name, where, what, bug, monkeypatch):
    judge(parse(name))
    monkeypatch.setattr(where, what, bug)
    with pytest.raises(CAUGHT):
        judge(parse(name))
