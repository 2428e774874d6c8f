"""The speller looks back only, at n-grams as they stand in the text, and tells whose weight is largest."""

from __future__ import annotations

import pytest
import torch

from qkvlab.designs import parse
from qkvlab.models import speller
from qkvlab.models.speller import Speller

CLASSES, TOKENS = 11, 9


def made(design: str = "QKV", **sizes: int) -> Speller:
    torch.manual_seed(0)
    shape = {"layers": 2, "grams": 3, "buckets": 64, **sizes}
    return Speller(parse(design), classes=CLASSES, tokens=TOKENS, d_model=8, heads=2, hidden=12, **shape).double()


def text(seed: int = 0) -> torch.Tensor:
    return torch.randint(CLASSES, (3, TOKENS), generator=torch.Generator().manual_seed(seed))


def sees_nothing_to_come(model: Speller) -> None:
    tokens = text()
    logits = model(tokens)
    for place in range(1, TOKENS):
        changed = tokens.clone()
        changed[:, place:] = (changed[:, place:] + 1) % CLASSES
        assert torch.equal(model(changed)[:, :place], logits[:, :place])
        assert not torch.equal(model(changed)[:, place], logits[:, place])


@pytest.mark.parametrize("design", ["QKV", "QQV", "XXX", "uniform", "QKV/kv1"])
def test_what_comes_later_changes_nothing(design):
    model = made(design)
    assert model(text()).shape == (3, TOKENS, CLASSES)
    sees_nothing_to_come(model)


def test_an_n_gram_is_looked_up_with_its_order_and_no_further_back():
    model = made(layers=0)
    abc, bac, xabc = (torch.tensor([row]) for row in ([5, 1, 2, 3], [5, 2, 1, 3], [7, 1, 2, 3]))
    assert not torch.equal(model(abc)[:, -1], model(bac)[:, -1])
    assert torch.equal(model(abc)[:, -1], model(xabc)[:, -1])


def test_without_n_grams_only_the_present_character_is_looked_up():
    model = made(layers=0, grams=1)
    assert torch.equal(model(torch.tensor([[4, 6]]))[:, -1], model(torch.tensor([[5, 6]]))[:, -1])


def test_equal_characters_at_different_places_are_told_apart():
    logits = made(layers=0)(torch.full((1, TOKENS), 3))
    assert not torch.equal(logits[:, 4], logits[:, 5])


def test_a_shorter_text_needs_no_padding():
    model, tokens = made(), text()
    assert torch.allclose(model(tokens[:, :5]), model(tokens)[:, :5], rtol=1e-12)


def test_nats_are_those_of_the_softmax():
    model, tokens, targets = made(), text(), text(1)
    wanted = -model(tokens).log_softmax(-1).take_along_dim(targets[..., None], -1)[..., 0]
    assert torch.allclose(model.nats(tokens, targets), wanted, rtol=1e-12)


def test_own_counts_rows_by_hand():
    model, tokens = made(), text()
    shares = model.own(tokens)
    x = speller.norm(model.embed(tokens))
    weights = model.blocks[0].attention.trace(x, causal=True).weights  # (b, h, t, s)
    by_hand = [
        [sum(bool((w[t] < w[t, t]).sum() == TOKENS - 1) for w in heads) / 2 for t in range(TOKENS)] for heads in weights
    ]
    assert shares.shape == (2, 3, TOKENS)
    assert shares[0].tolist() == by_hand
    assert 0 < shares[0].mean() < 1


def test_nobody_owns_a_row_of_equal_weights():
    assert made("uniform").own(text())[..., 1:].max() == 0


def test_raw_vectors_of_unit_length_own_every_row():
    assert made("XXV", grams=1).own(torch.arange(TOKENS)[None])[0].mean() > 0.5


def test_planted_attention_that_sees_everything():
    model = made()
    for block in model.blocks:
        block.causal = False
    with pytest.raises(AssertionError):
        sees_nothing_to_come(model)


def test_planted_n_grams_that_reach_ahead(monkeypatch):
    monkeypatch.setattr(speller, "_past", lambda x, n: torch.roll(x, -n, dims=-1))
    with pytest.raises(AssertionError):
        sees_nothing_to_come(made())
