"""The names and shapes under which weights are stored: files of other people depend on them, so they are stated here.

Each letter of a way is one matrix, separate from all others, in the order rows x columns (x stands on its left).
"""

import pytest

from qkvlab import Attention
from qkvlab.designs import PATTERNS

D, HEADS = 24, 4
HEAD, KV2 = D // HEADS, D // 2
OUT = {"out.weight": (D, D)}
GAINS = {"q_gain": (1, HEAD), "k_gain": (1, HEAD)}
LAMBDAS = dict.fromkeys(("lq1", "lk1", "lq2", "lk2"), (HEAD // 2, 1))
MLA = {"q": (D, D), "dkv": (D, 11), "dkv_gain": (1, 11), "uk": (11, D), "uv": (11, D)}

STATED = {
    "QKV": {"q": (D, D), "k": (D, D), "v": (D, D)},
    "QKV/kv2": {"q": (D, D), "k": (D, KV2), "v": (D, KV2)},
    "QKK/kv2": {"q": (D, D), "k": (D, KV2)},
    "QKV/h16": {"q": (D, 64), "k": (D, 64), "v": (D, 64), "out.weight": (D, 64)},
    "frozen": {"q": (D, D), "k": (D, D), "v": (D, D)},
    "uniform": {"v": (D, D)},
    "QJQ": {"q": (D, D), "v": (D, D)},
    "QDQ": {"q": (D, D), "v": (D, D)},
    "QMQ": {"q": (D, D), "v": (D, D), "m": (HEADS * HEAD, HEAD)},
    "QKV/bias": {
        "q": (D, D),
        "k": (D, D),
        "v": (D, D),
        "q_bias": (1, D),
        "k_bias": (1, D),
        "v_bias": (1, D),
        "out.bias": (D,),
    },
    "QKV/kv2/biasqkv": {
        "q": (D, D),
        "k": (D, KV2),
        "v": (D, KV2),
        "q_bias": (1, D),
        "k_bias": (1, KV2),
        "v_bias": (1, KV2),
    },
    "QKK/ropekv": {"q": (D, D), "k": (D, D)},
    "QKK/rank4": {"q": (4, D), "k": (4, D), "q_down": (D, 4), "k_down": (D, 4)},
    "QKV/learned16": {"q": (D, D), "k": (D, D), "v": (D, D), "places": (16, D)},
    "QKV/qknorm": {"q": (D, D), "k": (D, D), "v": (D, D), **GAINS},
    "QQV/qknorm/rope": {"q": (D, D), "v": (D, D), **GAINS},
    "QKV/unitnorm16": {"q": (D, D), "k": (D, D), "v": (D, D), "scale": (1, 1)},
    "QKV/sink": {"q": (D, D), "k": (D, D), "v": (D, D), "sink": (1, HEADS)},
    "QKK/diff": {"q": (D, D), "k": (D, D), **LAMBDAS, "gain": (1, HEAD)},
    "MLA11": MLA,
    "MLA11/rope4": {**MLA, "qr": (D, HEADS * 4), "kr": (D, 4)},
    "MLA11q7/rope4": {
        "dq": (D, 7),
        "dq_gain": (1, 7),
        "q": (7, D),
        "qr": (7, HEADS * 4),
        "dkv": (D, 11),
        "dkv_gain": (1, 11),
        "uk": (11, D),
        "uv": (11, D),
        "kr": (D, 4),
    },
}
NOTHING_MORE = ("rope", "sin", "alibi", "cap2", "window3", "noself", "vnorm", "unitkeys")


def stored(name):
    state = Attention(name, d_model=D, heads=HEADS).state_dict()
    return {key: tuple(weight.shape) for key, weight in state.items()}


def as_stored(stated):
    return {
        **OUT,
        **{name if name.startswith("out.") else f"projections.{name}": size for name, size in stated.items()},
    }


@pytest.mark.parametrize(("name", "stated"), STATED.items(), ids=STATED)
def test_names_and_shapes(name, stated):
    assert stored(name) == as_stored(stated)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_each_letter_of_a_way_is_one_matrix(pattern):
    letters = dict.fromkeys(letter.lower() for letter in pattern if letter != "X")
    assert stored(pattern) == as_stored(dict.fromkeys(letters, (D, D)))


@pytest.mark.parametrize("part", NOTHING_MORE)
@pytest.mark.parametrize("base", ["QKV", "QKK/kv2"])
def test_parts_that_store_nothing(base, part):
    assert stored(f"{base}/{part}") == as_stored(STATED[base])
