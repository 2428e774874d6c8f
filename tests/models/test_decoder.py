"""The decoder: nothing to come is seen, positions and span do what they say."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from qkvlab.designs import parse
from qkvlab.models import decoder
from qkvlab.models.decoder import Decoder

WORDS, TOKENS = 13, 8


def made(design: str = "QKV", **sizes: int) -> Decoder:
    torch.manual_seed(0)
    shape = {"tokens": TOKENS, "layers": 2, "hidden": 12, "span": 3, **sizes}
    return Decoder(parse(design), words=WORDS, d_model=8, heads=2, **shape).double()


def text(seed: int = 0) -> torch.Tensor:
    return torch.randint(WORDS, (3, TOKENS), generator=torch.Generator().manual_seed(seed))


def sees_nothing_to_come(model: Decoder) -> None:
    tokens = text()
    logits = model(tokens)
    for place in range(1, TOKENS):
        changed = tokens.clone()
        changed[:, place:] = (changed[:, place:] + 1) % WORDS
        assert torch.equal(model(changed)[:, :place], logits[:, :place])
        assert not torch.equal(model(changed)[:, place], logits[:, place])


@pytest.mark.parametrize("sizes", [{}, {"tokens": 0}, {"span": 1}, {"hidden": 0}], ids=str)
def test_what_comes_later_changes_nothing(sizes):
    model = made(**sizes)
    assert model(text()).shape == (3, TOKENS, WORDS)
    sees_nothing_to_come(model)


def test_asked_places_are_picked_and_nothing_else_changes():
    model, tokens = made(), text()
    asked = torch.tensor([[0, 5], [7, 7], [3, 1]])
    assert torch.allclose(model(tokens, asked), torch.take_along_dim(model(tokens), asked[..., None], 1), rtol=1e-12)


def test_without_positions_the_order_of_what_stands_before_is_invisible():
    tokens, turned = torch.tensor([[1, 2, 3, 4]]), torch.tensor([[2, 1, 3, 4]])
    bag, row = made(tokens=0, span=1, layers=1), made(span=1, layers=1)
    assert torch.allclose(bag(tokens)[:, -1], bag(turned)[:, -1], rtol=1e-12)
    assert not torch.allclose(row(tokens)[:, -1], row(turned)[:, -1])


def test_the_span_reaches_exactly_so_far_back():
    model = made(span=3, layers=0, tokens=0)
    near, far = torch.tensor([[5, 1, 2, 3]]), torch.tensor([[5, 9, 2, 3]])
    assert not torch.equal(model(near)[:, -1], model(far)[:, -1])
    assert torch.equal(model(near)[:, -1], model(torch.tensor([[9, 1, 2, 3]]))[:, -1])


def test_the_span_is_a_causal_convolution():
    model, tokens = made(tokens=0), text()
    x = F.embedding(tokens, model.words)
    kernel = torch.cat([model.local.flip(0), torch.ones(1, 8, dtype=torch.double)]).T[:, None]  # oldest first
    wanted = F.conv1d(F.pad(x.mT, (2, 0)), kernel, groups=8).mT
    assert torch.allclose(model.embed(tokens), wanted, rtol=1e-12)


def test_given_vectors_do_not_learn():
    model = Decoder(parse("QKV"), words=5, tokens=4, d_model=8, heads=2, layers=1, hidden=0, learned=False)
    assert "words" not in {name for name, p in model.named_parameters() if p.requires_grad}


def test_planted_attention_that_sees_everything():
    model = made()
    for block in model.blocks:
        block.causal = False
    with pytest.raises(AssertionError):
        sees_nothing_to_come(model)


def test_planted_span_that_reaches_ahead(monkeypatch):
    pad = F.pad
    monkeypatch.setattr(decoder.F, "pad", lambda x, sides: pad(x, sides).roll(-2 * sides[2], -2))
    with pytest.raises(AssertionError):
        sees_nothing_to_come(made())
