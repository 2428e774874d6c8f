"""GPT-NeoX and Pythia: one linear map makes q, k and v, head by head: [q k v] of the first head, then of the next."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from qkvlab.contracts import Dims
from qkvlab.hf.reading import ROLES, Reading, Role, plain
from qkvlab.hf.rotary import Rotary

MODULES = {"GPTNeoXAttention": "gpt_neox"}
PROJECTIONS = ("query_key_value",)


def read(module: Any) -> Reading | None:
    """Take the blocks of the fused map apart."""
    fused = plain(module, "query_key_value")
    channels = module.head_size
    heads = fused.out_features // (3 * channels)
    rows = fused.weight.detach().unflatten(0, (heads, 3, channels))  # (h, 3, c, d)
    biases: dict[Role, Tensor] = {}
    if fused.bias is not None:
        cut = fused.bias.detach().unflatten(0, (heads, 3, channels))
        biases = {role: cut[:, at].flatten() for at, role in enumerate(ROLES)}
    return Reading(
        matrices={role: rows[:, at].flatten(0, 1).T for at, role in enumerate(ROLES)},
        biases=biases,
        dims=Dims.of(fused.in_features, heads, channels),
        kv_heads=heads,
        rotary=module.rotary_ndims,
    )


class Rebuilt(Rotary):
    """The output matrix is called dense."""

    OUT = "dense"
