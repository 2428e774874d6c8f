"""Phi-3: one linear map makes all of q, then all of k, then all of v; grouped keys, rotated in part, windows."""

from __future__ import annotations

from typing import Any

from qkvlab.contracts import Dims
from qkvlab.hf.reading import ROLES, Reading, plain
from qkvlab.hf.rotary import Rotary

MODULES = {"Phi3Attention": "phi3"}
PROJECTIONS = ("qkv_proj",)


def read(module: Any) -> Reading | None:
    """Cut the rows of the fused map."""
    fused = plain(module, "qkv_proj")
    channels, kv_heads = module.head_dim, module.num_key_value_heads
    heads = kv_heads * module.num_key_value_groups
    rows = fused.weight.detach().split([n * channels for n in (heads, kv_heads, kv_heads)])
    part = module.config.rope_parameters.get("partial_rotary_factor", 1.0)
    return Reading(
        matrices={role: matrix.T for role, matrix in zip(ROLES, rows, strict=True)},
        biases={},
        dims=Dims.of(fused.in_features, heads, channels),
        kv_heads=kv_heads,
        rotary=int(channels * part),
    )


class Rebuilt(Rotary):
    """Gives the window to the attention function."""

    def extras(self) -> dict[str, Any]:
        return {"sliding_window": getattr(self.config, "sliding_window", None)}
