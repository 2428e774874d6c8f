"""The layer equals its NumPy twin: every example, every mask, both routes, many shapes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qkvlab import Attention, reference
from qkvlab.contracts import Dims
from qkvlab.designs import Way, examples
from qkvlab.errors import Refusal
from qkvlab.testing import sizes
from qkvlab.testing.sizes import redrawn

FIELDS = ("q", "k", "v", "scores", "weights", "output")
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def layers(design, dims, dtype):
    """The fused and the plain layer with the same weights."""
    torch.manual_seed(0)
    sizes_of = {"d_model": dims.d_model, "heads": dims.heads, "d_head": dims.d_head, "d_value": dims.d_value}
    fused, plain = (Attention(design, **sizes_of, route=route).to(dtype) for route in ("fused", "plain"))
    redrawn(fused.projections)
    plain.load_state_dict(fused.state_dict())
    return fused, plain


def twin(layer, x, y=None, allowed=None, positions=(None, None)):
    """The same in NumPy, in the precision of the layer."""
    weights = {name: w.detach().numpy() for name, w in layer.projections.weights.items()}
    weights["out"] = layer.out.weight.detach().numpy().T
    if layer.out.bias is not None:
        weights["out_bias"] = layer.out.bias.detach().numpy()
    return reference.trace(
        layer.design.name,
        weights,
        x.numpy(),
        None if y is None else y.numpy(),
        heads=layer.dims.heads,
        d_head=layer.dims.d_head,
        kv_heads=layer.design.kv_heads(layer.dims),
        allowed=None if allowed is None else allowed.numpy(),
        positions=positions,
    )


def draw(b, t, d, dtype, seed=0):
    return torch.randn(b, t, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def visible(b, t, s, causal=False, lengths=None):
    """Who sees whom, counted by hand: (b, 1, t, s)."""
    shift = s - t if causal == "bottom-right" else 0
    return torch.tensor(
        [
            [[[(not causal or j <= i + shift) and (lengths is None or j < lengths[n]) for j in range(s)]
              for i in range(t)]]
            for n in range(b)
        ],
        dtype=torch.bool,
    ).reshape(b, 1, t, s)  # fmt: skip


def agree(design, dims, dtype, b, t, s=None, *, causal=False, lengths=None):
    """Compare every step of both routes with the twin; ``s`` None is self-attention."""
    fused, plain = layers(design, dims, dtype)
    x = draw(b, t, dims.d_model, dtype)
    y = None if s is None else draw(b, s, dims.d_model, dtype, seed=1)
    memory = None if y is None else plain.remember(y)
    allowed = visible(b, t, t if s is None else s, causal, lengths) if causal or lengths else None
    options = {"causal": causal, "padding": None if lengths is None else torch.tensor(lengths)}
    at = np.maximum(np.arange(t) + s - t, 0) if causal == "bottom-right" else None  # the last stands at the last key
    wanted, trace = twin(plain, x, y, allowed, (at, None)), plain.trace(x, memory, **options)
    # what stands in padding counts as nothing, whatever k, v and scores are there
    real = np.arange(t if s is None else s) < np.array(lengths or [t if s is None else s] * b)[:, None]
    real = {"k": real[:, None, :, None], "v": real[:, None, :, None], "scores": real[:, None, None, :]}
    for label, got, name in (
        *((name, getattr(trace, name), name) for name in FIELDS),
        ("fused", fused(x, memory, **options), "output"),
        ("plain", plain(x, memory, **options), "output"),
    ):
        np.testing.assert_allclose(
            got.detach().numpy() * real.get(name, True),
            getattr(wanted, name) * real.get(name, True),
            rtol=0,
            atol=TOLERANCE[dtype],
            err_msg=label,
        )
        assert got.dtype == dtype


SITUATIONS = {
    "self": {},
    "cross": {"s": 7},
    "causal": {"causal": True},
    "padding": {"lengths": (3, 5)},
    "both": {"causal": True, "lengths": (3, 5)},
    "cross top-left": {"s": 7, "causal": "top-left"},
    "cross bottom-right, padding": {"s": 7, "causal": "bottom-right", "lengths": (7, 4)},
    "more queries than keys": {"s": 3, "causal": "bottom-right"},
    "padding of everything": {"lengths": (0, 5)},
}


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS)
@pytest.mark.parametrize("design", examples().values(), ids=str)
def test_every_example_in_every_situation(design, situation, dtype):
    agree(design, sizes(design), dtype, 2, 5, **situation)


@pytest.mark.parametrize("t", [0, 1, 2, 3, 31, 97, 128])
@pytest.mark.parametrize("name", ["QKV", "QKV/kv2", "QKK/kv2", "uniform", "QDQ", "XXX"])
@pytest.mark.parametrize("causal", [False, True], ids=["all", "causal"])
def test_many_lengths(name, t, causal):
    design = examples()[name]
    agree(design, sizes(design), torch.float32, 1, t, causal=causal)
    agree(design, sizes(design), torch.float32, 1, t, lengths=(t // 2,))


@pytest.mark.parametrize("name", ["QKV", "QKK/kv2"])
def test_a_thousand_tokens(name):
    dims = Dims(d_model=8, heads=2, d_head=3, d_value=3)
    agree(examples()[name], dims, torch.float32, 1, 1025)


@pytest.mark.parametrize(("t", "s"), [(0, 3), (3, 0), (1, 97), (97, 1), (31, 128)])
@pytest.mark.parametrize("name", ["QKV", "QKV/kv1", "QKV/kv2"])
def test_cross_attention_of_unequal_lengths(name, t, s):
    design = examples()[name]
    for causal in (False, "top-left", "bottom-right"):
        agree(design, sizes(design), torch.float32, 2, t, s, causal=causal)


@pytest.mark.parametrize("name", ["QKV", "QKV/kv2"])
def test_an_empty_batch(name):
    fused, plain = layers(examples()[name], sizes(examples()[name]), torch.float32)
    for layer in (fused, plain):
        assert layer(torch.zeros(0, 3, 18), causal=True).shape == (0, 3, 18)
        assert layer(torch.zeros(0, 3, 18)).shape == (0, 3, 18)


@settings(max_examples=60)
@given(data=st.data())
def test_any_shapes(data):
    whole = st.integers(1, 9)
    b, t, s = data.draw(st.integers(1, 3)), data.draw(st.integers(0, 9)), data.draw(st.integers(0, 9))
    groups, serves = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    heads, d_head, d_value, d_model = groups * serves, data.draw(whole), data.draw(whole), data.draw(whole)
    pattern = data.draw(st.sampled_from(["QKV", "QKK", "QQV", "QKQ", "XKV", "QKX", "XXX"]))
    if pattern in ("QKK", "QKQ", "XXX"):
        d_value = d_head
    if "X" in pattern:
        d_model = heads * (d_head if pattern[0] == "X" else d_value)
    try:
        design = Way(pattern, groups)
        dims = Dims(d_model=d_model, heads=heads, d_head=d_head, d_value=d_value)
        design.matrices(dims)
    except Refusal:
        design = Way(pattern)
        dims = Dims(d_model=d_model, heads=heads, d_head=d_head, d_value=d_value)
        design.matrices(dims)
    lengths = data.draw(st.none() | st.tuples(*[st.integers(0, s)] * b))
    causal = data.draw(st.sampled_from([False, "top-left", "bottom-right"]))
    agree(design, dims, torch.float32, b, t, s, causal=causal, lengths=lengths)
