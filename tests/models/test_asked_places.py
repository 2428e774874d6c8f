"""Asked places are rows of the whole, under every design and mask; own rows are counted as they are."""

from __future__ import annotations

import pytest
import torch

from qkvlab import designs
from qkvlab.designs import catalogue
from qkvlab.models import blocks
from qkvlab.models.decoder import Decoder

B, T, W = 3, 11, 29
NAMES = [*catalogue(), "QKV/kv2", "QQV/noself"]


def model(name: str = "QKV", **changes) -> Decoder:
    torch.manual_seed(0)
    sizes = {"words": W, "tokens": T, "d_model": 16, "heads": 4, "layers": 2, "hidden": 6, "span": 3}
    return Decoder(designs.parse(name), **(sizes | changes)).double()


def tokens() -> torch.Tensor:
    return torch.randint(0, W, (B, T), generator=torch.Generator().manual_seed(1))


def asked() -> torch.Tensor:
    return torch.randint(0, T, (B, 5), generator=torch.Generator().manual_seed(2))


def sees_no_future(name: str) -> bool:
    row, decoder = tokens(), model(name)
    whole = decoder(row)
    row[:, 6:] = (row[:, 6:] + 1) % W
    other = decoder(row)
    assert not torch.equal(other[:, 6:], whole[:, 6:])
    return torch.equal(other[:, :6], whole[:, :6])


def asked_is_whole(name: str, **changes) -> bool:
    decoder, places = model(name, **changes), asked()
    whole = torch.take_along_dim(decoder(tokens()), places[..., None], dim=1)
    return torch.allclose(decoder(tokens(), places), whole, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_no_token_sees_the_future(name):
    assert sees_no_future(name)


@pytest.mark.parametrize("name", NAMES)
def test_asked_places_are_rows_of_the_whole(name):
    assert asked_is_whole(name)
    assert asked_is_whole(name, hidden=0, layers=1, span=1)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", ["QKV", "QQV/noself"])
def test_a_block_at_some_places_is_rows_of_the_whole(name, causal):
    torch.manual_seed(0)
    block = blocks.Block(designs.parse(name), d_model=8, heads=2, hidden=5, causal=causal).double()
    x, only = torch.randn(B, T, 8).double(), asked()
    for padding in (None, torch.arange(T) < torch.tensor([[1], [4], [T]])):
        whole = blocks.at(block(x, padding=padding), only)
        assert torch.allclose(block(x, padding=padding, only=only), whole, atol=1e-12)


def test_shapes():
    assert model()(tokens()).shape == (B, T, W)
    assert model()(tokens(), asked()).shape == (B, 5, W)
    assert model()(tokens()[:, :4]).shape == (B, 4, W)


@pytest.mark.parametrize("learned", [False, True])
def test_logits_of_given_vectors_are_divided_by_the_root_of_the_width_and_those_of_learned_ones_are_not(learned):
    decoder = model(learned=learned, layers=0, tokens=0, span=1)
    row = tokens()
    x = blocks.norm(blocks.norm(decoder.words[row]))
    wanted = x @ decoder.words.T / (1 if learned else 4)
    assert torch.allclose(decoder(row), wanted, atol=1e-12) and decoder.words.requires_grad is learned


def test_own_rows_of_known_weights():
    """x itself as q and k, all words alike in length: everybody looks mostly at themselves; uniform never does."""
    found = model("XXV", span=1, tokens=0, layers=1, d_model=64).own(torch.arange(T)[None])
    assert found.shape == (1, 1, T) and found[0, 0, 1:].mean() > 0.9
    even = model("uniform", layers=2).own(tokens())
    assert even.shape == (2, B, T) and not even[..., 1:].any()


def test_planted_future(monkeypatch):
    init = blocks.Block.__init__

    def blind(self, design, **sizes):
        init(self, design, **sizes | {"causal": False})

    monkeypatch.setattr(blocks.Block, "__init__", blind)
    assert not sees_no_future("QKV")


@pytest.mark.parametrize("bug", ["future", "self"])
def test_planted_masks_of_asked_places(monkeypatch, bug):
    if bug == "future":
        monkeypatch.setattr(blocks.Block, "_visible", lambda *_: None)
    else:
        of = blocks.Block._visible

        def itself_too(block, x, padding, only):
            return of(block, x, padding, only) | (only[:, None, :, None] == torch.arange(x.shape[-2]))

        monkeypatch.setattr(blocks.Block, "_visible", itself_too)
    assert not asked_is_whole("QQV/noself")
