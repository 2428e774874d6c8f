"""Ways to change the weights of a layer behind its back."""

import torch


def written_in_place(layer):
    layer.projections.q.mul_(2)


def written_through_data(layer):
    layer.projections.k.data.mul_(2)


def given_other_data(layer):
    layer.projections.v.data = 2 * layer.projections.v.data


def optimised(layer):
    for weight in layer.parameters():
        weight.grad = torch.ones_like(weight)
    torch.optim.AdamW(layer.parameters(), lr=0.1).step()


def loaded(layer):
    layer.load_state_dict({name: 2 * weight for name, weight in layer.state_dict().items()})


def assigned(layer):
    layer.load_state_dict({name: 2 * weight for name, weight in layer.state_dict().items()}, assign=True)


def replaced(layer):
    layer.projections.k = torch.nn.Parameter(2 * layer.projections.k)
