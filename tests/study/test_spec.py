"""What a study may ask for: every other wish is refused in one line that says what to do."""

from __future__ import annotations

import os
import time
import tracemalloc

import pytest

from qkvlab import designs, tasks
from qkvlab.errors import BadInput, QkvlabError, Refusal
from qkvlab.study import recipes
from qkvlab.study.registration import register
from qkvlab.study.spec import MAX_CELLS, Spec, make, read
from qkvlab.tasks.library import Library

GOOD = {"recipe": "t", "designs": ("QKV", "QQV")}
TOML = 'designs = ["QKV", "QQV"]\nsettings = ["synonym/fixed"]\n'


def refused(**changes) -> str:
    """Return the sentence with which a study is refused."""
    with pytest.raises(BadInput) as caught:
        make(**{**GOOD, **changes})
    return sentence(caught.value)


def sentence(error: QkvlabError) -> str:
    text = str(error)
    assert error.exit_code == 2 and text.isprintable() and 10 < len(text) < 1200, text
    return text


def refused_file(tmp_path, text: str | bytes, name: str = "s.toml") -> str:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    begun = time.process_time()
    with pytest.raises(BadInput) as caught:
        read(path)
    assert time.process_time() - begun < 10
    told = sentence(caught.value)
    assert str(path) in told
    return told


def test_defaults():
    study = make(**GOOD)
    assert study.baseline == "QKV" and study.tasks == ("library",) and study.alpha == 0.05 and study.delta is None
    assert len(study.pairs()) == 17 and study.pairs()[0] == ("library", "same-word/fixed")
    rates, seeds = study.tuning("library")
    assert rates == (0.001, 0.003, 0.01, 0.03) and seeds == (0, 1, 2)
    assert set(seeds).isdisjoint(range(1000, 1000 + study.judge_seeds))


def test_pairs_run_in_the_order_of_the_task():
    study = make(**GOOD, settings=("related/learned", "same-word/fixed", "synonym/fixed"))
    assert [s for _, s in study.pairs()] == ["same-word/fixed", "synonym/fixed", "related/learned"]


def test_names_are_read_in_any_case_and_rates_are_sorted():
    study = make(recipe="t", designs=("qkv", " qqv ", "Uniform"), rates=(0.01, 0.001))
    assert study.designs == ("QKV", "QQV", "uniform") and study.rates == (0.001, 0.01)


# Row 43: unknown keys


@pytest.mark.parametrize(
    ("key", "nearest"),
    [("design", "designs"), ("seeds", "tune_seeds"), ("judge_seed", "judge_seeds"), ("rate", "rates"),
     ("Alpha", "alpha"), ("deltas", "delta"), ("setings", "settings")],
)  # fmt: skip
def test_an_unknown_key_is_offered_the_nearest(tmp_path, key, nearest):
    assert f"unknown key {key!r}; did you mean {nearest!r}?" in refused(**{key: 1})
    told = refused_file(tmp_path, f"{TOML}{key} = 3\n")
    assert f"unknown key {key!r}; did you mean {nearest!r}?" in told


def test_a_table_is_an_unknown_key_too(tmp_path):
    assert "unknown key 'study'" in refused_file(tmp_path, "[study]\n" + TOML)


def test_unknown_names_are_offered_the_nearest():
    assert "unknown design 'QVQ'" in refused(designs=("QKV", "QVQ"))
    assert "unknown task 'libary'; did you mean 'library'?" in refused(tasks=("libary",))
    assert "unknown setting 'synonym/fixd'; did you mean 'synonym/fixed'?" in refused(settings=("synonym/fixd",))


# Row 44: numbers


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), -float("inf"), -0.001, 0.0, -0.0, "fast", None, [1]])
def test_a_rate_must_be_a_finite_number_above_zero(rate):
    assert refused(rates=(0.003, rate)).startswith("rates.1: ")


@pytest.mark.parametrize("seed", [-1, 2**63, 10**30, 0.5, float("nan"), "one", None])
def test_a_seed_must_be_a_whole_number_of_63_bits(seed):
    assert refused(tune_seeds=(0, seed)).startswith("tune_seeds.1: ")


def test_the_largest_seed_is_taken():
    assert make(**GOOD, tune_seeds=(2**63 - 1,)).tune_seeds == (2**63 - 1,)


@pytest.mark.parametrize(
    ("field", "values"),
    [("tune_seeds", (3, 4, 3)), ("rates", (0.01, 0.003, 0.01)), ("designs", ("QKV", "QQV", "qkv")),
     ("tasks", ("library", "library")), ("settings", ("synonym/fixed", "synonym/fixed"))],
)  # fmt: skip
def test_what_stands_there_twice(field, values):
    assert f"{field} must differ from each other" in refused(**{field: values})


@pytest.mark.parametrize("field", ["designs", "rates", "tune_seeds"])
def test_an_empty_list(field):
    assert refused(**{field: ()}).startswith(f"{field}: ")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 0.0, 1.0, 2.0, 1e-300, "x"])
def test_alpha_is_a_probability_that_a_study_can_have(value):
    assert refused(alpha=value).startswith("alpha: ")


def test_products_in_bf16_where_verdicts_are_known_to_stay():
    mixed = make(**{**GOOD, "tasks": ("library", "text")}, products="bf16")
    assert mixed.products_of("text") == "bf16" and mixed.products_of("library") == "fp32"
    registered = {each["task"]: each["facts"].get("products") for each in register(mixed)["tasks"]}
    assert registered == {"library": None, "text": "bf16"}
    assert "leave --products out" in refused(tasks=("library",), products="bf16")
    assert "products" not in register(make(**{**GOOD, "tasks": ("text",)}))["tasks"][0]["facts"]
    assert refused(products="fp16").startswith("products: ")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.05, 0.0, "x"])
def test_delta_is_a_finite_number_above_zero(value):
    assert refused(delta=value).startswith("delta: ")


@pytest.mark.parametrize("value", [0, -5, 1.5, float("nan"), 10**10, "many"])
def test_how_many_seeds_are_judged(value):
    assert refused(judge_seeds=value).startswith("judge_seeds (--seeds): ")


# Row 45: size


def test_a_billion_cells_are_refused_with_their_count():
    told = refused(judge_seeds=10**9)
    cells = 2 * 17 * (10**9 + 3 * 4)
    assert f"{cells:,} cells" in told and f"{MAX_CELLS:,}" in told


def test_a_billion_cells_cost_neither_time_nor_memory(tmp_path):
    tracemalloc.start()
    refused_file(tmp_path, TOML + "judge_seeds = 1_000_000_000\n")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50_000_000


def test_the_largest_study_that_is_taken():
    fits = (MAX_CELLS // 2 // 17) - 12
    assert make(**GOOD, judge_seeds=fits).judge_seeds == fits
    assert "cells" in refused(judge_seeds=fits + 1)


# What does not fit together


def test_a_comparison_needs_two():
    assert "needs two designs" in refused(designs=("QKV",))
    assert "baseline QKV is not among" in refused(designs=("QQV", "XXV"))
    assert make(recipe="t", designs=("QQV", "XXV"), baseline="XXV").baseline == "XXV"


def test_a_design_that_cannot_be_is_refused_before_it_runs():
    with pytest.raises(Refusal, match="kv_heads=3"):
        make(recipe="t", designs=("QKV", "QKK/kv3"))


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../up", "/tmp/x", "a/b", "a\\b", ".hidden", "a\nb", "a\0b", "\u202egnp", "x" * 101, "x" * 10**6],
    ids=range(13),
)
def test_a_recipe_is_named_like_a_folder(name):
    assert "recipe must be a name" in refused(recipe=name)


def test_any_ordinary_name_is_taken():
    for name in ("t", "my study", "研究一", "v1.2", "<script>"):
        assert make(**{**GOOD, "recipe": name}).recipe == name


def test_a_spec_does_not_change():
    study = make(**GOOD)
    with pytest.raises(ValueError, match="frozen"):
        study.alpha = 0.5  # pyright: ignore[reportAttributeAccessIssue]


# Row 46: files


def test_a_file_states_a_study(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'designs = ["QKV", "XXV"]\nsettings = ["synonym/fixed"]\nrates = [0.003, 0.01]\n'
        "tune_seeds = [7]\njudge_seeds = 40\ndelta = 0.1\nalpha = 0.1\n"
    )
    assert read(path) == Spec(
        recipe="mine", designs=("QKV", "XXV"), settings=("synonym/fixed",), rates=(0.003, 0.01), tune_seeds=(7,),
        judge_seeds=40, delta=0.1, alpha=0.1,
    )  # fmt: skip
    path.write_text('recipe = "named"\n' + TOML)
    assert read(path).recipe == "named"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "designs: [QKV, QQV]\n",
        "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
        "!!python/object/apply:os.system ['true']\n",
        '{"designs": ["QKV", "QQV"]}',
        TOML + TOML,
        "designs = [" * 900,
        "x = " + "[" * 4_900 + "]" * 4_900,
        "x = " + "{a=" * 3_300,
        TOML + "alpha = " + "9" * 5000 + "\n",
        TOML + "judge_seeds = " + "9" * 4000 + "\n",
        TOML + "alpha = nan\n",
        TOML + "rates = [inf]\n",
        TOML + "delta = 1e999\n",
        b"\xff\xfe designs",
        b"\x00" * 1000,
        b"\x89PNG\r\n",
        "\ufeff" + TOML,
        "#" + "x" * 2_000_000,
        TOML + "#" + "x" * 2_000_000,
    ],
    ids=range(20),
)
def test_a_file_that_cannot_be_meant(tmp_path, text):
    assert refused_file(tmp_path, text)


def test_a_file_too_long_to_be_meant_is_not_even_read(tmp_path):
    seeds = ", ".join(map(str, range(300_000)))
    told = refused_file(tmp_path, f"{TOML}tune_seeds = [{seeds}]\n")
    assert "bytes cannot be meant" in told


def test_a_long_list_of_seeds_is_refused_at_once():
    begun = time.process_time()
    assert "cells" in refused(tune_seeds=tuple(range(300_000)))
    assert "299999 stands there twice" in refused(tune_seeds=(*range(300_000), 299_999))
    assert time.process_time() - begun < 2


@pytest.mark.parametrize("field", ["designs", "unheard"])
def test_deep_keys(tmp_path, field):
    for depth in (50, 500, 4900):
        assert field in refused_file(tmp_path, f"{field}{'.a' * depth} = 1\n")


def test_a_file_that_is_none(tmp_path):
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "zero.toml").symlink_to("/dev/zero")
    for name in ("pipe.toml", "folder.toml", "zero.toml", "missing.toml", "nul\0.toml"):
        begun = time.process_time()
        with pytest.raises(BadInput):
            read(tmp_path / name)
        assert time.process_time() - begun < 10


# Recipes


def test_recipes_are_found_by_their_files():
    folder = os.path.dirname(recipes.__file__)
    files = {name.removesuffix(".py") for name in os.listdir(folder) if name.endswith(".py")} - {"__init__"}
    assert set(recipes.catalogue()) == files >= {"article", "fifteen"}
    for name, module in recipes.catalogue().items():
        assert recipes.find(name).recipe == name and "?" in (module.__doc__ or "").splitlines()[0]


def test_the_article_and_the_fifteen():
    article, fifteen = recipes.find("article"), recipes.find("fifteen")
    assert set(article.designs) == {"QKV", "QQV", "XXV", "XKV", "QKK", "uniform", "frozen"}
    assert set(fifteen.designs) == {*designs.PATTERNS, "uniform", "frozen", "QDQ"}
    assert article.designs[0] == fifteen.designs[0] == article.baseline == "QKV"
    assert len(fifteen.pairs()) == 17
    assert article.tasks == ("library", "sentence", "recall", "text")
    assert dict.fromkeys(task for task, _ in article.pairs()) == dict.fromkeys(article.tasks)
    assert {tasks.find(task).match(setting) for task, setting in article.pairs()} == {"none", "params"}
    assert {"QQQ", "QDQ"} < set(article.arms("library")) and "QKV/kv2" in article.arms("recall")


def test_an_unknown_recipe():
    with pytest.raises(BadInput, match="unknown recipe 'artikel'; did you mean 'article'"):
        recipes.find("artikel")


def test_rates_and_seeds_of_a_task_hold_unless_others_are_asked_for(monkeypatch):
    monkeypatch.setattr(Library, "rates", (0.5,))
    monkeypatch.setattr(Library, "tune_seeds", (8,))
    assert make(**GOOD).tuning("library") == ((0.5,), (8,))
    assert make(**GOOD, rates=(0.1,), tune_seeds=(9, 7)).tuning("library") == ((0.1,), (9, 7))


def test_designs_that_join_a_task():
    study = make(**GOOD, also={"library": ("qxv", *GOOD["designs"])})
    assert study.arms("library") == (*study.designs, "QXV")
    assert refused(**GOOD, also={"library": ("QXW",)}).startswith("unknown design 'QXW'")
    assert refused(**GOOD, also={"labrary": ("QXV",)}).startswith("unknown task 'labrary'; did you mean 'library'?")


def test_settings_with_equal_budgets_are_asked_for(monkeypatch):
    monkeypatch.setattr(Library, "match", lambda self, setting: "params" if setting.endswith("d64") else "none")
    assert all(not setting.endswith("d64") for _, setting in make(**GOOD).pairs())
    assert make(**GOOD, match=("params",)).pairs() == [("library", "synonym/fixed/d64")]
    assert len(make(**GOOD, match=("none", "params")).pairs()) == 17
    assert "match=flops" in refused(**GOOD, match=("flops",))
    assert "twice" in refused(**GOOD, match=("none", "none"))


def test_a_file_is_for_tasks_that_read_one(monkeypatch, tmp_path):
    told = refused(**GOOD, text=tmp_path / "mine.txt")
    assert "none of the tasks library reads a file" in told and "--tasks text" in told
    read = []

    class Reading(Library):
        def reading(self, file):
            read.append(file)
            return self if file is None else Reading(d_model=64)

    monkeypatch.setitem(tasks.catalogue(), "library", Reading())
    study = make(**GOOD, text=tmp_path / "mine.txt")
    assert study.task("library").d_model == 64 and set(read) >= {tmp_path / "mine.txt"}
    assert make(**GOOD).task("library").d_model == 96
