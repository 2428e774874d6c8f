"""Equal budgets: what real modules hold and what a counter of FLOPs sees agree with those of QKV."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from qkvlab.contracts import Dims
from qkvlab.designs import Design, catalogue, parse
from qkvlab.errors import Refusal
from qkvlab.models.blocks import Block
from qkvlab.tasks import catalogue as tasks
from qkvlab.tasks import matching

D, HEADS, WIDTH, TOKENS = 24, 4, 40, 5
DIMS = Dims.of(D, HEADS)
NAMES = [*catalogue(), "QKV/kv1", "QKV/kv2", "QKK/kv2", "QQV/noself", "QKV/h3", "QKK/h3"]
Width = Callable[[Design, Dims, int, str], int]


def block(name: str, match: str, width: Width = matching.hidden) -> Block:
    design = parse(name)
    return Block(design, d_model=D, heads=HEADS, hidden=width(design, DIMS, WIDTH, match), causal=True)


def parameters(of: Block) -> int:
    return sum(p.numel() for p in of.parameters())


def flops(of: Block) -> float:
    """FLOPs per token of all products with a matrix, counted as they run; those of attention itself are left out."""
    with FlopCounterMode(display=False) as counter:
        of(torch.randn(1, TOKENS, D))
    says = of.attention.design.head_sizes(of.attention.dims)
    pairs = 2 * says.queries * TOKENS * (says.channels + says.value_channels)
    return counter.get_total_flops() / TOKENS - pairs


def equal_parameters(name: str, width: Width = matching.hidden) -> None:
    """As near as whole channels allow: one more or one fewer would not be nearer."""
    gap = parameters(block(name, "params", width)) - parameters(block("QKV", "none"))
    assert abs(gap) <= 2 * D / 2


def equal_flops(name: str, width: Width = matching.hidden) -> None:
    gap = flops(block(name, "flops", width)) - flops(block("QKV", "none"))
    assert abs(gap) <= 4 * D / 2


@pytest.mark.parametrize("name", NAMES)
def test_real_blocks_hold_equally_many_parameters(name):
    equal_parameters(name)


@pytest.mark.parametrize("name", NAMES)
def test_real_blocks_take_equally_many_flops(name):
    equal_flops(name)


@pytest.mark.parametrize("match", ["params", "flops"])
def test_the_baseline_keeps_its_width(match):
    assert matching.hidden(parse("QKV"), DIMS, WIDTH, match) == WIDTH


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_changed_unless_asked(name):
    assert matching.hidden(parse(name), DIMS, WIDTH, "none") == WIDTH


def test_a_dropped_matrix_comes_back_as_width():
    # d x d numbers are d / 2 channels of two matrices; shared matrices also run once only
    assert matching.hidden(parse("QQV"), DIMS, WIDTH, "params") == WIDTH + D // 2
    assert matching.hidden(parse("XXV"), DIMS, WIDTH, "params") == WIDTH + D
    assert matching.hidden(parse("QQV"), DIMS, WIDTH, "flops") == WIDTH + D // 2
    # one that multiplies no more than QKV and holds no more gets nothing
    assert matching.hidden(parse("frozen"), DIMS, WIDTH, "params") == WIDTH


def test_a_design_that_cannot_exist_is_refused():
    with pytest.raises(Refusal):
        matching.hidden(parse("QKV/kv3"), DIMS, WIDTH, "params")


@pytest.mark.parametrize("name", NAMES)
def test_matched_settings_of_all_tasks_build_equal_models(name):
    """Not one block but whole models, as the tasks build them."""
    found = [
        (task, setting) for task in tasks().values() for setting in task.settings() if task.match(setting) == "params"
    ]
    assert found
    for task, setting in found:
        baseline = task.model(setting, parse("QKV"))
        count = sum(p.numel() for p in task.model(setting, parse(name)).parameters())
        theirs = sum(p.numel() for p in baseline.parameters())
        d, layers = task.facts(setting)["d_model"], len(list(baseline.blocks))
        assert abs(count - theirs) <= layers * d
        assert count == task.parameters(setting, parse(name))


def blind(design: Design, dims: Dims, width: int, match: str) -> int:
    return width


def doubled(design: Design, dims: Dims, width: int, match: str) -> int:
    """The feed-forward part taken for one matrix."""
    return width + 2 * (matching.hidden(design, dims, width, match) - width)


def backwards(design: Design, dims: Dims, width: int, match: str) -> int:
    return 2 * width - matching.hidden(design, dims, width, match)


def rounded_down(design: Design, dims: Dims, width: int, match: str) -> int:
    return math.floor(matching.hidden(design, dims, width, match) - 1)


@pytest.mark.parametrize("check", [equal_parameters, equal_flops])
@pytest.mark.parametrize("bug", [blind, doubled, backwards, rounded_down])
def test_planted_widths(check, bug):
    with pytest.raises(AssertionError):
        check("QQV", bug)


@pytest.mark.parametrize("check", [equal_parameters, equal_flops])
def test_planted_output_matrix_left_out(monkeypatch, check):
    monkeypatch.setattr(matching, "joining", lambda design, dims, bias=True: 0)
    with pytest.raises(AssertionError):
        check("QKV/h3")
