"""`qkvlab.hf.share`: a rebuilt model is the model itself, or the model with its own weights tied as the design says."""

import copy
import pickle

import pytest
import tiny
import torch
from transformers import StaticCache

from qkvlab import hf
from qkvlab.designs.ways import PATTERNS
from qkvlab.errors import BadInput, Refusal
from qkvlab.hf.families import families, family_of, model_types

CLOSE = {"rtol": 0, "atol": 1e-5}
GROUPED = tuple(name for name in tiny.DECODERS if name not in ("gpt2", "gpt_neox"))


def attention(model):
    return [module for module in model.modules() if family_of(module) or isinstance(module, hf.Shared)]


def logits(model, **inputs):
    with torch.no_grad():
        return model(**inputs).logits


def written(module, weights):
    """Write q, k and v, (d, heads * c) and biases or None, into a model's own module as that model stores them."""
    kind = type(module).__name__
    (q, qb), (k, kb), (v, vb) = weights
    with torch.no_grad():
        if kind == "GPT2Attention":
            module.c_attn.weight.copy_(torch.cat([q, k, v], 1))
            module.c_attn.bias.copy_(torch.cat([qb, kb, vb]))
        elif kind == "GPTNeoXAttention":
            cut = [w.T.unflatten(0, (tiny.HEADS, -1)) for w in (q, k, v)]
            module.query_key_value.weight.copy_(torch.cat(cut, 1).flatten(0, 1))
            cut = [b.unflatten(0, (tiny.HEADS, -1)) for b in (qb, kb, vb)]
            module.query_key_value.bias.copy_(torch.cat(cut, 1).flatten())
        elif kind == "Phi3Attention":
            module.qkv_proj.weight.copy_(torch.cat([q.T, k.T, v.T]))
        else:
            names = ("query", "key", "value") if hasattr(module, "query") else ("q_proj", "k_proj", "v_proj")
            for name, (weight, bias) in zip(names, weights, strict=True):
                getattr(module, name).weight.copy_(weight.T)
                if bias is not None:
                    getattr(module, name).bias.copy_(bias)


def as_tied(model, shared, pattern):
    """The original model, its three matrices set to those of the shared one: the identity where there is none."""
    twin = copy.deepcopy(model)
    for module, other in zip(attention(twin), attention(shared), strict=True):
        weights = other.projections.weights
        d_model = other.projections.dims.d_model
        found = []
        for letter in pattern.lower():
            matrix = torch.eye(d_model) if letter == "x" else weights[letter]
            bias = weights.get(f"{letter}_bias")
            if bias is None:
                bias = None if family_of(module).read(module).biases == {} else torch.zeros(1, matrix.shape[1])
            found.append((matrix, None if bias is None else bias[0]))
        written(module, found)
    return twin


def test_every_family_is_tried_here():
    assert sorted(tiny.MAKERS) == model_types()
    tried = {type(module).__name__ for name in tiny.MAKERS for module in attention(tiny.model(name))}
    assert tried == {name for family in families() for name in family.MODULES}


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("name", tiny.MAKERS)
def test_qkv_is_the_model_itself(name, kernel):
    if name in ("gpt_oss", "gemma2"):
        kernel = "eager"  # sinks and caps are not for the other one
    model, ids = tiny.model(name, kernel), tiny.tokens()
    inputs = [{"input_ids": ids}, tiny.left_padded(ids, (9, 4, 6))]
    if name in tiny.DECODERS:
        places = torch.arange(9) * torch.tensor([1, 2, 3])[:, None]
        inputs.append({"input_ids": ids, "position_ids": places, "attention_mask": torch.ones_like(ids)})
    wanted = [logits(model, **each) for each in inputs]
    hf.share(model, "QKV")
    for each, want in zip(inputs, wanted, strict=True):
        torch.testing.assert_close(logits(model, **each), want, **CLOSE)


@pytest.mark.parametrize("name", tiny.DECODERS)
def test_qkv_generates_the_same_tokens(name):
    model = tiny.model(name)
    inputs = tiny.left_padded(tiny.tokens(), (9, 4, 6))
    ways = [{"do_sample": False}, {"do_sample": False, "num_beams": 2}]
    if name in ("llama", "gpt2"):
        ways.append({"do_sample": False, "cache_implementation": "static", "disable_compile": True})
    wanted = [model.generate(**inputs, max_new_tokens=7, **way) for way in ways]
    hf.share(model, "QKV")
    for way, want in zip(ways, wanted, strict=True):
        assert torch.equal(model.generate(**inputs, max_new_tokens=7, **way), want)


def holds(name, pattern):
    shares_q = pattern[0] in pattern[1:] and pattern[0] != "X"
    grouped = name in GROUPED
    wide = name in ("gpt2", "gpt_neox", *tiny.ENCODERS)
    queries = pattern[0] != "X" or wide or name in ("qwen2", "phi3")
    return not (grouped and (shares_q or "X" in pattern[1:])) and queries


@pytest.mark.parametrize("name", ["gpt2", "bert", "gpt_neox", "llama", "qwen2", "qwen3", "gemma3_text", "phi3"])
def test_every_way_is_the_model_with_its_weights_tied(name):
    model, ids = tiny.model(name), tiny.tokens()
    inputs = tiny.left_padded(ids, (9, 4, 6))
    held = [pattern for pattern in PATTERNS if holds(name, pattern)]
    assert len(held) >= 2
    for pattern in PATTERNS:
        shared = copy.deepcopy(model)
        if pattern not in held:
            with pytest.raises(Refusal, match=r"layer 0 has heads=4, kv_heads=\d"):
                hf.share(shared, pattern)
            continue
        hf.share(shared, pattern)
        want = logits(as_tied(model, shared, pattern), **inputs)
        torch.testing.assert_close(logits(shared, **inputs), want, **CLOSE)
        if pattern != "QKV":
            assert (want - logits(model, **inputs)).abs().max() > 1e-3


@pytest.mark.parametrize("name", tiny.DECODERS)
@pytest.mark.parametrize("design", ["QKK", "QXX", "QQQ", "QKQ", "QKK/kv1"])
def test_decoding_with_the_models_own_cache_is_the_same_without(name, design):
    model = tiny.model(name)
    inputs = tiny.left_padded(tiny.tokens(), (9, 4, 6))
    try:
        report = hf.share(model, design)
    except Refusal:
        assert name in GROUPED
        assert design not in ("QKK", "QKK/kv1")
        return
    # the whole text at once, and token by token after the first five: windows are left behind, padding differs by row
    places = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    want = logits(model, **inputs, position_ids=places, use_cache=False)
    cache, found = None, []
    for start, stop in ((0, 5), (5, 6), (6, 8), (8, 9)):
        with torch.no_grad():
            out = model(
                input_ids=inputs["input_ids"][:, start:stop],
                attention_mask=inputs["attention_mask"][:, :stop],
                position_ids=places[:, start:stop],
                cache=cache,
                use_cache=True,
            )
        cache = out.cache
        found.append(out.logits)
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(torch.cat(found, 1)[real], want[real], **CLOSE)
    layer = cache.layers[-1]
    kept = layer.keys.shape[1] * layer.keys.shape[-1] + (
        0 if layer.values.dtype == torch.int32 else layer.values.shape[1] * layer.values.shape[-1]
    )
    assert 2 * kept == report.cache_per_token[1]
    both = [model.generate(**inputs, max_new_tokens=5, do_sample=False, use_cache=use) for use in (True, False)]
    assert torch.equal(*both)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3_text"])
def test_a_static_cache_holds_shared_keys_too(name):
    model, ids = tiny.model(name), tiny.tokens()
    hf.share(model, "QKK")
    want = logits(model, input_ids=ids)
    cache, found = StaticCache(config=model.config, max_cache_len=12), []
    for start, stop in ((0, 4), (4, 5), (5, 9)):
        with torch.no_grad():
            found.append(model(input_ids=ids[:, start:stop], cache=cache).logits)
    torch.testing.assert_close(torch.cat(found, 1), want, **CLOSE)


@pytest.mark.parametrize("name", ["gpt2", "bert", "gpt_neox"])
def test_fewer_key_heads_are_pooled(name):
    model, ids = tiny.model(name), tiny.tokens()
    pooled, twin = copy.deepcopy(model), copy.deepcopy(model)
    report = hf.share(pooled, "QKV/kv2")
    for module in attention(twin):
        read = family_of(module).read(module)
        parts = []
        for role in "qkv":
            matrix, bias = read.matrices[role].clone(), read.biases[role].clone()
            if role != "q":
                matrix, bias = (
                    part.unflatten(-1, (2, 2, -1)).mean(-2, keepdim=True).expand(*part.shape[:-1], 2, 2, -1).flatten(-3)
                    for part in (matrix, bias)
                )
            parts.append((matrix, bias))
        written(module, parts)
    torch.testing.assert_close(logits(pooled, input_ids=ids), logits(twin, input_ids=ids), **CLOSE)
    assert report.kv_heads == (4, 2)


def test_more_key_heads_change_nothing():
    model, ids = tiny.model("llama"), tiny.tokens()
    want = logits(model, input_ids=ids)
    hf.share(model, "QKV/kv4")
    torch.testing.assert_close(logits(model, input_ids=ids), want, **CLOSE)


def test_layers_are_chosen_and_the_others_stay():
    model, ids = tiny.model("qwen3"), tiny.tokens()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    want = logits(model, input_ids=ids)
    assert hf.share(model, "QKK", layers=[1]).layers == (1,)
    after = model.state_dict()
    gone = {f"model.layers.1.self_attn.{n}_proj.{p}" for n in "qkv" for p in ("weight", "bias")}
    assert before.keys() - after.keys() == gone
    assert all(torch.equal(after[key], before[key]) for key in before.keys() & after.keys())
    assert not torch.allclose(logits(model, input_ids=ids), want)
    with pytest.raises(BadInput, match="layer 1 is already rebuilt"):
        hf.share(model, "QQV")
    hf.share(model, "QKV", layers=[0])
    assert model.config.qkvlab_share == {"1": "QKK/kv2", "0": "QKV/kv2"}


def test_attention_weights_can_still_be_asked_for():
    model, ids = tiny.model("llama"), tiny.tokens()
    want = model(ids, output_attentions=True).attentions
    hf.share(model, "QKV")
    found = model(ids, output_attentions=True).attentions
    assert len(found) == 2
    for have, wish in zip(found, want, strict=True):
        torch.testing.assert_close(have, wish, **CLOSE)


def test_dropout_stays():
    model = tiny.MAKERS["gpt2"]()
    hf.share(model, "QKK")
    model.train()
    ids = tiny.tokens()
    assert not torch.equal(model(ids).logits, model(ids).logits)
    for module in attention(model):
        assert module.attn_dropout.p == 0.1
        module.resid_dropout.p = 0.0
    model.transformer.drop.p = 0.0
    for block in model.transformer.h:
        block.mlp.dropout.p = 0.0
    assert not torch.equal(model(ids).logits, model(ids).logits)


def test_copies_and_precision_follow_the_model():
    model = tiny.model("gemma3_text").to(torch.bfloat16)
    hf.share(model, "QKK")
    twin = copy.deepcopy(model)
    assert twin.model.rotary_emb is twin.model.layers[0].self_attn.angles[0]
    again = pickle.loads(pickle.dumps(model))
    assert type(again.model.layers[1].self_attn) is type(model.model.layers[1].self_attn)
    assert torch.equal(again(tiny.tokens()).logits, model(tiny.tokens()).logits)
    assert {p.dtype for p in twin.parameters()} == {torch.bfloat16}
    assert torch.equal(twin(tiny.tokens()).logits, model(tiny.tokens()).logits)


@pytest.mark.parametrize("design", ["QKV", "QKK"])
def test_bert_as_a_decoder_has_a_cache_too(design):
    config = tiny.hf.BertConfig(**tiny.OWN, is_decoder=True)
    model, ids = tiny.redraw(tiny.hf.BertLMHeadModel(config)).eval(), tiny.tokens()
    want = logits(model, input_ids=ids)
    hf.share(model, design)
    if design == "QKV":
        torch.testing.assert_close(logits(model, input_ids=ids), want, **CLOSE)
    with torch.no_grad():
        first = model(ids[:, :6], use_cache=True)
        then = model(ids[:, 6:], cache=first.cache, use_cache=True)
    found = torch.cat([first.logits, then.logits], 1)
    torch.testing.assert_close(found, logits(model, input_ids=ids), **CLOSE)


def test_frozen_attention_stays_frozen():
    model = tiny.model("llama").requires_grad_(False)
    hf.share(model, "QKK")
    assert not any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_it_is_one_graph(name):
    model, ids = tiny.model(name, "sdpa"), tiny.tokens()
    hf.share(model, "QKK")
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(ids, use_cache=False).logits, model(ids, use_cache=False).logits, **CLOSE)
