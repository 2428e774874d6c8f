"""GPT-2: one `Conv1D`, which stores its matrix as it stands to the right of x, makes q, k and v side by side."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.pytorch_utils import Conv1D

from qkvlab.contracts import Dims
from qkvlab.hf.reading import ROLES, Reading, plain
from qkvlab.hf.shared import Shared

MODULES = {"GPT2Attention": "gpt2"}
PROJECTIONS = ("c_attn",)


def read(module: Any) -> Reading | None:
    """Read c_attn; cross-attention is left alone."""
    if module.is_cross_attention:
        return None
    fused = plain(module, "c_attn", Conv1D)
    matrices = fused.weight.detach().chunk(3, dim=-1)
    biases = fused.bias.detach().chunk(3)
    return Reading(
        matrices=dict(zip(ROLES, matrices, strict=True)),
        biases=dict(zip(ROLES, biases, strict=True)),
        dims=Dims.of(module.embed_dim, module.num_heads),
        kv_heads=module.num_heads,
    )


class Rebuilt(Shared):
    """Called with hidden states, cache and mask; output and residual dropout are the model's."""

    def forward(
        self, hidden_states: Tensor, cache: Any = None, attention_mask: Tensor | None = None, **more: Any
    ) -> tuple[Tensor, Tensor | None]:
        """(b, t, d) -> (b, t, d) and weights (b, h, t, s) where the attention function gives them."""
        cache = more.pop("past_key_values", cache)
        q, k, v = self.made(hidden_states, getattr(cache, "self_attention_cache", cache))
        if self.reorder_and_upcast_attn and self.config._attn_implementation == "eager":
            out, weights = self._upcast_and_reordered_attn(q, k, v, attention_mask)
            out = out.flatten(-2)
        else:
            out, weights = self.attended(q, k, v, attention_mask, dropout=self.attn_dropout.p, **more)
        return self.resid_dropout(self.c_proj(out)), weights
