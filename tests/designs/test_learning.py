"""What a training step of a layer takes is what PyTorch's counter finds, forward and backward, for every design."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from qkvlab import Attention, Dims
from qkvlab.designs import examples, parse
from qkvlab.designs.counting import Counted, Tally
from qkvlab.designs.learning import Flops, learning
from qkvlab.testing import sizes

ASKING, KEPT = 5, 7


def counted(call):
    with FlopCounterMode(display=False) as counter:
        made = call()
    return made, counter.get_total_flops()


def says(layer, x_learns, across):
    dims, found = layer.dims, learning(layer.design, layer.dims, x_learns)
    tokens = ASKING if across else KEPT
    out = 2 * dims.heads * dims.d_value * dims.d_model * tokens
    return (found.across(ASKING, KEPT) if across else found.itself(KEPT)) + Flops(out, out * (1 + found.learns))


def does(layer, x_learns, across):
    x, y = (torch.randn(1, n, layer.dims.d_model, requires_grad=x_learns) for n in (KEPT, ASKING))
    made, forward = counted(lambda: layer(y, layer.remember(x)) if across else layer(x))
    return Flops(forward, counted(made.sum().backward)[1])


def layer_of(design):
    dims = sizes(design)
    return Attention(
        design, d_model=dims.d_model, heads=dims.heads, d_head=dims.d_head, d_value=dims.d_value, route="plain"
    )


@pytest.mark.parametrize("across", [False, True], ids=["itself", "across"])
@pytest.mark.parametrize("x_learns", [False, True], ids=["given", "trained"])
@pytest.mark.parametrize("design", examples().values(), ids=str)
def test_a_step_costs_what_the_layer_does(design, x_learns, across):
    layer = layer_of(design)
    assert says(layer, x_learns, across) == does(layer, x_learns, across)


@pytest.mark.parametrize("design", ["QKV", "QKV/rope", "frozen", "uniform"])
def test_the_comparison_sees_a_missing_gradient(design, monkeypatch):
    """Arrays that forget what learns are found out."""
    layer = layer_of(parse(design))
    right = does(layer, True, False)
    monkeypatch.setattr(Counted, "learns", property(lambda self: False, lambda self, value: None), raising=False)
    learning.cache_clear()
    assert says(layer, True, False) != right
    monkeypatch.undo()
    learning.cache_clear()
    assert says(layer, True, False) == right


def test_what_is_never_trained_takes_no_gradient():
    dims = Dims.of(16, 2)
    assert learning(parse("frozen"), dims, False).pair.backward < learning(parse("QKV"), dims, False).pair.backward
    assert learning(parse("XXV"), dims, False).ask == Flops(0, 0)


def test_concatenations_keep_what_learns():
    a, b = Tally().zeros(1, 2, learns=True), Tally().zeros(1, 2)
    assert np.concatenate([b, a], -1).learns and not np.concatenate([b, b], -1).learns
    assert np.stack([b, a], -1).reshape(-1).learns
