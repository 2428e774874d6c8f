"""What can be laid into QKV is found by trying, and whatever is found computes the same."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from qkvlab import designs
from qkvlab.contracts import Array, Dims, Memory
from qkvlab.designs import laying
from qkvlab.designs.around import Around
from qkvlab.designs.design import Weights
from qkvlab.designs.ways import PATTERNS, Way

DIMS = Dims.of(16, 4)
OTHER = Dims(d_model=12, heads=2, d_head=4, d_value=3)
"""Sizes at which nothing may be x itself, and k and v cannot share."""


def held(name: str, dims: Dims = DIMS) -> str | None:
    found = laying.host(designs.parse(name), dims)
    return found and found.name


@pytest.mark.parametrize("name", [p for p in PATTERNS if p != "QKV"] + ["uniform", "frozen", "QDQ", "QMQ", "QJQ"])
def test_every_way_and_control_is_held_by_qkv(name):
    assert held(name) == "QKV"


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("QKV/kv2", "QKV"),  # a key head stands for each query that it serves
        ("QKK/kv1/rope", "QKV/rope"),
        ("QQV/noself", "QKV/noself"),
        ("QQV/qknorm/rope", "QKV/qknorm/rope"),
        ("uniform/alibi", "QKV/alibi"),
        ("QKQ/h4", "QKV/h4"),
        ("XXV/learned16", "QKV/learned16"),
        ("QQV/rank3", "QKV"),  # a product of two matrices is one matrix
        ("QKK/window3/cap20/sink", "QKV/window3/cap20/sink"),
    ],
)
def test_parts_stay_as_they_are(name, host):
    assert held(name) == host


@pytest.mark.parametrize(
    "name",
    ["QKV", "QKV/rope", "QQV/bias", "QKK/biasqkv", "QKV/diff", "QKK/ropekv", "MLA8/rope4", "QKV/rope/rank3"],
)
def test_what_is_full_itself_or_does_more_than_multiply_is_held_by_nobody(name):
    assert held(name) is None


@pytest.mark.parametrize("name", ["QQV", "uniform", "frozen", "QDQ", "QKV/kv1"])
def test_sizes_may_differ(name):
    assert held(name, OTHER) == "QKV"


@pytest.mark.parametrize("name", ["XXV", "QKK"])
def test_a_design_that_cannot_exist_is_held_by_nobody(name):
    assert held(name, OTHER) is None


def test_every_example_that_is_held_is_the_same_function():
    """Judged by `allclose` of whole projections in `laying`; here by the weights that are laid."""
    checked = 0
    for design in designs.examples().values():
        dims = design.sizes(DIMS)
        host = laying.host(design, dims)
        if host is None:
            continue
        rng = np.random.default_rng(3)
        weights = {n: rng.normal(size=(m.rows, m.columns)) for n, m in design.matrices(dims).items()}
        laid = laying.lay(design, dims, weights, np.eye(dims.d_model))
        x = rng.normal(size=(3, 4, dims.d_model))
        (q, memory), (other, kept) = (
            d.project(w, x, dims, np.arange(5, 9)) for d, w in ((design, weights), (host, laid))
        )
        assert np.allclose(q, other), design
        for mine, theirs in zip(design.recall(weights, memory, dims), host.recall(laid, kept, dims), strict=True):
            assert np.allclose(np.repeat(mine, dims.heads // mine.shape[-3], -3), theirs), design
        checked += 1
    assert checked > 30


def test_what_is_laid_is_shared_absent_or_nothing():
    rng = np.random.default_rng(0)
    w, v, one = rng.normal(size=(16, 16)), rng.normal(size=(16, 16)), np.eye(16)

    def laid(name: str, **weights: np.ndarray) -> dict[str, np.ndarray]:
        return laying.lay(designs.parse(name), DIMS, weights, one)

    signs = np.tile([1, -1], 8)
    for found, wanted in (
        (laid("QQV", q=w, v=v), (w, w, v)),
        (laid("XKX", k=w), (one, w, one)),
        (laid("XXX"), (one, one, one)),
        (laid("uniform", v=v), (0 * w, 0 * w, v)),
        (laid("QDQ", q=w, v=v), (w * signs, w, v)),
        (laid("QKV/kv1", q=w, k=w[:, :4], v=v[:, :4]), (w, np.tile(w[:, :4], 4), np.tile(v[:, :4], 4))),
    ):
        assert list(found) == ["q", "k", "v"]
        assert all(np.array_equal(a, b) for a, b in zip(found.values(), wanted, strict=True))


# Designs that look like a way and are none


@dataclass(frozen=True)
class Squared(Around):
    """k is squared: no multiple of x."""

    @property
    def name(self) -> str:
        return f"{self.inner.name}/squared"

    @property
    def words(self):
        return self.inner.words

    def recall(self, weights: Weights, memory: Memory, dims: Dims) -> tuple[Array, Array]:
        k, v = super().recall(weights, memory, dims)
        return k * k, v


@dataclass(frozen=True)
class Shifted(Squared):
    """x moves on by a token before k is made."""

    def remember(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> Memory:
        return super().remember(weights, np.roll(x, 1, -2), dims, positions)

    def project(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> tuple[Array, Memory]:
        return self.ask(weights, x, dims, positions), self.remember(weights, x, dims, positions)

    def recall(self, weights: Weights, memory: Memory, dims: Dims) -> tuple[Array, Array]:
        return self.inner.recall(weights, memory, dims)


@dataclass(frozen=True)
class Deaf(Squared):
    """Scores are divided by another number."""

    def root(self, dims: Dims) -> float:
        return 2 * super().root(dims)

    def recall(self, weights: Weights, memory: Memory, dims: Dims) -> tuple[Array, Array]:
        return self.inner.recall(weights, memory, dims)


@pytest.mark.parametrize("part", [Squared, Shifted, Deaf])
def test_a_part_is_taken_for_no_more_than_it_is(part, monkeypatch):
    design = part(Way("QQV"))
    found = laying.host(design, DIMS)
    assert found == replace(design, inner=Way("QKV"))  # the part stays around the host
    monkeypatch.setattr(laying, "_core", lambda design, dims: design)  # and is no part of what multiplies x
    laying.host.cache_clear()
    assert laying.host(design, DIMS) is None
    laying.host.cache_clear()
