"""Positions equal those of Hugging Face transformers: rotary in every scaling and pairing, linear biases, sinusoids."""

import pytest
import torch
from transformers import (
    CohereConfig,
    Gemma4TextConfig,
    GPTJConfig,
    GPTNeoXConfig,
    GptOssConfig,
    LlamaConfig,
)
from transformers.models.bloom import modeling_bloom as bloom
from transformers.models.cohere import modeling_cohere as cohere
from transformers.models.deepseek_v3 import modeling_deepseek_v3 as deepseek
from transformers.models.gemma4 import modeling_gemma4 as gemma
from transformers.models.gpt_neox import modeling_gpt_neox as neox
from transformers.models.gpt_oss import modeling_gpt_oss as oss
from transformers.models.gptj import modeling_gptj as gptj
from transformers.models.llama import modeling_llama as llama
from transformers.models.marian import modeling_marian as marian
from transformers.models.mpt import modeling_mpt as mpt
from transformers.models.roformer import modeling_roformer as roformer

from qkvlab import Attention
from qkvlab.contracts import Dims
from qkvlab.designs import parse
from qkvlab.designs.rotation import read

HEADS, HEAD = 2, 64
AT = {
    "near": torch.arange(12)[None],
    "far": torch.tensor([[0, 40, 90, 150, 333, 512, 600, 777, 999, 1024, 1500, 2047]]),
    "each its own": torch.arange(24).reshape(2, 12) * 7,
}
TOLERANCE = 5e-4  # theirs makes angles in float32: at position 2047 they are off by 2047 * 2^-24 = 1.2e-4


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def q():
    return draw(2, HEADS, 12, HEAD)


@pytest.fixture
def k():
    return draw(2, HEADS, 12, HEAD, seed=1)


def near(a, b, tolerance=TOLERANCE):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def config_of(kind, length, **rope):
    return kind(
        hidden_size=HEADS * HEAD,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        head_dim=HEAD,
        max_position_embeddings=length,
        rope_parameters=rope,
    )


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}
LLAMA3 = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
SCALINGS = {
    "": {"rope_type": "default", "rope_theta": 1e4},
    "-base500000": {"rope_type": "default", "rope_theta": 5e5},
    "-linear-by4": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0},
    "-base500000-llama3-by8-of512": LLAMA3
    | {"rope_theta": 5e5, "factor": 8.0, "original_max_position_embeddings": 512},
    "-llama3-by32-of8192": LLAMA3 | {"rope_theta": 1e4, "factor": 32.0, "original_max_position_embeddings": 8192},
    "-yarn-by4-of512": YARN | {"rope_theta": 1e4},
    "-yarn-by4-of512-gain1": YARN | {"rope_theta": 1e4, "attention_factor": 1.0},
    "-yarn-by4-of512-gain1.0": YARN | {"rope_theta": 1e4, "mscale": 0.7, "mscale_all_dim": 0.7},  # DeepSeek's
    "-base150000-yarn-by4-of512-fast16-slow2": YARN | {"rope_theta": 1.5e5, "beta_fast": 16.0, "beta_slow": 2.0},
    "-base150000-yarn-by4-of512-exact1": YARN | {"rope_theta": 1.5e5, "truncate": False},  # gpt-oss
}


@pytest.mark.parametrize("at", AT.values(), ids=AT)
@pytest.mark.parametrize("options", SCALINGS)
def test_llama_halves(options, at, q, k):
    table = llama.LlamaRotaryEmbedding(config_of(LlamaConfig, 2048, **SCALINGS[options]))
    theirs = llama.apply_rotary_pos_emb(q, k, *table(q, at))
    near(read(options).turn(q, at), theirs[0])
    near(read(options).turn(k, at), theirs[1])
    if len(at) == 1:
        assert torch.equal(read(options).turn(q, at[0]), read(options).turn(q, at))


@pytest.mark.parametrize("tokens", [256, 300, 1000])
def test_dynamic_ntk_of_one_length(tokens, q, k):
    trained = 256
    table = llama.LlamaRotaryEmbedding(config_of(LlamaConfig, trained, **DYNAMIC))
    at = torch.arange(tokens - 12, tokens)[None]
    theirs = llama.apply_rotary_pos_emb(q, k, *table(q, at))
    by = 2.0 * tokens / trained - 2.0 + 1
    near(read(f"-ntk-by{by}").turn(q, at), theirs[0])


def test_neox_turns_some_channels(q, k):
    config = GPTNeoXConfig(
        hidden_size=HEADS * HEAD,
        num_attention_heads=HEADS,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.25},
    )
    theirs = neox.apply_rotary_pos_emb(q, k, *neox.GPTNeoXRotaryEmbedding(config)(q, AT["far"]))
    near(read("-first16").turn(q, AT["far"]), theirs[0])
    near(read("-first16").turn(k, AT["far"]), theirs[1])


def test_gemma_4_turns_the_fastest_pairs(q, k):
    config = Gemma4TextConfig(
        num_hidden_layers=2,
        layer_types=["sliding_attention", "full_attention"],
        hidden_size=HEADS * HEAD,
        num_attention_heads=HEADS,
        head_dim=32,
        global_head_dim=HEAD,
    )
    cos, sin = gemma.Gemma4TextRotaryEmbedding(config)(q, AT["far"], "full_attention")
    theirs = gemma.apply_rotary_pos_emb(q, cos, sin)
    near(read("-base1000000-proportional-keep0.25").turn(q, AT["far"]), theirs)


def test_gpt_j_pairs_neighbours_of_some_channels(q):
    at = AT["near"].expand(2, 12)
    sin, cos = gptj.GPTJRotaryEmbedding(GPTJConfig(rotary_dim=16, n_positions=64))(q, at)
    beside = q.transpose(1, 2)  # GPT-J has heads behind tokens
    turned = torch.cat([gptj.apply_rotary_pos_emb(beside[..., :16], sin, cos), beside[..., 16:]], -1)
    near(read("-interleaved-first16").turn(q, at), turned.transpose(1, 2))


def test_cohere_pairs_neighbours(q, k):
    config = config_of(CohereConfig, 2048, rope_type="default", rope_theta=1e4)
    theirs = cohere.apply_rotary_pos_emb(q, k, *cohere.CohereRotaryEmbedding(config)(q, AT["far"]))
    near(read("-interleaved").turn(q, AT["far"]), theirs[0])
    near(read("-interleaved").turn(k, AT["far"]), theirs[1])


def test_roformer_pairs_neighbours(q, k):
    table = roformer.RoFormerSinusoidalPositionalEmbedding(64, HEAD)
    table.weight = torch.nn.Parameter(table.create_weight(), requires_grad=False)
    at = AT["near"][0]
    place = table(torch.Size([2, 12]), position_ids=at)[None, None]
    theirs = roformer.RoFormerSelfAttention.apply_rotary_position_embeddings(place, q, k)
    near(read("-interleaved").turn(q, at), theirs[0], 1e-5)
    near(read("-interleaved").turn(k, at), theirs[1], 1e-5)


@pytest.mark.parametrize("options", ["", "-yarn-by4-of512-gain1"])
def test_deepseek_pairs_neighbours_and_sorts_them(options, q, k):
    table = llama.LlamaRotaryEmbedding(config_of(LlamaConfig, 2048, **SCALINGS[options]))
    theirs = deepseek.apply_rotary_pos_emb_interleave(q, k, *table(q, AT["far"]))
    ours = [read(f"-interleaved{options}").turn(heads, AT["far"]) for heads in (q, k)]
    for one, other in zip(ours, theirs, strict=True):
        near(torch.cat([one[..., ::2], one[..., 1::2]], -1), other)
    near(ours[0] @ ours[1].mT, theirs[0] @ theirs[1].mT, 100 * TOLERANCE)


def test_gpt_oss_exact_ramp(q, k):
    options = "-base150000-yarn-by4-of512-exact1"
    config = config_of(GptOssConfig, 2048, **SCALINGS[options])
    theirs = oss.apply_rotary_pos_emb(q, k, *oss.GptOssRotaryEmbedding(config)(q, AT["far"]))
    near(read(options).turn(q, AT["far"]), theirs[0])


def test_bfloat16_is_nearer_to_the_exact_rotation_than_with_rounded_tables():
    q, at = draw(2, HEADS, 12, HEAD).bfloat16(), AT["far"]
    exact = read("").turn(q.double(), at)
    table = llama.LlamaRotaryEmbedding(config_of(LlamaConfig, 2048, **SCALINGS[""]))
    theirs = llama.apply_rotary_pos_emb(q, q, *table(q, at))[0]
    ours = read("").turn(q, at)
    assert (ours.double() - exact).square().mean() < 0.5 * (theirs.double() - exact).square().mean()
    near(ours, theirs, 0.05)


@pytest.mark.parametrize("name", ["QKV/kv2/rope-base500000-llama3-by8-of512", "QKV/kv4/rope"])
def test_a_whole_llama_layer(name):
    groups = 2 if "kv2" in name else 4
    config = LlamaConfig(
        hidden_size=32,
        num_attention_heads=4,
        num_key_value_heads=groups,
        head_dim=8,
        max_position_embeddings=2048,
        attn_implementation="eager",
        rope_parameters=SCALINGS["-base500000-llama3-by8-of512" if "llama3" in name else ""],
    )
    torch.manual_seed(0)
    theirs = llama.LlamaAttention(config, 0).eval()
    ours = Attention(name, d_model=32, heads=4)
    with torch.no_grad():
        for letter in "qkv":
            ours.projections.weights[letter].copy_(getattr(theirs, f"{letter}_proj").weight.T)
        ours.out.weight.copy_(theirs.o_proj.weight)
    x, at = draw(2, 12, 32), AT["far"]
    mask = torch.full((12, 12), -torch.inf).triu(1)
    wanted, _ = theirs(x, llama.LlamaRotaryEmbedding(config)(x, at), mask[None, None])
    near(ours(x, causal=True, positions=at[0]), wanted, 1e-4)


@pytest.mark.parametrize("heads", [1, 2, 3, 6, 8, 12, 16, 20, 71])
def test_linear_biases_of_bloom(heads):
    theirs = bloom.build_alibi_tensor(torch.ones(1, 9), heads, torch.float32).reshape(heads, 9)
    (bend,) = parse("QKV/alibi").bends({}, Dims.of(heads, heads))
    at = torch.arange(9)
    ours = bend(torch.zeros(1, heads, 9, 9), at[:, None] - at)[0]
    # theirs differs by a number for each query, which no softmax sees
    near(ours[:, -1] - ours[:, -1, :1], theirs - theirs[:, :1], 1e-6)


@pytest.mark.parametrize("heads", [1, 2, 8, 16])
def test_linear_biases_of_mpt_where_heads_are_a_power_of_two(heads):
    theirs = mpt.build_mpt_alibi_tensor(heads, 9)[:, 0]
    (bend,) = parse("QKV/alibi").bends({}, Dims.of(heads, heads))
    near(bend(torch.zeros(1, heads, 1, 9), 8 - torch.arange(9)[None])[0, :, 0], theirs, 1e-6)


def test_sinusoids_of_marian_in_the_order_of_the_paper():
    table = marian.MarianSinusoidalPositionalEmbedding(100, 32)
    theirs = table.create_weight() if hasattr(table, "create_weight") else table.weight
    ours = parse("QKV/sin").place({}, torch.zeros(1, 100, 32), Dims.of(32, 1), None)
    near(torch.cat([ours[:, ::2], ours[:, 1::2]], -1), theirs, 1e-5)
