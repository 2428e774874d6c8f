"""Names, refusals, errors: what cannot be is said in one line that names the numbers or the nearest name."""

import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

import qkvlab
from qkvlab.contracts import Dims
from qkvlab.designs import PATTERNS, Way, catalogue, examples, parse
from qkvlab.errors import BadInput, QkvlabError, Refusal, StoreError


def test_the_catalogue_is_fifteen_ways_controls_and_forms_between():
    assert list(catalogue()) == [*PATTERNS, "QJQ", "frozen", "QMQ", "QDQ", "uniform"]
    assert set(catalogue()) < set(examples())


@pytest.mark.parametrize("text", ["qqv", " QQV\n", "QqV"])
def test_names_are_read_in_any_case(text):
    assert parse(text) == Way("QQV")


@pytest.mark.parametrize("text", ["qkk/kv2", "QKK/KV2", "QKK/kv02"])
def test_groups_are_read_in_any_case(text):
    assert parse(text) == Way("QKK", 2)
    assert parse(text).name == "QKK/kv2"


@pytest.mark.parametrize(
    ("text", "nearest"),
    [("QQW", "QQV"), ("qqw", "QQV"), ("unifrom", "uniform"), ("Frozn", "frozen"), ("qkv2", "QKV")],
)
def test_an_unknown_name_offers_the_nearest(text, nearest):
    with pytest.raises(BadInput, match=f"did you mean '{nearest}'"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [("qqv/NOSELF", "QQV/noself"), ("QKV/kv2/h16", "QKV/kv2/h16"), ("qkk/h016/noself", "QKK/h16/noself")],
)
def test_parts_stand_behind_slashes(text, name):
    assert parse(text).name == name


def test_a_narrow_head_has_its_own_width_whatever_the_layer_gives():
    assert parse("QKV/h16").sizes(Dims.of(768, 12)) == Dims(d_model=768, heads=12, d_head=16, d_value=16)
    assert parse("QKV/h16").cost(Dims.of(768, 1)).parameters == 3 * 768 * 16
    with pytest.raises(Refusal, match=r"1 x 16 = 16, d_model=768"):
        parse("XKV/h16").cost(Dims.of(768, 1))


HOSTILE = {
    "no channels": "QKV/h0",
    "a part twice": "QKV/h8/noself/h9",
    "part without design": "/noself",
    "unknown part": "QKV/norself",
    "parts without end": "QKV" + "/noself" * 100_000,
    "empty": "",
    "blank": " \t\n",
    "letters": "ABC",
    "order": "KQV",
    "a letter that stands before its first": "QVV",
    "tag": "<script>alert(1)</script>",
    "right to left": "\u202eVQQ",
    "zero": "QKV/kv0",
    "negative": "QKV/kv-1",
    "no number": "QKV/kv",
    "two groups": "QKV/kv2/kv2",
    "not decimal": "QKV/kv٢",
    "superscript": "QKV/kv²",
    "control with groups": "uniform/kv2",
    "percent": "%s%n{0}",
    "null": "QK\0V",
    "lone surrogate": "Q\ud800V",
    "emoji": "🔑🔑🔑",
    "huge number": "QKV/kv" + "9" * 5000,
    "a megabyte": "Q" * 2**20,
    "a megabyte of blanks": " " * 2**20,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_names_are_refused_in_one_short_line(text):
    start = time.process_time()
    with pytest.raises(BadInput) as caught:
        parse(text)
    said = str(caught.value)
    assert time.process_time() - start < 10
    assert len(said) < 400
    assert said.isprintable(), "no control character, surrogate or change of direction reaches the terminal"


@given(st.text(max_size=12))
def test_any_text_is_a_design_or_bad_input(text):
    try:
        design = parse(text)
    except BadInput:
        return
    assert parse(design.name) == design


def test_every_sharing_of_q_refuses_groups():
    for pattern in ("QQV", "QKQ", "QQQ", "QXQ", "QQX"):
        with pytest.raises(Refusal, match=rf"{pattern} makes q and .* kv_heads must equal heads.*/kv2"):
            parse(f"{pattern}/kv2")


REFUSALS = {
    "XKV": (dict(d_model=18, heads=4, d_head=6), "4 x 6 = 24, d_model=18"),
    "QXV": (dict(d_model=20, heads=4, d_head=6), "4 x 6 = 24, d_model=20"),
    "QKX": (dict(d_model=24, heads=4, d_head=6, d_value=5), "4 x 5 = 20, d_model=24"),
    "QXV/kv2": (dict(d_model=24, heads=4, d_head=6), "2 x 6 = 12, d_model=24"),
    "XXV/kv2": (dict(d_model=24, heads=4, d_head=6), "2 x 6 = 12, d_model=24"),
    "QKK": (dict(d_model=18, heads=4, d_head=6, d_value=10), "d_head=6, d_value=10"),
    "QKQ": (dict(d_model=18, heads=4, d_head=6, d_value=10), "d_head=6, d_value=10"),
    "QQQ": (dict(d_model=18, heads=4, d_head=6, d_value=10), "d_head=6, d_value=10"),
    "XKK": (dict(d_model=24, heads=4, d_head=6, d_value=10), "d_head=6, d_value=10"),
    "QXX": (dict(d_model=24, heads=4, d_head=6, d_value=10), "4 x 10 = 40, d_model=24"),
    "QKV/kv3": (dict(d_model=18, heads=4, d_head=6), "heads=4, kv_heads=3"),
    "QKV/kv8": (dict(d_model=18, heads=4, d_head=6), "heads=4, kv_heads=8"),
    "QDQ": (dict(d_model=20, heads=4, d_head=5), "d_head=5"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_names_the_numbers(name):
    sizes, numbers = REFUSALS[name]
    for act in (parse(name).cost, parse(name).build):
        with pytest.raises(Refusal) as caught:
            act(Dims.of(**sizes))
        assert numbers in str(caught.value)


def test_groups_may_cut_x_into_fewer_slices():
    dims = Dims.of(12, 4, d_head=6)
    assert parse("QXV/kv2").cost(dims).cache_per_token == 12 + 2 * 6


@pytest.mark.parametrize("size", [0, -1, 2.0, True, None, "8", float("nan"), 10**30 * 1.0])
def test_sizes_are_positive_whole_numbers(size):
    with pytest.raises(BadInput, match="d_model"):
        Dims.of(size, 2)
    with pytest.raises(BadInput, match="d_head"):
        Dims(d_model=8, heads=2, d_head=size, d_value=4)


@pytest.mark.parametrize("size", [0, -3, 1.5])
def test_no_size_is_replaced_by_a_default(size):
    for name in ("d_head", "d_value"):
        with pytest.raises(BadInput, match=f"{name} must be a positive whole number"):
            Dims.of(8, 2, **{name: size})


def test_heads_must_divide_d_model_unless_d_head_is_given():
    with pytest.raises(BadInput, match="d_model=10, heads=4"):
        Dims.of(10, 4)
    assert Dims.of(10, 4, d_head=3).d_value == 3


def test_the_article_s_example_of_one_head():
    cost = parse("QKV").cost(Dims(d_model=768, heads=1, d_head=64, d_value=64))
    assert (cost.parameters, cost.flops_per_token, cost.cache_per_token) == (147456, 294912, 128)


def test_the_error_tree():
    assert issubclass(Refusal, BadInput) and issubclass(BadInput, ValueError)
    assert issubclass(BadInput, QkvlabError) and issubclass(StoreError, QkvlabError)
    assert (BadInput.exit_code, Refusal.exit_code, StoreError.exit_code) == (2, 2, 3)


def test_words_of_the_fifteen_ways_are_all_different():
    for lang in ("zh", "en"):
        said = [design.words.of(lang) for design in examples().values()]
        assert len(set(said)) == len(said)


ALONE = """
import sys
sys.modules["torch"] = None  # importing it raises
import qkvlab, qkvlab.contracts, qkvlab.errors
assert "numpy" not in sys.modules, "import qkvlab stays cheap"
from qkvlab.designs import catalogue, parse
from qkvlab.contracts import Dims
for design in catalogue().values():
    design.words, design.cost(Dims.of(512, 8))
try:
    parse("QQW")
except qkvlab.errors.BadInput as problem:
    print(problem)
"""


def test_names_words_and_costs_need_no_torch():
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "did you mean 'QQV'" in done.stdout


def test_the_package_knows_its_names():
    assert qkvlab.Attention.__name__ == "Attention"
    with pytest.raises(AttributeError, match="no attribute 'Atention'"):
        _ = qkvlab.Atention
