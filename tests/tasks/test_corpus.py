"""How a text is cut, what is refused, and the bar that follows from it."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import sys

import numpy as np
import pytest

from qkvlab.errors import BadInput
from qkvlab.tasks import corpus
from qkvlab.tasks.corpus import HELD_OUT, LEAST, OFTEN, TRAINING, Corpus
from qkvlab.tasks.ngram import WittenBell

RARE = "é北"


def written(seed: int = 0, length: int = LEAST) -> str:
    """A text of random syllables; rare characters stand in both parts."""
    rng = np.random.default_rng(seed)
    words = ["la", "lo", "min ", "tar", "u ", "qi\n"]
    text = "".join(words[i] for i in rng.integers(len(words), size=length))[: length - 2 * len(RARE)]
    return RARE + text + RARE


def of_file(tmp_path, raw: bytes) -> Corpus:
    file = tmp_path / "some text.txt"
    file.write_bytes(raw)
    return corpus.of(file)


def test_a_file_is_cut_where_it_says(tmp_path):
    text = written(length=HELD_OUT + TRAINING + 500)
    found = of_file(tmp_path, text.encode())
    assert (found.name, found.characters) == ("some text.txt", len(text))
    assert found.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert (len(found.training), len(found.held_out)) == (TRAINING, HELD_OUT)
    back = "?" + found.alphabet
    both = "".join(back[i] for i in np.concatenate([found.training, found.held_out]))
    assert both == "".join(c if c not in RARE else "?" for c in text[-HELD_OUT - TRAINING :])


def test_rare_characters_share_a_class_and_are_counted_in_training_only(tmp_path):
    text = written() + "z" * OFTEN  # frequent enough, yet only where nothing may be learned
    found = of_file(tmp_path, text.encode())
    assert set(found.alphabet) == set("lamintruqo \n")
    assert found.classes == len(found.alphabet) + 1
    assert (found.held_out[-OFTEN - len(RARE) :] == 0).all()


def test_at_most_so_many_classes(monkeypatch):
    monkeypatch.setattr(corpus, "CLASSES", 3)
    found = corpus.cut("three", written(seed=5))
    assert found.classes == 4
    assert set(found.alphabet) <= set("lamintruqo \n")


def bar_is_of_this_text(found: Corpus) -> None:
    model = WittenBell(found.training, found.classes, 5)
    everything = np.concatenate([found.training, found.held_out])
    assert found.five_gram == model.nats(everything[len(found.training) - 4 :])


def test_the_bar_counts_training_characters_and_asks_every_held_out_one():
    bar_is_of_this_text(corpus.cut("some", written()))


def test_the_bar_stands_above_what_the_text_hides_and_below_single_characters():
    found = corpus.cut("some", written())
    assert found.five_gram < found.one_gram - 0.5


def test_planted_bar_of_another_text():
    found = corpus.cut("some", written())
    other = corpus.cut("other", written(seed=1))
    mixed = dataclasses.replace(found)
    mixed.__dict__["five_gram"] = other.five_gram
    with pytest.raises(AssertionError):
        bar_is_of_this_text(mixed)


def test_planted_bar_that_has_seen_the_held_out_part():
    found = corpus.cut("some", written())
    leaking = WittenBell(np.concatenate([found.training, found.held_out]), found.classes, 5)
    found = dataclasses.replace(found)
    found.__dict__["five_gram"] = leaking.nats(np.concatenate([found.training[-4:], found.held_out]))
    with pytest.raises(AssertionError):
        bar_is_of_this_text(found)


def test_documentation_of_python_is_long_enough_and_says_nothing_twice():
    found = corpus.documentation()
    assert found is corpus.documentation()
    assert found.characters >= LEAST
    assert 60 < found.classes < 200
    assert 1 < found.five_gram < 2 < found.one_gram
    from pydoc_data.topics import topics

    assert found.characters < sum(len(t) for t in topics.values())


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "is empty; a text needs at least 100,000 characters"),
        (b"a", "has 1 characters|nothing else"),
        (b"a short text", "has 12 characters; a text needs at least 100,000"),
        (b"a" * 200_000, "'a' and nothing else"),
        (b"\n" * 5, r"'\\n' and nothing else"),
        (b"some text \xff\xfe", "is not UTF-8: byte 10 is 0xff"),
        ("北京".encode("gbk") * 90_000, "is not UTF-8: byte 0 is 0xb1"),
        ("北".encode() * 200_000 + b"\xe5", "is not UTF-8: byte 600,000 is 0xe5"),
    ],
)
def test_bad_text_is_refused_in_a_line(tmp_path, raw, says):
    with pytest.raises(BadInput, match=says) as refused:
        of_file(tmp_path, raw)
    assert "\n" not in str(refused.value)
    assert "some text.txt" in str(refused.value)


def test_what_is_no_file_is_refused_in_a_line(tmp_path):
    with pytest.raises(BadInput, match=r"missing\.txt: cannot be read: .*name a text file"):
        corpus.of(tmp_path / "missing.txt")
    with pytest.raises(BadInput, match="is not a file; name a text file"):
        corpus.of(tmp_path)
    if sys.platform != "win32":
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(BadInput, match="is not a file"):
            corpus.of(tmp_path / "pipe")


def test_a_file_that_is_too_large_is_refused_unread(tmp_path):
    file = tmp_path / "large.txt"
    with file.open("wb") as out:
        out.truncate(corpus.MOST + 1)
    with pytest.raises(BadInput, match=r"cut it to 100,000,000 \(tail -c 100000000\)"):
        corpus.of(file)
