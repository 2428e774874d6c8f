"""A name that cannot be read teaches: its first wrong piece is named, and what is offered instead can be read."""

import re

import pytest

from qkvlab.designs import Way, examples, grammar, misread, parse
from qkvlab.designs.around import Around
from qkvlab.errors import BadInput, unknown


def refused(text):
    with pytest.raises(BadInput) as caught:
        parse(text)
    return str(caught.value)


def key_heads_are_moved_to_their_place(*texts):
    """The advice can be read, and has the same parts in the same order and the key heads that were asked for."""
    for text in texts:
        better = re.search(r"write (\S+)\.$", refused(text))
        assert better, refused(text)
        asked = text.lower().split("/")
        way = parse(asked[0]).name.lower().split("/")[0]
        between = [part for part in asked[1:-1] if not part.startswith("kv")]
        assert parse(better[1]).name.lower().split("/") == [way, asked[-1], *between]


BEHIND = (
    "QKV/window4/sink/cap30/rope/bias/kv2",
    "qkk/rope-base500/KV2",
    "QKV/kv4/noself/kv2",
    "gqa/kv4",
    "QKV/kv2/kv2",
)


@pytest.mark.parametrize("text", BEHIND)
def test_key_heads_in_the_wrong_place_are_moved(text):
    key_heads_are_moved_to_their_place(text)


@pytest.mark.parametrize("text", ["MLA64/kv2", "uniform/kv2", "QMQ/rope/kv2"])
def test_key_heads_of_what_has_none_to_group(text):
    base = text.split("/")[0]
    assert refused(text) == f"/kv2 groups the key heads of the fifteen ways, as in QKV/kv2; {base} is none."


@pytest.mark.parametrize(
    ("text", "behind", "piece", "nearest"),
    [
        ("QKV/ropee", "QKV", "ropee", "rope"),
        ("QKV/sink/qk-norm/rope", "QKV/sink", "qk-norm", "qknorm"),
        ("QKV/window/cap", "QKV", "window", "window1024"),
        ("MLA64/rope/bais", "MLA64/rope", "bais", "bias"),
        ("reformer/alibi2", "QQV/unitkeys/noself", "alibi2", "alibi"),
    ],
)
def test_the_first_wrong_part_is_named(text, behind, piece, nearest):
    assert refused(text).startswith(f"unknown part behind {behind}: {piece!r}; did you mean {nearest!r}? Known: ")


def test_every_part_is_offered_as_it_can_be_written():
    offered = misread.pieces(grammar.shown().values())
    assert {"kv2", "rope", "ropekv", "noself", "unitkeys", "biasqkv"} <= set(offered)
    makers = {type(parse(f"QKK/{piece}")) for piece in offered}
    assert makers == {Way} | {type(design) for design in examples().values() if isinstance(design, Around)}


def test_an_option_without_its_number():
    assert refused("QKV/rope-base") == "the option base of RoPE needs a number, such as base4; got '-base'."


@pytest.mark.parametrize("name", [None, 3, b"QKV"])
def test_a_name_is_a_text(name):
    assert repr(name) in refused(name)


def the_parts_between_are_lost(inner, last, examples):
    return BadInput(f"/{last} stands once, right behind the three letters: write {inner.name[:3]}/{last}.")


def the_key_heads_of_before_stay(inner, last, examples):
    return BadInput(f"/{last} stands once, right behind the three letters: write {inner.name}.")


def it_is_only_unknown(inner, last, examples):
    return unknown("design", f"{inner.name}/{last}", ("QKV",))


@pytest.mark.parametrize("bug", [the_parts_between_are_lost, the_key_heads_of_before_stay, it_is_only_unknown])
def test_bad_advice_is_caught(bug, monkeypatch):
    monkeypatch.setattr(grammar, "misread", bug)
    with pytest.raises(AssertionError):
        key_heads_are_moved_to_their_place(*BEHIND)
