"""`QKV/diff/rope` is the attention of Hugging Face's DiffLlama, with grouped heads and padding too."""

import pytest
import torch
from transformers import DiffLlamaConfig
from transformers.models.diffllama.modeling_diffllama import DiffLlamaAttention, DiffLlamaRotaryEmbedding

from qkvlab import Attention

D_MODEL, HEADS, CHANNELS = 48, 6, 4  # of HF, which counts every half as a head


def theirs(groups, layer):
    config = DiffLlamaConfig(
        hidden_size=D_MODEL,
        num_attention_heads=HEADS,
        num_key_value_heads=groups,
        head_dim=CHANNELS,
        rms_norm_eps=1e-5,
        attention_bias=False,
        attn_implementation="eager",
    )
    torch.manual_seed(0)
    return DiffLlamaAttention(config, layer).double().eval(), DiffLlamaRotaryEmbedding(config)


def columns(weight, halves):
    """(2 g c, d) with all first halves before all second ones -> (d, g 2 c)."""
    return weight.unflatten(0, (2, halves, CHANNELS)).transpose(0, 1).flatten(0, 2).T


def ours(module, groups, layer):
    attn = Attention(
        f"QKV/kv{groups // 2}/diff{layer + 1}/rope", d_model=D_MODEL, heads=HEADS // 2, d_head=2 * CHANNELS
    ).double()
    with torch.no_grad():
        attn.projections.q.copy_(columns(module.q_proj.weight, HEADS // 2))
        attn.projections.k.copy_(columns(module.k_proj.weight, groups // 2))
        attn.projections.v.copy_(columns(module.v_proj.weight, groups // 2))
        attn.out.weight.copy_(module.o_proj.weight)
        for role in ("q1", "k1", "q2", "k2"):
            getattr(attn.projections, f"l{role}").copy_(getattr(module, f"lambda_{role}")[:, None])
    return attn


@pytest.mark.parametrize("route", ["fused", "plain"])
@pytest.mark.parametrize("layer", [0, 3])
@pytest.mark.parametrize("groups", [6, 2])
def test_it_is_diffllama(groups, layer, route):
    module, rotary = theirs(groups, layer)
    attn = ours(module, groups, layer)
    attn.route = route
    x = torch.randn(2, 9, D_MODEL, dtype=torch.float64)
    at = torch.arange(9)[None].expand(2, -1)
    with torch.no_grad():
        cos, sin = rotary(x.float(), at)  # their tables have single precision
        causal = torch.full((9, 9), -torch.inf, dtype=torch.float64).triu(1)
        wanted, _ = module(x, (cos.double(), sin.double()), causal)
        torch.testing.assert_close(attn(x, causal=True), wanted, rtol=0, atol=1e-6)
        real = torch.arange(9) < torch.tensor([9, 5])[:, None]
        hidden = causal.masked_fill(~real[:, None, None], -torch.inf)
        wanted, _ = module(x, (cos.double(), sin.double()), hidden)
        torch.testing.assert_close(attn(x, causal=True, padding=real), wanted, rtol=0, atol=1e-6)
