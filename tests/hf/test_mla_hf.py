"""MLA equals the attention of DeepSeek-V2 and V3 in Hugging Face transformers, every parameter drawn anew.

Their norms and, in V2, their rotations are done in float32 whatever comes in, so float64 agrees to float32's rounding.
"""

import math

import pytest
import torch
from transformers.models.deepseek_v2 import configuration_deepseek_v2, modeling_deepseek_v2
from transformers.models.deepseek_v3 import configuration_deepseek_v3, modeling_deepseek_v3

from qkvlab import Attention
from qkvlab.designs import parse

V2 = (configuration_deepseek_v2.DeepseekV2Config, modeling_deepseek_v2, "DeepseekV2")
V3 = (configuration_deepseek_v3.DeepseekV3Config, modeling_deepseek_v3, "DeepseekV3")
MODEL, HEADS, LATENT, ASKED, STILL, TURNED, VALUE = 20, 5, 11, 7, 6, 8, 10
BATCH, TOKENS = 2, 9
PLAIN = {"rope_type": "default", "rope_theta": 10000.0}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 40,
    "original_max_position_embeddings": 64,
    "beta_fast": 32,
    "beta_slow": 1,
}


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def theirs(version, rope, asked):
    """Their layer and its rotations, in float64."""
    config_of, modeling, label = version
    config = config_of(
        hidden_size=MODEL,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        kv_lora_rank=LATENT,
        q_lora_rank=ASKED if asked else None,
        qk_nope_head_dim=STILL,
        qk_rope_head_dim=TURNED,
        v_head_dim=VALUE,
        max_position_embeddings=4096,
        rope_parameters=dict(rope),
        attn_implementation="eager",
    )
    layer = getattr(modeling, f"{label}Attention")(config, 0).double().eval()
    with torch.no_grad():
        for number, parameter in enumerate(layer.parameters()):
            parameter.copy_(
                draw(*parameter.shape, seed=number) / math.sqrt(parameter.shape[-1]) ** (parameter.ndim - 1)
            )
    return layer, getattr(modeling, f"{label}RotaryEmbedding")(config)


def ours(name, layer, route):
    """Our layer with their weights: what they fuse, one matrix for each part here."""
    made = Attention(name, d_model=MODEL, heads=HEADS, d_head=STILL, d_value=VALUE, route=route).double()
    state = layer.state_dict()
    down = state["kv_a_proj_with_mqa.weight"]
    up = state["kv_b_proj.weight"].unflatten(0, (HEADS, STILL + VALUE))
    asked = state["q_b_proj.weight" if "q_b_proj.weight" in state else "q_proj.weight"]
    asked = asked.unflatten(0, (HEADS, STILL + TURNED))
    rows = {
        "dkv": down[:LATENT],
        "kr": down[LATENT:],
        "dkv_gain": state["kv_a_layernorm.weight"][:, None],
        "uk": up[:, :STILL].flatten(0, 1),
        "uv": up[:, STILL:].flatten(0, 1),
        "q": asked[:, :STILL].flatten(0, 1),
        "qr": asked[:, STILL:].flatten(0, 1),
    }
    if "q_a_proj.weight" in state:
        rows |= {"dq": state["q_a_proj.weight"], "dq_gain": state["q_a_layernorm.weight"][:, None]}
    weights = {f"projections.{name}": weight.T for name, weight in rows.items()}
    made.load_state_dict({**weights, "out.weight": state["o_proj.weight"]})
    return made


CASES = {
    "plain": (PLAIN, ""),
    "base": (PLAIN | {"rope_theta": 500.0}, "-base500"),
    "V2's yarn": (
        YARN | {"mscale": 0.707, "mscale_all_dim": 0.707},
        f"-yarn-by40-of64-gain{0.1 * 0.707 * math.log(40) + 1:.12f}",
    ),
    "V3's yarn": (YARN | {"mscale": 1.0, "mscale_all_dim": 1.0}, "-yarn-by40-of64"),
}


@pytest.mark.parametrize("asked", [False, True], ids=["q", "q_lora"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("version", [V2, V3], ids=["V2", "V3"])
def test_ours_is_theirs(version, case, asked):
    rope, options = CASES[case]
    layer, rotary = theirs(version, rope, asked)
    name = f"MLA{LATENT}{f'q{ASKED}' if asked else ''}/rope{TURNED}{options}"
    x = draw(BATCH, TOKENS, MODEL, seed=50)
    future = torch.full((TOKENS, TOKENS), -math.inf, dtype=torch.float64).triu(1)[None, None]
    for at in (torch.arange(TOKENS), torch.tensor([0, 1, 2, 5, 6, 7, 30, 31, 200])):
        with torch.no_grad():
            wanted, shares = layer(
                hidden_states=x, attention_mask=future, position_embeddings=rotary(x, at[None].expand(BATCH, -1))
            )
        for route in ("plain", "fused"):
            mine = ours(name, layer, route)
            torch.testing.assert_close(mine(x, causal=True, positions=at), wanted, rtol=0, atol=1e-6)
        weights = mine.trace(x, causal=True, positions=at).weights
        torch.testing.assert_close(weights, shares, rtol=0, atol=1e-6)
    assert shares.std() > 0.1, "attention is not nearly uniform, so that a wrong scale would show"


@pytest.mark.parametrize("version", [V2, V3], ids=["V2", "V3"])
def test_decoding_absorbed_is_their_attention_of_all_at_once(version):
    layer, rotary = theirs(version, PLAIN, True)
    x = draw(BATCH, TOKENS, MODEL, seed=50)
    future = torch.full((TOKENS, TOKENS), -math.inf, dtype=torch.float64).triu(1)[None, None]
    at = torch.arange(TOKENS)[None]
    with torch.no_grad():
        wanted, _ = layer(hidden_states=x, attention_mask=future, position_embeddings=rotary(x, at))
    mine = ours(f"MLA{LATENT}q{ASKED}/rope{TURNED}", layer, "fused")
    cache = mine.new_cache(BATCH, TOKENS)
    steps = torch.cat([mine.step(part, cache) for part in x.split(1, 1)], 1)
    torch.testing.assert_close(steps, wanted, rtol=0, atol=1e-6)
    assert cache.nbytes == BATCH * TOKENS * (LATENT + TURNED) * 8


@pytest.mark.parametrize(("name", "version"), [("deepseek-v2", V2), ("deepseek-v3", V3)])
def test_the_famous_points_have_their_numbers(name, version):
    config, design = version[0](), parse(name)
    assert (design.latent, design.query_latent) == (config.kv_lora_rank, config.q_lora_rank)
    assert design.turned == config.qk_rope_head_dim


def test_a_wrong_scale_of_theirs_would_show():
    layer, rotary = theirs(V3, CASES["V3's yarn"][0], True)
    x, at = draw(BATCH, TOKENS, MODEL, seed=50), torch.arange(TOKENS)
    with torch.no_grad():
        wanted, _ = layer(hidden_states=x, attention_mask=None, position_embeddings=rotary(x, at[None]))
    mine = ours(f"MLA{LATENT}q{ASKED}/rope{TURNED}-yarn-by40-of64-gain1", layer, "plain")
    assert (mine(x) - wanted).abs().max() > 1e-2
