"""Joined forms of MLA: the same q k^T, the same output from matrices that were put together beforehand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from qkvlab.contracts import Dims
from qkvlab.designs import joined, parse
from qkvlab.designs.design import functions, join_heads
from qkvlab.designs.rotation import Rotation

DIMS = Dims(d_model=40, heads=3, d_head=8, d_value=6)
NAMES = ("MLA5/rope2", "MLA8/rope", "MLA6q9/rope4", "MLA5/rope4-base500-yarn-by4-of16", "MLA8", "MLA3q9", "MLA/rope")
TOKENS = 7


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def given(design, cast):
    weights = {name: cast(draw(m.rows, m.columns, seed=i)) for i, (name, m) in enumerate(design.matrices(DIMS).items())}
    return weights, cast(draw(DIMS.heads * DIMS.d_value, DIMS.d_model, seed=99)), cast(draw(2, TOKENS, 40, seed=98))


def made(form, weights, out, x, positions):
    """What is kept, all scores, and what every token brings to every head, (b, h, s, d)."""
    q, memory = form.project(weights, x, DIMS, positions)
    k, v = form.recall(weights, memory, DIMS)
    k, v = (functions(x).broadcast_to(part, (2, DIMS.heads, *part.shape[-2:])) for part in (k, v))
    heads = form.finish(weights, v, DIMS)
    brought = heads @ out.reshape(DIMS.heads, -1, DIMS.d_model)
    return memory.kept["latent"], q @ k.swapaxes(-1, -2) / form.root(DIMS), brought


def forms(design):
    return [(each, each.joined(DIMS)) for each in (design, design.absorbed()) if each.joined(DIMS) is not None]


def equals_what_it_joins(form, other, cast=torch.from_numpy):
    weights, out, x = given(form.whole, cast)
    before, seen = {name: weight + 0 for name, weight in weights.items()}, x + 0
    settled, other_out = form.settle(weights, DIMS), form.settle_out(weights, out, DIMS)
    assert {name: tuple(m.shape) for name, m in settled.items() if name in form.matrices(DIMS)} == {
        name: (m.rows, m.columns) for name, m in form.matrices(DIMS).items()
    }
    for positions in (None, cast(np.arange(TOKENS)[::-1].copy()), cast(np.arange(2 * TOKENS).reshape(2, -1))):
        with torch.no_grad():
            got = made(form, settled, other_out, x, positions)
        for one, two in zip(got, made(other, weights, out, x, positions), strict=True):
            np.testing.assert_allclose(np.asarray(one), np.asarray(two), rtol=1e-9, atol=1e-9)
    assert (x == seen).all() and all((weights[name] == weight).all() for name, weight in before.items())


@pytest.mark.parametrize("cast", [torch.from_numpy, np.asarray], ids=["tensors", "arrays"])
@pytest.mark.parametrize("name", NAMES)
def test_joined_forms_are_equal(name, cast):
    for other, form in forms(parse(name)):
        equals_what_it_joins(form, other, cast)


def test_who_has_which():
    assert [[type(form).__name__ for _, form in forms(parse(name))] for name in NAMES] == [
        *[["Joined", "Folded"]] * 4,
        *[["Folded"]] * 2,
        ["Joined"],
    ]
    assert parse("QKV/rope").joined(DIMS) is None and parse("MLA8/rope/noself").joined(DIMS) is None


@pytest.mark.parametrize("latent", range(1, 40))
@pytest.mark.parametrize("asked", ["", "q7", "q300"])
def test_folded_matrices_are_no_larger(latent, asked):
    whole = parse(f"MLA{latent}{asked}/rope2")
    folded = joined.Folded(whole)

    def size(design, columns):
        return sum(m.rows * m.columns for m in design.matrices(DIMS).values()) + DIMS.heads * columns * DIMS.d_model

    assert (whole.absorbed().joined(DIMS) == folded) == (size(folded, latent) <= size(whole, DIMS.d_value))
    assert whole.absorbed().joined(DIMS) in (folded, None)


class PartsChangePlaces(joined.Joined):
    def settle(self, weights, dims):
        made = super().settle(weights, dims)
        return {**made, "dkv": made["dkv"].roll(1, -1)}


class HeadsAreMixed(joined.Joined):
    def settle(self, weights, dims):
        turned = weights["qr"].reshape(len(weights["qr"]), dims.heads, -1).flip(1).reshape(weights["qr"].shape)
        return super().settle({**weights, "qr": turned}, dims)


class KeysDoNotTurn(joined.Joined):
    def turn(self, heads, dims, positions, *, back=False):
        if heads.shape[-3] == dims.heads:
            super().turn(heads, dims, positions, back=back)


class LatentIsNotNormed(joined.Joined):
    def project(self, weights, x, dims, positions):
        object.__setattr__(self, "whole", replace(self.whole))
        object.__setattr__(self.whole, "normed", lambda latent, gain: latent * gain)
        return super().project(weights, x, dims, positions)


class KeptIsTheFirstHead(joined.Folded):
    def settle(self, weights, dims):
        made = super().settle(weights, dims)
        return {**made, "q": made["q"].roll(sum(self.whole.widths(dims)), -1)}


class GainIsForgotten(joined.Folded):
    def settle(self, weights, dims):
        return {**super().settle(weights, dims), "dkv_gain": weights["dkv_gain"] * 0 + 1}


class ValuesFoldedAsKeys(joined.Folded):
    def settle_out(self, weights, out, dims):
        return super().settle_out({**weights, "uv": weights["uk"][:, : weights["uv"].shape[1]]}, out, dims)


class QueriesAreWrittenInto(joined.Folded):
    def settle(self, weights, dims):
        weights["q"][...] = 0
        return super().settle(weights, dims)


@pytest.mark.parametrize("bug", [PartsChangePlaces, HeadsAreMixed, KeysDoNotTurn, LatentIsNotNormed])
def test_planted_bugs_of_joined_forms_are_seen(bug):
    whole = parse("MLA5/rope2")
    with pytest.raises(AssertionError):
        equals_what_it_joins(bug(whole), whole)


@pytest.mark.parametrize("bug", [GainIsForgotten, ValuesFoldedAsKeys, QueriesAreWrittenInto, KeptIsTheFirstHead])
def test_planted_bugs_of_folded_forms_are_seen(bug):
    whole = parse("MLA5/rope2")
    with pytest.raises(AssertionError):
        equals_what_it_joins(bug(whole), whole.absorbed())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("still", [0, 3, 4])
@pytest.mark.parametrize("pairing", ["halves", "interleaved"])
@pytest.mark.parametrize("positions", [None, torch.tensor([5, 2, 9]), torch.tensor([4])], ids=["whole", "given", "one"])
def test_last_channels_turn_where_they_lie(positions, pairing, still, dtype):
    rotation = Rotation(pairing=pairing)
    tokens = 3 if positions is None else len(positions)
    row = torch.from_numpy(draw(2, tokens, 4 * (still + 6) + 1)).to(dtype)
    heads = row[..., 1:].unflatten(-1, (4, -1)).swapaxes(1, 2)
    wanted = torch.cat([heads[..., :still], rotation.turn(heads[..., still:], positions)], -1)
    with torch.no_grad():
        rotation.turn_last(heads, 6, positions)
    torch.testing.assert_close(heads, wanted)
    assert torch.equal(join_heads(heads), row[..., 1:])
