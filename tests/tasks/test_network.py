"""The sizes a task states are those of its model: parameters, data, and the FLOPs that PyTorch counts in a step."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from qkvlab import tasks
from qkvlab.designs import parse
from qkvlab.designs.learning import Flops
from qkvlab.training import recipe
from qkvlab.training.together import Together

DESIGNS = ("QKV", "QQV", "QKK", "XKV", "XXV", "QDQ", "QQV/noself", "QKV/kv2", "QKV/rope", "frozen", "uniform")
SETTINGS = [(task.name, setting) for task in tasks.catalogue().values() for setting in task.settings()]
ONE_OF_EACH = [
    ("library", "directed-acyclic/fixed"), ("sentence", "two-layers/positions"), ("recall", "conv"), ("text", "plain")
]  # fmt: skip


def can(task, setting, design):
    heads = task.network(setting, design).dims.heads
    return heads > 1 or "/kv" not in design.name


def does(task, setting, design):
    """One step of one model, counted by PyTorch."""
    model = recipe.start(task, setting, design, 0)
    rows = task.network(setting, design).batch
    drawn = small(task).batches(setting, 0)
    inputs = [torch.from_numpy(a[0]) for a in drawn.inputs]
    assert len(inputs[0]) == rows
    model(*inputs)  # a layer watches its design once, on two tokens, before its first steps
    with FlopCounterMode(display=False) as forward:
        logits = model(*inputs)
        loss = F.cross_entropy(logits.flatten(0, -2), torch.from_numpy(drawn.targets[0]).flatten())
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    return Flops(forward.get_total_flops(), backward.get_total_flops())


def small(task):
    """The same task with few steps, since data of all of them are drawn at once."""
    steps = {f.name: 2 for f in dataclasses.fields(task) if f.name.endswith("steps")}
    return dataclasses.replace(task, **steps)


@pytest.mark.parametrize(("name", "setting"), SETTINGS, ids="-".join)
def test_a_step_takes_the_flops_that_are_said(name, setting):
    task = tasks.find(name)
    names = DESIGNS if (name, setting) in ONE_OF_EACH else ("QKV", "XXV", "frozen")
    for design in map(parse, names):
        if can(task, setting, design):
            assert task.network(setting, design).step(design) == does(task, setting, design), design


@pytest.mark.parametrize(("name", "setting"), SETTINGS, ids="-".join)
def test_parameters_are_those_of_the_model(name, setting):
    task = tasks.find(name)
    for design in map(parse, ("QKV", "XXV", "frozen", "QKV/bias")):
        model, says = task.model(setting, design), task.network(setting, design)
        assert says.parameters(design) == sum(p.numel() for p in model.parameters())
        assert says.trained(design) == sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(("name", "setting"), SETTINGS, ids="-".join)
def test_data_hold_the_numbers_that_are_said(name, setting):
    task = small(tasks.find(name))
    drawn = task.batches(setting, 0)
    steps = drawn.targets.shape[0]
    says = task.network(setting, parse("QKV"))
    assert sum(a.size for a in (*drawn.inputs, drawn.targets)) == steps * says.batch * says.numbers


def test_many_models_take_many_times_the_flops_of_one():
    """What vmap makes of a step is as much work as the models take one by one."""
    task, design = small(tasks.find("sentence")), parse("QQV")
    group = Together(task, "two-layers/positions", design, [recipe.Run(seed, 0.01) for seed in range(3)])
    group.step()
    with FlopCounterMode(display=False) as counter:
        group.step()
    assert counter.get_total_flops() == 3 * task.network("two-layers/positions", design).step(design).both


@pytest.mark.parametrize("change", [{"asked": None}, {"x_learns": False}, {"answers_learn": False}, {"hidden": 0}])
def test_a_wrong_size_is_seen(change):
    task, design = tasks.find("sentence"), parse("QKV")
    right = task.network("one-layer/positions", design)
    assert dataclasses.replace(right, **change).step(design) != right.step(design)


def test_wider_and_longer_networks_are_those_of_wider_and_longer_tasks():
    text, design = tasks.find("text"), parse("QKV")
    says = text.network("plain", design)
    wide = dataclasses.replace(text, d_model=128, hidden=256).network("plain", design)
    assert says.wider(2) == wide
    long = dataclasses.replace(text, tokens=256).network("plain", design)
    assert says.longer(4).step(design) == long.step(design)
