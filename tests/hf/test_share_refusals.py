"""What `share` refuses, in one line, and that a refusal leaves the model as it was."""

import subprocess
import sys

import pytest
import tiny
import torch
from torch import nn
from transformers import OPTConfig, OPTForCausalLM

from qkvlab import hf
from qkvlab.errors import BadInput, Refusal


def test_an_unknown_model_type_is_told_the_known_ones():
    model = OPTForCausalLM(
        OPTConfig(vocab_size=9, hidden_size=8, num_attention_heads=2, num_hidden_layers=1, ffn_dim=8)
    )
    with pytest.raises(BadInput, match=r"unknown model type 'opt'.*bert.*gemma2.*gpt2.*gpt_neox.*llama"):
        hf.share(model, "QKV")


@pytest.mark.parametrize("design", ["QKV/rope", "QQV/noself", "uniform", "QDQ"])
def test_parts_stay_the_models(design):
    with pytest.raises(BadInput, match="one of the fifteen ways"):
        hf.share(tiny.model("gpt2"), design)


@pytest.mark.parametrize(
    ("name", "design", "words"),
    [
        ("llama", "QQV", r"QQV makes q and another role with one matrix.*layer 0 has heads=4, kv_heads=2"),
        ("llama", "XKV", r"heads=4, kv_heads=2 and cannot be XKV.*4 x 10 = 40, d_model=24"),
        ("llama", "QKK/kv3", r"multiple of kv_heads.*heads=4, kv_heads=3"),
        ("gpt2", "QKV/kv3", r"heads=4, kv_heads=3"),
    ],
)
def test_sizes_that_do_not_fit_are_named(name, design, words):
    model = tiny.model(name)
    before = list(model.state_dict())
    with pytest.raises(Refusal, match=words) as caught:
        hf.share(model, design)
    assert "\n" not in str(caught.value)
    assert list(model.state_dict()) == before
    assert not hasattr(model.config, "qkvlab_share")


@pytest.mark.parametrize("layers", [[2], [-1], [0, 7], [], ["0"]])
def test_layers_that_do_not_exist(layers):
    with pytest.raises(BadInput, match=r"layers must be among 0\.\.1"):
        hf.share(tiny.model("gpt2"), "QKK", layers=layers)


def test_an_adapter_around_a_matrix_is_not_dropped_in_silence():
    class Adapter(nn.Linear):
        pass

    model = tiny.model("llama")
    model.model.layers[1].self_attn.k_proj = Adapter(tiny.MODEL, tiny.GROUPS * tiny.CHANNELS, bias=False)
    with pytest.raises(BadInput, match="k_proj must be a plain Linear; got Adapter"):
        hf.share(model, "QKK")
    assert hasattr(model.model.layers[0].self_attn, "q_proj")


def test_a_forward_that_was_replaced_is_not_overlooked():
    model = tiny.model("gpt2")
    module = model.transformer.h[1].attn
    module.forward = module.forward
    with pytest.raises(BadInput, match="layer 1 has had its forward replaced"):
        hf.share(model, "QKK")


def test_cross_attention_is_left_alone():
    config = tiny.MAKERS["gpt2"]().config
    config.add_cross_attention = True
    model = tiny.redraw(tiny.hf.GPT2LMHeadModel(config)).eval()
    ids, other = tiny.tokens(), torch.randn(3, 5, tiny.MODEL)
    want = model(ids, encoder_hidden_states=other).logits
    assert hf.share(model, "QKV").layers == (0, 1)
    assert hasattr(model.transformer.h[0].crossattention, "c_attn")
    torch.testing.assert_close(model(ids, encoder_hidden_states=other).logits, want, rtol=0, atol=1e-5)


def test_without_transformers_one_line_says_what_to_install():
    code = "import sys; sys.modules['transformers'] = None\nimport qkvlab.hf"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'qkvlab[hf]'" in done.stderr.strip().splitlines()[-1]


def test_the_package_alone_imports_neither_transformers_nor_torch():
    code = "import sys, qkvlab; print({'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
