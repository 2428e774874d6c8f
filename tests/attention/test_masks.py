"""Masks and arguments: what is allowed, what is refused, and what the refusal says."""

import math

import pytest
import torch

from qkvlab import Attention
from qkvlab.attention.masks import padding_mask
from qkvlab.attention.visible import Visible
from qkvlab.errors import BadInput
from qkvlab.testing.attending import every_mask

X = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
Y = torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=["fused", "plain"])
def attn(request):
    torch.manual_seed(0)
    return Attention("QKV", d_model=16, heads=2, route=request.param)


def combine(shape, **limits):
    visible = Visible(shape=shape, device=X.device, **limits)
    return visible.of(visible.all_rows, visible.all_keys)


def causal_mask(queries, keys, align):
    return combine((2, 3, queries, keys), causal=align)


def test_alignment_is_what_its_name_says():
    top, bottom = causal_mask(2, 4, "top-left"), causal_mask(2, 4, "bottom-right")
    assert top.tolist() == [[True, False, False, False], [True, True, False, False]]
    assert bottom.tolist() == [[True, True, True, False], [True, True, True, True]]
    assert causal_mask(3, 2, "bottom-right").tolist() == [[False, False], [True, False], [True, True]]
    for align in (True, "top-left", "bottom-right"):
        assert torch.equal(causal_mask(4, 4, align), torch.ones(4, 4, dtype=torch.bool).tril())


def test_causal_of_unequal_lengths_needs_a_name(attn):
    with pytest.raises(BadInput, match=r"5 queries over 7 keys .*causal='top-left'.*causal='bottom-right'"):
        attn(X, attn.remember(Y), causal=True)
    with pytest.raises(BadInput, match="5 queries over 7 keys"):
        attn.trace(X, attn.remember(Y), causal=True)


@pytest.mark.parametrize("causal", ["up", "bottom_right", None, 0, 2, 1.5, ""])
def test_unknown_alignments_are_refused(attn, causal):
    with pytest.raises(BadInput, match="causal must be True, False"):
        attn(X, causal=causal)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.float32, torch.bfloat16])
def test_masks_that_are_not_boolean_are_refused(attn, dtype):
    with pytest.raises(BadInput, match=r"mask must be boolean.*got torch\.\w+.*mask\.bool\(\)"):
        attn(X, mask=torch.ones(5, 5, dtype=dtype))


@pytest.mark.parametrize("shape", [(4, 5), (5, 4), (3, 1, 5, 5), (2, 3, 5, 5), (1, 2, 2, 5, 5), (0,)])
def test_masks_that_do_not_fit_are_refused(attn, shape):
    with pytest.raises(BadInput, match=r"mask must broadcast to the scores.*= \(2, 2, 5, 5\); got"):
        attn(X, mask=torch.ones(shape, dtype=torch.bool))


@pytest.mark.parametrize("lengths", [[6, 1], [-1, 2], [0, 2**40]])
def test_lengths_out_of_range_are_refused(attn, lengths):
    with pytest.raises(BadInput, match=r"lengths must lie in 0\.\.5; got \["):
        attn(X, padding=torch.tensor(lengths))


@pytest.mark.parametrize(
    "padding",
    [
        torch.tensor([1.0, 2.0]),
        torch.tensor([math.nan, 2.0]),
        torch.tensor([[1, 2]]),
        torch.tensor(3),
        torch.ones(2, 6, dtype=torch.bool),
        torch.ones(5, dtype=torch.bool),
        torch.ones(2, 5),
    ],
    ids=lambda p: f"{p.dtype}{tuple(p.shape)}",
)
def test_padding_of_another_kind_is_refused(attn, padding):
    with pytest.raises(BadInput, match="padding"):
        attn(X, padding=padding)


@pytest.mark.parametrize("padding", [torch.tensor([1, 2, 3]), torch.ones(3, 5, dtype=torch.bool)])
def test_padding_of_another_batch_is_refused(attn, padding):
    with pytest.raises(BadInput, match=r"padding must broadcast to the scores.*got \(3, 1, 1, 5\)"):
        attn(X, padding=padding)
    with pytest.raises(BadInput, match="padding must broadcast"):
        attn(X[:1], padding=padding)


@pytest.mark.parametrize("x", [torch.zeros(16), torch.zeros(2, 5, 15), torch.zeros(())])
def test_x_of_another_width_is_refused(attn, x):
    with pytest.raises(BadInput, match=r"x must be \(batch, tokens, d_model=16\)"):
        attn(x)
    with pytest.raises(BadInput, match="d_model=16"):
        attn.remember(x)


def test_a_layer_needs_a_design_and_a_route():
    with pytest.raises(BadInput, match="design must be a name such as 'QQV' or a Design; got 5"):
        Attention(5, d_model=16)
    with pytest.raises(BadInput, match="route must be one of fused, native, plain; got 'flash'"):
        Attention("QKV", d_model=16, route="flash")
    with pytest.raises(BadInput, match="did you mean 'QQV'"):
        Attention("QQW", d_model=16)


def test_lengths_and_booleans_are_the_same_padding(attn):
    lengths = torch.tensor([3, 5])
    real = torch.arange(5) < lengths[:, None]
    assert torch.equal(attn(X, padding=lengths), attn(X, padding=real))
    assert torch.equal(padding_mask(5, lengths), padding_mask(5, real))


def test_padding_anywhere_equals_tokens_that_are_not_there(attn):
    real = torch.tensor([[False, True, True, False, True]]).expand(2, -1)
    short = attn(X, attn.remember(X[:, real[0]]))
    torch.testing.assert_close(attn(X, padding=real), short, rtol=0, atol=1e-6)


def test_masks_are_joined_by_and():
    mask = torch.rand(2, 1, 5, 5) < 0.7
    joined = combine((2, 3, 5, 5), causal=True, padding=torch.tensor([3, 5]), mask=mask)
    parts = causal_mask(5, 5, True) & padding_mask(5, torch.tensor([3, 5])) & mask
    assert torch.equal(joined, parts)
    assert combine((2, 3, 5, 5)) is None


@pytest.mark.parametrize("mask", list(every_mask((2, 2, 5, 7))), ids=lambda m: str(tuple(m.shape)))
def test_a_mask_means_the_same_in_every_broadcast_shape(attn, mask):
    memory = attn.remember(Y)
    whole = mask.expand(2, 2, 5, 7)
    torch.testing.assert_close(attn(X, memory, mask=mask), attn(X, memory, mask=whole), rtol=0, atol=1e-6)


def test_a_mask_of_ones_is_no_mask(attn):
    torch.testing.assert_close(attn(X, mask=torch.ones(5, 5, dtype=torch.bool)), attn(X), rtol=0, atol=1e-6)


def test_memory_of_one_shelf_serves_the_whole_batch(attn):
    shelf = attn.remember(Y[:1])
    both = attn.remember(Y[:1].expand(2, -1, -1))
    torch.testing.assert_close(attn(X, shelf), attn(X, both), rtol=0, atol=1e-6)


def test_one_sentence_without_a_batch(attn):
    torch.testing.assert_close(attn(X[0], causal=True), attn(X, causal=True)[0], rtol=0, atol=1e-6)
