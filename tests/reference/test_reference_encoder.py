"""The encoder in NumPy is the module's own mathematics: to rounding, for every design, and not for a broken one."""

import numpy as np
import pytest
import torch

from qkvlab import designs
from qkvlab.models.encoder import Encoder as Module
from qkvlab.reference import Encoder

SIZES = {"words": 11, "nouns": 5, "roles": 2, "d_model": 12, "heads": 3, "hidden": 7}
TOKENS, REAL = [4, 9, 1, 10, 3, 0, 0], 5


def both(name, *, layers=2, tokens=7, plant=lambda state: None):
    torch.manual_seed(3)
    module = Module(designs.parse(name), layers=layers, tokens=tokens, **SIZES).double()
    state = {n: w.detach().numpy() for n, w in module.state_dict().items()}
    plant(state)
    return module, Encoder(name, state, heads=3, roles=2)


def gap(module, twin):
    """The largest difference in weights, scores of real tokens, and names."""
    sentence = torch.tensor([TOKENS])
    with torch.no_grad():
        weights = module.weights(sentence)[:, 0]
        names = module(sentence, torch.arange(REAL)[None])[0]
    got = twin.understand(TOKENS, np.array(TOKENS) != 0)
    between = [abs(w.numpy() - steps.weights).max() for w, steps in zip(weights, got.layers, strict=True)]
    return max(*between, abs(names.numpy() - got.logits[:REAL]).max())


NAMES = [*designs.catalogue(), "QQV/noself", "QKV/kv1", "QKV/h5"]


@pytest.mark.parametrize("name", NAMES)
def test_it_agrees_with_the_module(name):
    assert gap(*both(name)) < 1e-12


@pytest.mark.parametrize(("layers", "tokens"), [(1, 7), (2, 0), (3, 9)])
def test_any_depth_with_and_without_positions(layers, tokens):
    assert gap(*both("QKV", layers=layers, tokens=tokens)) < 1e-12


def without_padding(twin):
    return twin.understand(TOKENS[:REAL])


def test_padding_changes_nothing():
    _, twin = both("QQV")
    padded, bare = twin.understand(TOKENS, np.array(TOKENS) != 0), without_padding(twin)
    np.testing.assert_allclose(padded.logits[:REAL], bare.logits, atol=1e-14)
    assert not padded.layers[1].weights[..., REAL:].any()


def exchange_layers(state):
    for name in [n for n in state if n.startswith("blocks.0.attention")]:
        other = name.replace("blocks.0", "blocks.1")
        state[name], state[other] = state[other], state[name]


def turn_out(state):
    state["blocks.1.attention.out.weight"] = state["blocks.1.attention.out.weight"].T


def shift_positions(state):
    state["positions"] = np.roll(state["positions"], 1, axis=0)


def mix_roles(state):
    state["names.weight"] = state["names.weight"].reshape(5, 2, -1).swapaxes(0, 1).reshape(10, -1)


def exchange_keys_and_values(state):
    k, v = "blocks.0.attention.projections.k", "blocks.0.attention.projections.v"
    state[k], state[v] = state[v], state[k]


@pytest.mark.parametrize(
    "plant", [exchange_layers, turn_out, shift_positions, mix_roles, exchange_keys_and_values], ids=lambda f: f.__name__
)
def test_planted_bugs_show(plant):
    assert gap(*both("QKV", plant=plant)) > 1e-3


def test_half_precision_is_read_and_not_summed_in():
    module, _ = both("QKV")
    state = {n: w.detach().numpy().astype(np.float16) for n, w in module.state_dict().items()}
    got = Encoder("QKV", state, heads=3, roles=2).understand(TOKENS[:REAL])
    assert got.logits.dtype == np.float32 and got.layers[0].scores.dtype == np.float32
