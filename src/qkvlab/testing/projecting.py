"""Are q, k and v what a design may make: of the right shape, token by token, the same by every door?"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from qkvlab.designs import Design
from qkvlab.designs.projections import Projections
from qkvlab.testing.sizes import BATCH, TOKENS, distance, projections, require, sizes, tokens


def shapes(design: Design) -> None:
    """q is (b, h, t, c), k is (b, g, s, c), v is (b, u, s, e) as `head_sizes` says; g and u divide h."""
    dims = sizes(design)
    says = design.head_sizes(dims)
    for name, groups in (("kv_heads", design.kv_heads(dims)), ("keys", says.keys), ("values", says.values)):
        require(says.queries % groups == 0, f"{name}={groups} must divide heads={says.queries}")
    wanted = {
        "q": (BATCH, says.queries, TOKENS, says.channels),
        "k": (BATCH, says.keys, TOKENS, says.channels),
        "v": (BATCH, says.values, TOKENS, says.value_channels),
    }
    for name, made in _qkv(projections(design, dims), tokens(dims)).items():
        got = tuple(made.shape)
        require(got == wanted[name], f"{name} must be {wanted[name]} at {dims}; got {got}")


def tokens_are_projected_alone(design: Design) -> None:
    """Changing every other token, in the sentence and in the batch, changes nothing in a token's q, k, v."""
    dims = sizes(design)
    module, x = projections(design, dims), tokens(dims)
    before = _qkv(module, x)
    for b, t in ((0, 0), (0, TOKENS - 1), (BATCH - 1, 2)):
        others = tokens(dims, seed=7)
        others[b, t] = x[b, t]
        for name, after in _qkv(module, others).items():
            gap = distance(after[b, :, t], before[name][b, :, t])
            require(gap < 1e-12, f"{name} of a token changed by {gap:.1e} when only other tokens changed")


def project_equals_ask_and_remember(design: Design) -> None:
    """Doing both at once changes neither."""
    dims = sizes(design)
    module, x = projections(design, dims), tokens(dims)
    q, memory = module.project(x)
    gap = distance(q, module.ask(x))
    require(gap < 1e-12, f"project makes another q than ask; they differ by {gap:.1e}")
    remembered = module.remember(x).kept
    names, known = list(memory.kept), list(remembered)
    require(names == known, f"project keeps {names}, remember keeps {known}")
    for name, kept in memory.kept.items():
        gap = distance(kept, remembered[name])
        require(gap < 1e-12, f"project keeps another {name} than remember; they differ by {gap:.1e}")


def saving_and_loading(design: Design) -> None:
    """A state dict, loaded into a module of another seed, gives the same q, k and v bit for bit."""
    dims = sizes(design)
    module, other, x = projections(design, dims), projections(design, dims, seed=2), tokens(dims)
    other.load_state_dict(module.state_dict())
    for name, made in _qkv(module, x).items():
        require(torch.equal(made, _qkv(other, x)[name]), f"{name} differs after state_dict was saved and loaded")


def copies_are_independent(design: Design) -> None:
    """A deep copy computes the same and shares no numbers with the original."""
    dims = sizes(design)
    module, x = projections(design, dims), tokens(dims)
    twin, before = copy.deepcopy(module), _qkv(module, x)
    for name, made in _qkv(twin, x).items():
        require(torch.equal(made, before[name]), f"a deep copy makes another {name}")
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.fill_(0.5)
    for name, made in _qkv(module, x).items():
        require(torch.equal(made, before[name]), f"{name} changed when a deep copy was changed")


def _qkv(module: Projections, x: Tensor) -> dict[str, Tensor]:
    q, memory = module.project(x)
    k, v = module.recall(memory)
    return {"q": q, "k": k, "v": v}
