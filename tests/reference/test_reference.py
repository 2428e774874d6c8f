"""The yardstick is itself measured: against a page of arithmetic by hand, and the reader against its definition."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkvlab import reference
from qkvlab.reference import softmax

NAMES = ["QKV", "QQV", "QKK", "QKQ", "QQQ", "XKV", "QXV", "QKX", "XKK", "QXQ", "QQX", "XXV", "XKX", "QXX", "XXX"]


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def test_two_tokens_by_hand():
    # one head of one channel: q = 1, 2; k = 3, 0; v = 10, 20; scores q k / sqrt(1)
    x = np.array([[1.0, 0.0], [0.0, 1.0]])
    w = {"q": np.array([[1.0], [2.0]]), "k": np.array([[3.0], [0.0]]), "v": np.array([[10.0], [20.0]])}
    got = reference.trace("QKV", w | {"out": np.array([[1.0, -1.0]])}, x, heads=1, d_head=1)
    assert got.scores.tolist() == [[[3.0, 0.0], [6.0, 0.0]]]
    first, second = 1 / (1 + math.exp(-3)), 1 / (1 + math.exp(-6))
    np.testing.assert_allclose(got.weights, [[[first, 1 - first], [second, 1 - second]]], atol=1e-15)
    wanted = [10 * first + 20 * (1 - first), 10 * second + 20 * (1 - second)]
    np.testing.assert_allclose(got.output, [[w, -w] for w in wanted], atol=1e-14)


def test_scores_are_divided_by_the_root_of_d_head():
    x = np.ones((1, 4))
    got = reference.trace("XXX", {"out": np.eye(4)}, x, heads=1, d_head=4)
    assert got.scores.tolist() == [[[2.0]]]


def test_query_heads_belong_to_key_heads_in_order():
    x = draw(3, 8)
    w = {"q": draw(8, 8, seed=1), "k": draw(8, 4, seed=2), "v": draw(8, 6, seed=3), "out": np.eye(12)}
    got = reference.trace("QKV/kv2", w, x, heads=4, d_head=2)
    for head, key_head in enumerate([0, 0, 1, 1]):
        q, k = got.q[head], got.k[key_head]
        np.testing.assert_allclose(got.scores[head], q @ k.T / math.sqrt(2), atol=1e-12)
        mixed = got.weights[head] @ got.v[key_head]
        np.testing.assert_allclose(got.output[:, 3 * head : 3 * head + 3], mixed, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_letters_say_which_matrix_makes_what(name):
    x, given_matrices = draw(3, 4), {letter: draw(4, 4, seed=ord(letter)) for letter in "qkv"}
    steps = reference.trace(name, given_matrices | {"out": np.eye(4)}, x, heads=1, d_head=4)
    for made, letter in zip((steps.q, steps.k, steps.v), name.lower(), strict=True):
        np.testing.assert_allclose(made[0], x if letter == "x" else x @ given_matrices[letter])


def test_controls():
    x = draw(3, 4)
    w = {"q": draw(4, 4, seed=1), "k": draw(4, 4, seed=2), "v": draw(4, 6, seed=3), "out": draw(6, 4, seed=4)}
    shape = {"heads": 2, "d_head": 2}
    uniform = reference.trace("uniform", w, x, **shape)
    np.testing.assert_allclose(uniform.output, np.tile((x @ w["v"]).mean(0) @ w["out"], (3, 1)))
    frozen, full = reference.trace("frozen", w, x, **shape), reference.trace("QKV", w, x, **shape)
    assert np.array_equal(frozen.output, full.output)
    signed = reference.trace("QDQ", w, x, **shape)
    np.testing.assert_allclose(signed.q, signed.k * [1, -1])
    np.testing.assert_allclose(signed.scores, signed.scores.swapaxes(-2, -1))


def test_memory_and_masks():
    x, y = draw(2, 3, 4), draw(2, 5, 4, seed=1)
    w = {letter: draw(4, 4, seed=ord(letter)) for letter in "qkv"} | {"out": np.eye(4)}
    allowed = np.tri(3, 5, 1, dtype=bool)
    allowed[1] = False
    got = reference.trace("QKV", w, x, y, heads=2, d_head=2, allowed=allowed)
    assert got.weights.shape == (2, 2, 3, 5)
    assert not got.weights[..., ~allowed].any() and not got.output[:, 1].any()
    short = reference.trace("QKV", w, x, y[:, :2], heads=2, d_head=2)
    np.testing.assert_allclose(got.output[:, 0], short.output[:, 0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision_stays_what_it_was(dtype):
    x = draw(3, 4).astype(dtype)
    for name in ("QKV", "QDQ", "uniform"):
        w = {letter: draw(4, 4).astype(dtype) for letter in ("q", "k", "v", "out")}
        got = reference.trace(name, w, x, heads=2, d_head=2, allowed=np.tri(3, dtype=bool))
        assert {getattr(got, field).dtype for field in got.__dataclass_fields__} == {np.dtype(dtype)}


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=6), st.data())
def test_softmax_is_shares(scores, data):
    allowed = np.array(data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores))))
    got = softmax(np.array(scores), allowed)
    assert got[~allowed].sum() == 0 and (got >= 0).all()
    assert math.isclose(got.sum(), 1.0) if allowed.any() else got.sum() == 0


def test_softmax_of_nothing():
    assert softmax(np.zeros((2, 0))).shape == (2, 0)


def shelf():
    words, contents = draw(9, 6), draw(4, 6, seed=1)
    w = {"q": draw(6, 6, seed=2), "k": draw(6, 6, seed=3), "v": draw(6, 8, seed=4), "out": draw(8, 6, seed=5)}
    return w, words, contents


def test_the_reader_asks_the_shelf():
    w, words, contents = shelf()
    questions, labels, on_shelf = np.array([8, 0]), np.array([1, 5, 3]), np.array([2, 0, 3])
    got = reference.read(
        "QKV", w, words, contents, questions=questions, labels=labels, on_shelf=on_shelf, heads=2, d_head=3
    )
    for n, question in enumerate(questions):
        books = [words[label] + contents[content] for label, content in zip(labels, on_shelf, strict=True)]
        parts = []
        for head in range(2):
            of_head, of_value = slice(3 * head, 3 * head + 3), slice(4 * head, 4 * head + 4)
            q = (words[question] @ w["q"])[of_head]
            scores = [q @ (book @ w["k"])[of_head] / math.sqrt(3) for book in books]
            shares = [math.exp(score) / sum(map(math.exp, scores)) for score in scores]
            np.testing.assert_allclose(got.scores[head, n], scores, atol=1e-12)
            np.testing.assert_allclose(got.weights[head, n], shares, atol=1e-12)
            parts.append(sum(share * (book @ w["v"])[of_value] for share, book in zip(shares, books, strict=True)))
        returned = np.concatenate(parts) @ w["out"]
        np.testing.assert_allclose(got.returned[n], returned, atol=1e-12)
        np.testing.assert_allclose(got.logits[n], contents @ returned / math.sqrt(6), atol=1e-12)


def test_the_reader_reads_many_shelves():
    w, words, contents = shelf()
    ids = np.random.default_rng(0)
    questions, labels, on_shelf = (ids.integers(0, n, (5, m)) for n, m in ((9, 2), (9, 7), (4, 7)))
    options = {"heads": 2, "d_head": 3}
    many = reference.read("QQV", w, words, contents, questions=questions, labels=labels, on_shelf=on_shelf, **options)
    assert many.logits.shape == (5, 2, 4) and many.weights.shape == (5, 2, 2, 7)
    for n in range(5):
        one = reference.read(
            "QQV", w, words, contents, questions=questions[n], labels=labels[n], on_shelf=on_shelf[n], **options
        )
        np.testing.assert_allclose(many.logits[n], one.logits, atol=1e-12)


def test_it_shares_nothing_with_what_it_measures():
    code = (
        "import sys; sys.modules['torch'] = None; import qkvlab.reference; "
        "print([m for m in sys.modules if m.startswith(('qkvlab.designs', 'qkvlab.attention'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
