"""Tiny random models of Hugging Face, one for each model type: all axes of different sizes, every number drawn anew."""

import functools

import torch
import transformers as hf

VOCABULARY, MODEL, HEADS, GROUPS, CHANNELS = 37, 24, 4, 2, 10
SQUARE = 6  # channels of a head where d_model / heads is all the model admits
WINDOW = 5

OWN = {"vocab_size": VOCABULARY, "hidden_size": MODEL, "num_attention_heads": HEADS, "num_hidden_layers": 2,
        "intermediate_size": 20, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1,
        "eos_token_id": None}  # fmt: skip
_groups = {**OWN, "num_key_value_heads": GROUPS}
_heads = {**_groups, "head_dim": CHANNELS}
_partial = {"rope_parameters": {"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 0.5}}
_base = {"rope_type": "default", "rope_theta": 150000.0}
_gpt2 = {"vocab_size": VOCABULARY, "n_embd": MODEL, "n_head": HEADS, "n_layer": 2, "n_positions": 64,
         "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": None}  # fmt: skip
_full = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": WINDOW}

MAKERS = {
    "gpt2": lambda: hf.GPT2LMHeadModel(hf.GPT2Config(**_gpt2, scale_attn_by_inverse_layer_idx=True)),
    "bert": lambda: hf.BertForMaskedLM(hf.BertConfig(**OWN)),
    "roberta": lambda: hf.RobertaForMaskedLM(hf.RobertaConfig(**OWN)),
    "xlm-roberta": lambda: hf.XLMRobertaForMaskedLM(hf.XLMRobertaConfig(**OWN)),
    "camembert": lambda: hf.CamembertForMaskedLM(hf.CamembertConfig(**OWN)),
    "electra": lambda: hf.ElectraForMaskedLM(hf.ElectraConfig(**OWN, embedding_size=8)),
    "gpt_neox": lambda: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**{**OWN, "hidden_size": 32}, **_partial)),
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**_heads)),
    "mistral": lambda: hf.MistralForCausalLM(hf.MistralConfig(**_heads, sliding_window=WINDOW)),
    "qwen2": lambda: hf.Qwen2ForCausalLM(hf.Qwen2Config(**_groups, use_sliding_window=True, **_full)),
    "qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**_heads, attention_bias=True)),
    "gpt_oss": lambda: hf.GptOssForCausalLM(
        hf.GptOssConfig(**_heads, **_full, num_local_experts=2, num_experts_per_tok=2, rope_parameters=_base)
    ),
    "gemma": lambda: hf.GemmaForCausalLM(hf.GemmaConfig(**_heads)),
    "gemma2": lambda: hf.Gemma2ForCausalLM(
        hf.Gemma2Config(**_heads, **_full, query_pre_attn_scalar=7, attn_logit_softcapping=2.0)
    ),
    "gemma3_text": lambda: hf.Gemma3ForCausalLM(hf.Gemma3TextConfig(**_heads, **_full, query_pre_attn_scalar=7)),
    "phi3": lambda: hf.Phi3ForCausalLM(
        hf.Phi3Config(**{**_groups, "hidden_size": 32}, **_partial, sliding_window=WINDOW)
    ),
}
ENCODERS = ("bert", "roberta", "xlm-roberta", "camembert", "electra")
DECODERS = tuple(name for name in MAKERS if name not in ENCODERS)


def redraw(module, seed=0):
    """Give every parameter new numbers, gains and biases too, of a size at which attention is far from flat."""
    drawn = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=drawn, dtype=torch.float64)
            if parameter.ndim > 1:
                noise *= 1.4 * min(parameter.shape) ** -0.5
            parameter.copy_(0.5 * noise if parameter.ndim == 1 else noise)
    return module


@functools.cache
def _state(name):
    torch.manual_seed(0)
    return redraw(MAKERS[name]()).state_dict()


def model(name, attention="eager"):
    """A model of this type in evaluation, the same numbers every time."""
    made = MAKERS[name]()
    made.load_state_dict(_state(name))
    made.set_attn_implementation(attention)
    return made.eval()


def tokens(batch=3, count=9, seed=1):
    """Ids of tokens, none of them padding."""
    return torch.randint(2, VOCABULARY, (batch, count), generator=torch.Generator().manual_seed(seed))


def left_padded(ids, lengths):
    """The same ids with the first of each row padded away, and the mask that says so."""
    real = torch.arange(ids.shape[1]) >= ids.shape[1] - torch.tensor(lengths)[:, None]
    return {"input_ids": ids.masked_fill(~real, 0), "attention_mask": real.long()}
