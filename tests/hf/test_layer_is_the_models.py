"""Our layer, given a model's weights, is that model's own attention module: with masks, padding, positions and a cache.

GPT-2 and BERT agree in float64 to 1e-10; where theirs measures norms or makes angles in float32, to its rounding.
"""

import pytest
import tiny
import torch
from torch import nn
from transformers import Gemma4TextConfig, ReformerConfig
from transformers.models.gemma4 import modeling_gemma4 as gemma4
from transformers.models.reformer.modeling_reformer import LSHSelfAttention

from qkvlab import Attention
from qkvlab.hf.families import family_of

BATCH, T = 3, 9
LENGTHS = (9, 4, 6)
ROUTES = pytest.mark.parametrize("route", ["fused", "plain"])

CASES = {  # model type and layer -> its design
    ("gpt2", 1): "QKV/bias",
    ("bert", 0): "QKV/bias",
    ("gpt_neox", 0): "QKV/bias/rope-first4-base100",
    ("llama", 0): "QKV/kv2/rope",
    ("mistral", 0): "QKV/kv2/rope/window5",
    ("qwen2", 0): "QKV/kv2/biasqkv/rope/window5",
    ("qwen2", 1): "QKV/kv2/biasqkv/rope",
    ("qwen3", 0): "QKV/kv2/bias/qknorm/rope",
    ("gpt_oss", 0): "QKV/kv2/bias/rope-base150000/window5/sink",
    ("gpt_oss", 1): "QKV/kv2/bias/rope-base150000/sink",
    ("gemma", 0): "QKV/kv2/rope",
    ("gemma2", 0): "QKV/kv2/rope/cap2/window5",
    ("gemma2", 1): "QKV/kv2/rope/cap2",
    ("gemma3_text", 0): "QKV/kv2/qknorm/rope/window5",
    ("gemma3_text", 1): "QKV/kv2/qknorm/rope-base1000000",
    ("phi3", 0): "QKV/kv2/rope-first4-base100/window5",
}


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def carried(design, read, scale, out, route, **more):
    """Our layer with their weights; their scale, where it is not 1 / sqrt(c), goes into the queries."""
    dims = read.dims
    attn = Attention(design, d_model=dims.d_model, heads=dims.heads, d_head=dims.d_head, route=route).double().eval()
    weights = dict(read.matrices)
    weights |= {f"{role}_bias": bias[None] for role, bias in read.biases.items()} | more
    scaled = ("q_gain",) if "q_gain" in weights else ("q", "q_bias")
    weights |= {name: weights[name] * scale * dims.d_head**0.5 for name in scaled if name in weights}
    state = {f"projections.{name}": weight for name, weight in weights.items()}
    state |= {f"out.{name}": part for name, part in out.items()}
    attn.load_state_dict(state)
    return attn


class Theirs:
    """A model's attention module in float64, called as the model calls it."""

    def __init__(self, name, layer):
        self.name = name
        self.model = tiny.model(name).double()
        found = [module for module in self.model.modules() if family_of(module)]
        self.module = found[layer]
        around = self.model.bert.encoder.layer[layer].attention.output if name == "bert" else self.module
        self.out = next(getattr(around, each) for each in ("o_proj", "c_proj", "dense") if hasattr(around, each))
        self.rotary = getattr(self.model.base_model, "rotary_emb", None)

    def ours(self, design, route):
        more = {}
        if hasattr(self.module, "q_norm"):
            one = 1 if self.name.startswith("gemma") else 0
            more = {f"{role}_gain": getattr(self.module, f"{role}_norm").weight[None] + one for role in "qk"}
        if hasattr(self.module, "sinks"):
            more["sink"] = self.module.sinks[None]
        out = {"weight": self.out.weight.T if self.name == "gpt2" else self.out.weight}
        if self.out.bias is not None:
            out["bias"] = self.out.bias
        return carried(design, family_of(self.module).read(self.module), self.module.scaling, out, route, **more)

    def __call__(self, x, allowed, at):
        rotation = {}
        if self.rotary is not None:
            kind = [self.module.layer_type] if self.name == "gemma3_text" else []
            cos, sin = self.rotary(x.float(), at, *kind)
            rotation = {"position_embeddings": (cos.double(), sin.double())}
        mask = torch.zeros(allowed.shape, dtype=x.dtype).masked_fill(~allowed, torch.finfo(x.dtype).min)
        found = self.module(x, attention_mask=mask, **rotation)[0]
        return self.out(found) if self.name == "bert" else found


def sees(window, causal):
    """Who sees whom by place: (t, s)."""
    back = torch.arange(T)[:, None] - torch.arange(T)
    allowed = (back >= 0) if causal else torch.ones(T, T, dtype=torch.bool)
    return allowed if window is None else allowed & (back.abs() < window)


@ROUTES
@pytest.mark.parametrize(("name", "layer"), CASES, ids=[f"{name}-{layer}" for name, layer in CASES])
def test_it_is_the_models_own_attention(name, layer, route):
    theirs = Theirs(name, layer)
    attn = theirs.ours(CASES[name, layer], route)
    causal = name != "bert"
    close = {"rtol": 0, "atol": 1e-10 if theirs.rotary is None else 1e-5}
    x = draw(BATCH, T, attn.dims.d_model)
    allowed = sees(attn.design.window, causal)
    with torch.no_grad():
        places = torch.arange(T) + torch.tensor([0, 5, 30])[:, None]
        wanted = theirs(x, allowed[None, None], places)
        torch.testing.assert_close(attn(x, causal=causal, positions=places), wanted, **close)
        assert wanted.std() > 0.05
        real = torch.arange(T) >= T - torch.tensor(LENGTHS)[:, None]
        at = (real.long().cumsum(-1) - 1).clamp(min=0)
        wanted = theirs(x, allowed & real[:, None, None], at)
        found = attn(x, causal=causal, padding=real, positions=at)
        torch.testing.assert_close(found[real], wanted[real], **close)
        if causal:
            wanted = theirs(x, allowed[None, None], torch.arange(T)[None])
            cache = attn.new_cache(BATCH, T)
            steps = [attn.step(x[:, start:stop], cache) for start, stop in ((0, 4), (4, 5), (5, 9))]
            torch.testing.assert_close(torch.cat(steps, 1), wanted, **close)


@ROUTES
def test_gemma_4_has_its_keys_as_values(route):
    heads, groups, channels, d_model = 6, 2, 16, 20
    config = Gemma4TextConfig(
        hidden_size=d_model, num_attention_heads=heads, num_key_value_heads=3, num_global_key_value_heads=groups,
        head_dim=8, global_head_dim=channels, num_hidden_layers=2, num_kv_shared_layers=0, intermediate_size=20,
        layer_types=["sliding_attention", "full_attention"], attention_k_eq_v=True, vocab_size=9,
        vocab_size_per_layer_input=9, hidden_size_per_layer_input=4, attn_implementation="eager",
    )  # fmt: skip
    module = tiny.redraw(gemma4.Gemma4TextAttention(config, 1)).double().eval()
    assert module.v_proj is None
    design = f"QKK/kv{groups}/qknorm/vnorm/rope-base1000000-proportional-keep0.25"
    attn = Attention(design, d_model=d_model, heads=heads, d_head=channels, route=route).double()
    with torch.no_grad():
        weights = attn.projections.weights
        weights["q"].copy_(module.q_proj.weight.T)
        weights["k"].copy_(module.k_proj.weight.T)
        weights["q_gain"].copy_(module.q_norm.weight * channels**0.5)  # they do not divide by sqrt(c)
        weights["k_gain"].copy_(module.k_norm.weight)
        attn.out.weight.copy_(module.o_proj.weight)
        x, at = draw(BATCH, T, d_model), torch.arange(T) + torch.tensor([0, 5, 30])[:, None]
        cos, sin = gemma4.Gemma4TextRotaryEmbedding(config)(x.float(), at, "full_attention")
        mask = torch.zeros(T, T, dtype=x.dtype).masked_fill(~sees(None, True), torch.finfo(x.dtype).min)
        wanted, _ = module(x, (cos.double(), sin.double()), mask[None, None], {})
        torch.testing.assert_close(attn(x, causal=True, positions=at), wanted, rtol=0, atol=1e-5)
        plain = torch.arange(T)
        cos, sin = gemma4.Gemma4TextRotaryEmbedding(config)(x.float(), plain[None], "full_attention")
        wanted, _ = module(x, (cos.double(), sin.double()), mask[None, None], {})
        cache = attn.new_cache(BATCH, T)
        steps = [attn.step(x[:, start:stop], cache) for start, stop in ((0, 4), (4, 5), (5, 9))]
        torch.testing.assert_close(torch.cat(steps, 1), wanted, rtol=0, atol=1e-5)


@ROUTES
@pytest.mark.parametrize("causal", [False, True])
def test_reformer_shares_queries_and_keys_of_unit_length(causal, route):
    heads, channels, d_model = 5, 6, 14
    config = ReformerConfig(
        hidden_size=d_model, num_attention_heads=heads, attention_head_size=channels, lsh_attn_chunk_length=16,
        is_decoder=causal, lsh_attention_probs_dropout_prob=0.0, num_buckets=2, axial_pos_embds=False,
    )  # fmt: skip
    module = tiny.redraw(LSHSelfAttention(config)).double().eval()  # a text shorter than a chunk is not hashed
    attn = Attention("reformer", d_model=d_model, heads=heads, d_head=channels, route=route).double()
    assert attn.design.name == "QQV/unitkeys/noself"
    out = nn.Linear(heads * channels, d_model, bias=False).double()
    with torch.no_grad():
        attn.projections.q.copy_(module.query_key.weight.T)
        attn.projections.v.copy_(module.value.weight.T)
        attn.out.weight.copy_(out.weight)
        x = draw(BATCH, T, d_model)
        wanted = out(module(x).hidden_states)
        torch.testing.assert_close(attn(x, causal=causal), wanted, rtol=0, atol=1e-5)
        real = torch.arange(T) < torch.tensor(LENGTHS)[:, None]
        wanted = out(module(x, attention_mask=real.long()).hidden_states)
        torch.testing.assert_close(attn(x, causal=causal, padding=real)[real], wanted[real], rtol=0, atol=1e-5)
