"""Windows, caps and sinks are those of Gemma 2, gpt-oss and their masks in transformers."""

from types import SimpleNamespace

import pytest
import torch
from transformers.masking_utils import sliding_window_causal_mask_function
from transformers.models.gemma2 import modeling_gemma2 as gemma2
from transformers.models.gpt_oss import modeling_gpt_oss as gpt_oss

from qkvlab import Attention

T = 9
X = torch.randn(2, T, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
ROUTES = pytest.mark.parametrize("route", ["fused", "plain"])


def layer_of(name, route):
    torch.manual_seed(0)
    return Attention(name, d_model=16, heads=4, route=route).double()


def theirs(forward, layer, x, allowed, **settings):
    """What their function makes of our q, k and v, under their additive mask."""
    q, memory = layer.projections.project(x)
    k, v = layer.projections.recall(memory)
    sinks = layer.projections.sink[0] if "sink" in layer.design.name else None
    module = SimpleNamespace(num_key_value_groups=2, training=False, sinks=sinks)
    hidden = torch.zeros(1, 1, T, T, dtype=torch.float64).masked_fill(~allowed, -1e30)
    heads, weights = forward(module, q, k, v, hidden, scaling=0.5, dropout=0.0, **settings)
    return layer.out(heads.flatten(2)), weights


def windowed(size):
    sees = sliding_window_causal_mask_function(size)
    return torch.tensor([[bool(sees(0, 0, torch.tensor(t), torch.tensor(s))) for s in range(T)] for t in range(T)])


@ROUTES
@pytest.mark.parametrize("size", [1, 3, 9, 20])
def test_windows_are_those_of_transformers(size, route):
    layer = layer_of(f"QKV/kv2/window{size}", route)
    wanted, _ = theirs(gemma2.eager_attention_forward, layer, X, windowed(size), softcap=None)
    torch.testing.assert_close(layer(X, causal=True), wanted, rtol=0, atol=1e-6)  # their softmax is in single precision


@ROUTES
@pytest.mark.parametrize("limit", [1, 50])
def test_caps_are_those_of_gemma_2(limit, route):
    layer = layer_of(f"QKV/kv2/cap{limit}/window4", route)
    wanted, _ = theirs(gemma2.eager_attention_forward, layer, 5 * X, windowed(4), softcap=float(limit))
    torch.testing.assert_close(layer(5 * X, causal=True), wanted, rtol=0, atol=1e-5)


@ROUTES
def test_sinks_are_those_of_gpt_oss(route):
    layer = layer_of("QKV/kv2/sink/window4", route)
    with torch.no_grad():
        layer.projections.sink.copy_(torch.tensor([[-1.0, 0.0, 1.0, 3.0]]))
    wanted, weights = theirs(gpt_oss.eager_attention_forward, layer, X, windowed(4))
    torch.testing.assert_close(layer(X, causal=True), wanted, rtol=0, atol=1e-6)
    torch.testing.assert_close(layer.trace(X, causal=True).weights, weights, rtol=0, atol=1e-6)
