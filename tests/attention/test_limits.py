"""Where attention breaks: huge scores, blind rows, NaN in padding, packed texts, second derivatives."""

import math

import pytest
import torch

from qkvlab.attention import core
from qkvlab.attention.scoring import Scoring
from qkvlab.attention.visible import Visible
from qkvlab.designs import parse
from qkvlab.errors import BadInput
from qkvlab.testing.sizes import TINY, attention, sizes, tokens

ROUTES = pytest.mark.parametrize("attend", [core.attend, core.attend_fused], ids=["plain", "fused"])
DESIGNS = (
    "QKV",
    "QKV/kv2",
    "QKV/kv2/cap2",
    "QKV/kv2/sink",
    "QKV/kv2/window3",
    "QQV/noself",
    "QKK/kv2/diff1",
    "QKV/rope",
)


@pytest.fixture(params=[3, 256], ids=["blocks", "whole"], autouse=True)
def rows(request, monkeypatch):
    monkeypatch.setattr(core, "ROWS", request.param)


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def seen_by(q, k, **limits):
    return Visible(shape=(*q.shape[:-1], k.shape[-2]), device=q.device, **limits)


@ROUTES
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("size", [1e4, 3e38])
@pytest.mark.parametrize("channels", [3, 5, 8, 16, 64])
@pytest.mark.parametrize("limits", [{}, {"causal": True}, {"padding": torch.tensor([3])}, {"window": 2}], ids=str)
def test_huge_scores_at_equal_widths(attend, limits, channels, size, dtype):
    # scores of even queries: size, -size, size / 2, ...; of odd ones the opposite
    each = math.sqrt(size / math.sqrt(channels)) * torch.ones(channels, dtype=dtype)
    q = torch.stack([each, -each, each, -each])[None, None].requires_grad_()
    k = torch.stack([each, -each, each / 2, -each / 2])[None, None].requires_grad_()
    v = torch.eye(4, channels, dtype=dtype)[None, None].requires_grad_()
    visible = seen_by(q, k, **limits)
    out = attend(q, k, v, visible, Scoring(root=math.sqrt(channels)))
    allowed = visible.of(visible.all_rows, visible.all_keys)
    scores = torch.outer(torch.tensor([1.0, -1, 1, -1]), torch.tensor([1.0, -1, 0.5, -0.5]))
    scores = scores if allowed is None else scores.masked_fill(~allowed.reshape(-1, 4), -math.inf)
    torch.testing.assert_close(out[0, 0], v[0, 0, scores.argmax(-1)])
    out.sum().backward()
    assert all(bool(leaf.grad.isfinite().all()) for leaf in (q, k, v))


@ROUTES
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("channels", [4, 5, 8])
def test_blind_rows_are_exactly_zero_at_equal_widths(attend, channels, groups, dtype):
    q = draw(2, 4, 7, channels, dtype=dtype).requires_grad_()
    k, v = (draw(2, groups, 7, channels, seed=seed, dtype=dtype).requires_grad_() for seed in (1, 2))
    padding = torch.tensor([[False, False, True, True, False, True, True], [False] * 7])
    for limits in ({"padding": padding, "causal": True}, {"padding": padding}, {"padding": padding, "window": 2}):
        visible = seen_by(q, k, **limits)
        blind = ~visible.of(visible.all_rows, visible.all_keys).any(-1).expand(2, 4, 7)
        out = attend(q, k, v, visible, Scoring(root=2.0))
        assert blind[1].all() and not out[blind].any() and out[~blind].any(-1).all()
        found = torch.autograd.grad(out.sum(), (q, k, v))
        assert all(bool(gradient.isfinite().all()) for gradient in found)
        assert not found[0][blind].any()


@pytest.mark.parametrize("route", ["plain", "fused"])
@pytest.mark.parametrize("name", DESIGNS)
@pytest.mark.parametrize("causal", [False, True], ids=["all", "causal"])
def test_padding_changes_no_bit(name, causal, route):
    layer = attention(parse(name), route=route, dtype=torch.float32)
    real = torch.tensor([[True, False, True, True, False, True, True], [True] * 5 + [False] * 2])
    x = tokens(layer.dims, 7, dtype=torch.float32)
    broken = x.masked_fill(~real[..., None], math.nan)
    broken[0, 1] = math.inf
    assert torch.equal(layer(x, causal=causal, padding=real)[real], layer(broken, causal=causal, padding=real)[real])


@pytest.mark.parametrize("name", DESIGNS)
def test_second_derivatives_of_the_explaining_route(name):
    layer = attention(parse(name), sizes(parse(name), TINY))
    x = tokens(layer.dims, 4)[:1].requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: layer(x, causal=True), (x,))


@ROUTES
@pytest.mark.parametrize("bend", [(), (torch.tanh,)], ids=["fusible", "bent"])
@pytest.mark.parametrize("limits", [{}, {"causal": True}, {"window": 2}, {"causal": True, "window": 3}], ids=str)
def test_packed_texts_do_not_see_each_other(attend, limits, bend):
    texts = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 2], [5, 5, 3, 3, 3, 3, 3, 3]])
    q, k, v = (draw(2, 2, 8, 4, seed=seed) for seed in range(3))
    scoring = Scoring(root=2.0, bends=tuple(lambda scores, back, f=f: f(scores) for f in bend))
    packed = attend(q, k, v, seen_by(q, k, segments=(texts, texts), **limits), scoring)
    for b, numbers in enumerate(texts):
        for number in numbers.unique():
            own = numbers == number
            alone = [part[b : b + 1, :, own] for part in (q, k, v)]
            wanted = core.attend(*alone, seen_by(alone[0], alone[1], **limits), scoring)
            torch.testing.assert_close(packed[b : b + 1, :, own], wanted, rtol=0, atol=1e-12)
    nobody = attend(q, k, v, seen_by(q, k, segments=(texts, texts + 9), **limits), scoring)
    assert not nobody.any(), "a text without keys sees nothing"


@pytest.mark.parametrize(
    "at", [torch.zeros(7), torch.zeros(7, dtype=torch.bool), torch.arange(6), torch.zeros(3, 7, dtype=torch.long)]
)
def test_positions_that_cannot_be_meant_are_refused(at):
    with pytest.raises(BadInput, match=r"positions of 7 queries must be whole numbers \(7,\) or \(batch, 7\)"):
        Visible(shape=(2, 4, 7, 7), device=torch.device("cpu"), asked=at)
