"""Positions and lengths may be whole numbers of any size: a byte counts like a long one."""

import pytest
import torch

from qkvlab import Attention
from qkvlab.attention.visible import Visible
from qkvlab.errors import BadInput

X = torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
AT = torch.tensor([[0, 3, 4, 90, 5, 6, 7, 8, 9], [8, 7, 6, 5, 4, 3, 2, 1, 0]])
WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32)


def positions_count_alike(name, dtype):
    torch.manual_seed(0)
    for route in ("plain", "fused"):
        layer = Attention(name, d_model=32, heads=4, route=route).double()
        wanted = layer(X, layer.remember(X, AT), positions=AT.flip(1))
        small = layer(X, layer.remember(X, AT.to(dtype)), positions=AT.flip(1).to(dtype))
        assert torch.equal(small, wanted), f"{route}: off by {(small - wanted).abs().max():.1e}"


@pytest.mark.parametrize("dtype", WHOLE, ids=str)
@pytest.mark.parametrize("name", ["QKV/alibi", "QKV/window3", "QKV/learned100", "QKV/rope", "QKV/sin", "MLA16/rope"])
def test_positions_of_any_size(name, dtype):
    positions_count_alike(name, dtype)


@pytest.mark.parametrize("dtype", WHOLE, ids=str)
def test_lengths_of_any_size(dtype):
    layer, lengths = Attention("QKV", d_model=32).double(), torch.tensor([3, 9])
    assert torch.equal(layer(X, padding=lengths.to(dtype)), layer(X, padding=lengths))


def test_a_mask_of_each_sequence_says_so():
    layer, mask = Attention("QKV", d_model=32, heads=4).double(), torch.rand(2, 9, 9) < 0.5
    with pytest.raises(BadInput, match=r"\(heads, queries, keys\) = \(4, 9, 9\); got \(2, 9, 9\).* mask\[:, None\]"):
        layer(X, mask=mask)
    assert layer(X, mask=mask[:, None]).shape == X.shape


def distances_of_bytes_wrap(self, positions, span, shift):
    return self._places(span) + shift if positions is None else positions[..., span.slice]


@pytest.mark.parametrize("name", ["QKV/alibi", "QKV/window3"])
def test_distances_that_wrap_are_caught(name, monkeypatch):
    monkeypatch.setattr(Visible, "_at", distances_of_bytes_wrap)
    with pytest.raises(AssertionError, match="off by"):
        positions_count_alike(name, torch.uint8)
