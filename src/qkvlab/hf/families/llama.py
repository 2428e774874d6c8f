"""Llama and models with its attention: three linear maps, grouped keys, rotated heads, some normed or windowed.

Mistral adds a window; Qwen 2 biases and a window; Qwen 3 norms of queries and keys; gpt-oss sinks.
"""

from __future__ import annotations

from typing import Any

from qkvlab.contracts import Dims
from qkvlab.hf.reading import Reading, read_linears
from qkvlab.hf.rotary import Rotary

MODULES = {
    "LlamaAttention": "llama",
    "MistralAttention": "mistral",
    "Qwen2Attention": "qwen2",
    "Qwen3Attention": "qwen3",
    "GptOssAttention": "gpt_oss",
}
PROJECTIONS = ("q_proj", "k_proj", "v_proj")


def read(module: Any) -> Reading | None:
    """Read q_proj, k_proj and v_proj."""
    width, channels = module.q_proj.in_features, module.head_dim
    dims = Dims.of(width, module.q_proj.out_features // channels, channels)
    kv_heads = module.k_proj.out_features // channels
    return read_linears(module, PROJECTIONS, dims=dims, kv_heads=kv_heads, rotary=channels)


class Rebuilt(Rotary):
    """Gives windows and sinks to the attention function."""

    def extras(self) -> dict[str, Any]:
        window = getattr(self, "sliding_window", getattr(self.config, "sliding_window", None))
        sinks = getattr(self, "sinks", None)
        return {} if window is None and sinks is None else {"sliding_window": window, "s_aux": sinks}
