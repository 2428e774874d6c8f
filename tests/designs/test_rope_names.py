"""Names of rotary positions: read in any order, printed in one, refused in one line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkvlab.contracts import Dims
from qkvlab.designs import parse
from qkvlab.designs.rope import RopeKV
from qkvlab.designs.rotation import Rotation, read
from qkvlab.designs.speeds import Linear, Llama3, Ntk, Proportional, Yarn
from qkvlab.designs.ways import Way
from qkvlab.errors import BadInput, Refusal

NAMES = {
    "qkv/ROPE-base10000": "QKV/rope",
    "QKV/rope-Interleaved-BASE500000.0": "QKV/rope-interleaved-base500000",
    "QKV/rope-of8192-by8.0-llama3-low1-high4": "QKV/rope-llama3-by8-of8192",
    "QKV/rope-yarn-of4096-by40-fast32-gain1.0-first64": "QKV/rope-first64-yarn-by40-of4096-gain1",
    "qkk/kv2/ropekv-ntk-by02.50": "QKK/kv2/ropekv-ntk-by2.5",
    "qkk/rope-proportional-keep.25": None,
}


@pytest.mark.parametrize(("text", "name"), NAMES.items())
def test_names_are_printed_in_one_way(text, name):
    if name is None:
        with pytest.raises(BadInput):
            parse(text)
    else:
        assert parse(text).name == name and parse(name) == parse(text)


numbers = st.integers(1, 10**6) | st.floats(1, 10**6).map(lambda n: round(n, 3))
SCALINGS = st.one_of(
    st.builds(Linear, by=numbers),
    st.builds(Ntk, by=numbers),
    st.builds(Llama3, by=numbers, of=numbers),
    st.builds(Yarn, by=numbers, of=numbers, gain=st.none() | numbers, exact=st.sampled_from([0, 1])),
    st.builds(Proportional, keep=st.sampled_from([0.25, 0.5, 1])),
)


@given(
    st.sampled_from(["halves", "interleaved"]),
    st.none() | st.integers(1, 500).map(lambda n: 2 * n),
    numbers.filter(lambda n: n > 1),
    st.none() | SCALINGS,
)
def test_every_rotation_is_read_back(pairing, first, base, scaling):
    rotation = Rotation(pairing=pairing, first=first, base=base, scaling=scaling)
    assert read(rotation.options) == rotation == read(rotation.options.upper())
    name = RopeKV(Way("QKK", 2), rotation).name
    assert parse(name).name == name


WRONG = {
    "QKV/rope/rope-base5": "turns by positions once",
    "QKK/rope/ropekv": "turns by positions once",
    "QKV/rope-first3": "even number from 2 on; got first3",
    "QKV/rope-first0": "got first0",
    "QKV/rope-first2.5": "whole channels; got first2.5",
    "QKV/rope-base1": "greater than 1; got base1",
    "QKV/rope-bsae5": "unknown option of RoPE 'bsae5'; did you mean 'base'",
    "QKV/rope-base": "the option base of RoPE needs a number",
    "QKV/rope-base5-base6": "base twice",
    "QKV/rope-by4": "one scaling of linear, ntk, llama3, yarn, proportional",
    "QKV/rope-ntk-linear-by4": "one scaling of",
    "QKV/rope-yarn-by4": "yarn needs by and of",
    "QKV/rope-linear-by4-of5": "linear needs by, and may take nothing else",
    "QKV/rope-linear-by0.5": "linear needs by >= 1; got linear-by0.5",
    "QKV/rope-llama3-by8-of64-low4": "low < high; got llama3-by8-of64-low4",
    "QKV/rope-proportional-keep2": "0 < keep <= 1",
    "QKV/ropekv-base5": "QKV has none; use QKV/rope-base5",
}


@pytest.mark.parametrize(("name", "said"), WRONG.items())
def test_what_cannot_be_meant_is_said_in_one_line(name, said):
    with pytest.raises(BadInput) as caught:
        parse(name)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "d_head", "said"),
    [
        ("QKV/rope", 9, "heads of 9 channels. Choose an even d_head, or turn some of them with -first8"),
        ("QKK/ropekv", 7, "heads of 7 channels"),
        ("QKV/rope-first8", 6, "first 8 channels of heads that have 6"),
    ],
)
def test_heads_that_cannot_be_turned_are_refused(name, d_head, said):
    for act in (parse(name).cost, parse(name).build):
        with pytest.raises(Refusal, match=said):
            act(Dims.of(18, 2, d_head=d_head))
