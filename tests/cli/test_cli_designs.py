"""`qkvlab designs`: everything that the catalogue shows, with costs that are `qkvlab.cost`'s, in any terminal."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

import qkvlab
from qkvlab.cli import designs as command
from qkvlab.cli.designs import GROUPS
from qkvlab.contracts import Dims
from qkvlab.designs import PATTERNS, Way, cap, catalogue, examples, grammar, parse
from qkvlab.designs.around import Around
from qkvlab.designs.grammar import famous, shown
from qkvlab.errors import BadInput

WIDTHS = (30, 60, 80, 109, 110, 120, 200)


def kinds(designs):
    """Every class of a part or a whole that stands in these designs."""
    found = set()
    for design in designs:
        found.add(type(design))
        while isinstance(design, Around):
            design = design.inner
            found.add(type(design))
    return found


def test_all_kinds_of_designs_are_shown():
    assert kinds(shown().values()) == kinds(examples().values())
    assert set(catalogue()) < set(shown())
    for design in shown().values():
        assert parse(design.name) == design


def test_what_is_shown_has_usual_numbers():
    """At the sizes of a 7B model everything that is shown exists, at those of GPT-2 all but 8 key heads."""
    dims = {(4096, 32): set(), (768, 12): {"QKV/kv8"}}
    for sizes, missing in dims.items():
        rows = command.rows(command.Sizes(Dims.of(*sizes), 4096, 2))
        assert {row.design.name for row in rows if row.cost is None} == missing


def test_a_file_that_states_nothing_is_shown_by_its_examples(monkeypatch):
    monkeypatch.delattr(cap, "SHOWN")
    grammar.shown.cache_clear()
    try:
        assert "QKV/kv2/cap2" in shown() and "QKV/cap50" not in shown()
    finally:
        monkeypatch.undo()
        grammar.shown.cache_clear()


@pytest.mark.parametrize(
    "sizes", [(768, 12, None, 4096, 2), (64, 1, None, 7, 1), (64, 4, 8, 100, 4), (6, 2, None, 1, 2)]
)
def test_rows_are_what_cost_says(cli_here, sizes):
    d_model, heads, d_head, tokens, number = sizes
    more = ["--d-head", str(d_head)] if d_head else []
    asked = ["--d-model", str(d_model), "--heads", str(heads), "--tokens", str(tokens), "--bytes", str(number)]
    document = cli_here("designs", *asked, *more, "--json").json
    dims = Dims.of(d_model, heads, d_head)
    assert (document["dims"], document["tokens"], document["bytes_per_number"]) == (vars(dims), tokens, number)
    rows = document["designs"]
    names = [row["design"] for row in rows]
    assert len(set(names)) == len(names) and set(names) == {*shown(), *famous().values()}
    assert {name for row in rows for name in row["names"]} == set(famous())
    assert [row["group"] for row in rows] == sorted((row["group"] for row in rows), key=list(GROUPS).index)
    usual = qkvlab.cost("QKV", dims, tokens, bytes_per_number=number)
    for row in rows:
        design = parse(row["design"])
        assert {"zh": row["zh"], "en": row["en"]} == vars(design.words)
        try:
            cost = qkvlab.cost(design, dims, tokens, bytes_per_number=number)
        except BadInput as refusal:
            said = str(refusal)
            cost = None
        if cost is None:
            assert row["refused"] == said and "parameters" not in row
            continue
        assert {name: row[name] for name in vars(cost)} == vars(cost) and row["read_bytes"] == cost.read_bytes
        assert row["over_qkv"]["cache_numbers"] == cost.cache_numbers / usual.cache_numbers


def test_groups_are_ideas(cli_here):
    rows = cli_here("designs", "--json").json["designs"]
    of = {group: [row["design"] for row in rows if row["group"] == group] for group in GROUPS}
    assert of["ways"] == list(PATTERNS)
    assert set(of["forms"]) == set(catalogue()) - set(PATTERNS)
    assert "MLA/rope" in of["bases"] and "QKV/kv1" in of["grouped"] and "QKV/window1024" in of["parts"]
    assert parse("reformer").name in of["famous"] and "QQV" not in of["famous"]


@pytest.mark.parametrize("lang", ["zh", "en"])
@pytest.mark.parametrize("width", WIDTHS)
def test_every_width_shows_everything(cli_here, monkeypatch, lang, width):
    monkeypatch.setenv("COLUMNS", str(width))
    out = cli_here("designs", "--d-model", "4096", "--heads", "32", "--lang", lang).out
    assert all(cell_len(line) <= max(width, 60) for line in out.splitlines())
    assert "…" not in out, "nothing is cut"
    together = "".join(out.split())
    rows = command.rows(command.Sizes(Dims.of(4096, 32), 4096, 2))
    for row in rows:
        assert "".join(row.words.of(lang).split())[:8] in together
        assert all(name in out for name in row.names)
        assert row.design.name in out or (row.group == "famous" and row.design.name[:8] in out)
    titles = [title.of(lang)[:8] for title in GROUPS.values()]
    places = [out.index(title) for title in titles]
    assert places == sorted(places)


@pytest.mark.parametrize(("lang", "phrase"), [("zh", "Q、K 同一矩阵"), ("en", "one matrix for Q and K")])
def test_words_come_before_codes(cli_here, lang, phrase, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    said = cli_here("designs", "--lang", lang)
    line = next(line for line in said.out.splitlines() if " QQV " in line)
    assert line.index(phrase) < line.index("QQV = symmetric") < line.index("1.77M") < line.index("3.00 KiB")
    monkeypatch.setenv("COLUMNS", "80")
    lines = cli_here("designs", "--lang", lang).out.splitlines()
    at = lines.index(next(line for line in lines if line.strip() == "QQV = symmetric"))
    assert lines[at - 1].startswith(phrase) and "1.77M" in lines[at - 1]


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_designs_that_cannot_be_are_named_on_one_line(cli_here, lang, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    out = cli_here("designs", "--lang", lang, "--d-model", "63", "--heads", "9").out
    last = out.splitlines()[-1]
    assert all(name in last for name in ("QDQ", "QJQ", "QKV/kv8 = gqa", "QKV/rope", "gemma4"))
    assert " QDQ " not in out.replace(last, "")
    assert cli_here("designs", "QDQ", "--d-model", "63", "--heads", "9").refusal().endswith("d_head=7.")


# in detail


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize(("lang", "phrases"), [
    ("zh", ("K、V 同一矩阵", "带偏置", "只看近处 64 个词", "2 头 × 16 维", "k 32 个数", "64 × 32", "逐元素",
            "每词缓存")),
    ("en", ("one matrix for K and V", "with biases", "sees a window of 64", "2 heads of 16", "k 32 numbers", "64 × 32",
            "by entry", "cache of a token")),
])  # fmt: skip
def test_one_design_in_detail(cli_here, monkeypatch, lang, phrases, width):
    monkeypatch.setenv("COLUMNS", str(width))
    name = "QKK/kv2/bias/window64"
    out = cli_here("designs", name, "--d-model", "64", "--heads", "4", "--lang", lang, "--tokens", "128").out
    assert all(phrase in out for phrase in (*phrases, name, "W_O", "W_O_bias", "/window64"))
    assert all(cell_len(line) <= width for line in out.splitlines()) and "…" not in out


def test_details_as_json(cli_here):
    asked = ("deepseek-v3", "qkk", "QQV/unitkeys/noself", "XKV")
    document = cli_here("designs", *asked, "--d-model", "512", "--heads", "8", "--json").json
    dims = Dims.of(512, 8)
    assert [row["design"] for row in document["designs"]] == [parse(name).name for name in asked]
    for row in document["designs"]:
        design = parse(row["design"])
        assert row["matrices"] == {name: vars(matrix) for name, matrix in design.matrices(dims).items()}
        assert row["heads"] == vars(design.head_sizes(dims))
        assert sum(row["kept"].values()) == row["cache_numbers"] == design.cost(dims).cache_per_token
    v3, qkk, reformer, xkv = document["designs"]
    assert (v3["names"], v3["kept"], v3["absorbed"]) == (["deepseek-v3"], {"latent": 576}, True)
    assert qkk["kept"] == {"k": 512} and xkv["names"] == ["identity-query"]
    assert [part["en"] for part in reformer["parts"]] == [
        "one matrix for Q and K", "keys of unit length", "no token attends to itself",
    ]  # fmt: skip


@pytest.mark.parametrize("design", [d for d in {**examples(), **shown()}.values() if isinstance(d, Around)], ids=str)
def test_what_a_part_adds_is_said_once_and_in_both_languages(design):
    for whole, inner, adds, mark in (
        (design.words.zh, design.inner.words.zh, design.adds.zh, "，"),
        (design.words.en, design.inner.words.en, design.adds.en, "; "),
    ):
        assert adds and f"{inner}{mark}{adds}" == whole


def test_only_parts_of_qkv_are_shown_without_it():
    rows = {row.design.name: row for row in command.rows(command.Sizes(Dims.of(768, 12), 64, 2))}
    assert rows["QKV/rope"].words.en == "rotary positions"
    assert rows["QKK/rope"].words == parse("QKK/rope").words
    assert rows["QKV/kv4"].words == Way("QKV", 4).words
