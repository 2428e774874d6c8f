"""BERT and its kin: three linear maps with biases; the output matrix stands in the module around it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from qkvlab.contracts import Dims
from qkvlab.hf.reading import Reading, read_linears
from qkvlab.hf.shared import Shared

MODULES = {
    "BertSelfAttention": "bert",
    "RobertaSelfAttention": "roberta",
    "XLMRobertaSelfAttention": "xlm-roberta",
    "CamembertSelfAttention": "camembert",
    "ElectraSelfAttention": "electra",
}
PROJECTIONS = ("query", "key", "value")


def read(module: Any) -> Reading | None:
    """Read query, key and value."""
    heads = module.num_attention_heads
    dims = Dims.of(module.query.in_features, heads, module.attention_head_size)
    return read_linears(module, PROJECTIONS, dims=dims, kv_heads=heads, rotary=0)


class Rebuilt(Shared):
    """Called with hidden states, mask and cache."""

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, cache: Any = None, **more: Any
    ) -> tuple[Tensor, Tensor | None]:
        """(b, t, d) -> what the heads brought, (b, t, h * c), and weights where the attention function gives them."""
        cache = more.pop("past_key_values", cache)
        q, k, v = self.made(hidden_states, getattr(cache, "self_attention_cache", cache))
        return self.attended(q, k, v, attention_mask, dropout=self.dropout.p, **more)
