"""`look`: what small trained models find in a sentence, as their own module computes it, and what cannot be read."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from calling import HOSTILE, environment

from qkvlab import record
from qkvlab.designs import parse
from qkvlab.study.weights import _write, path_of
from qkvlab.tasks.lexicon import load
from qkvlab.tasks.segmenting import segment
from qkvlab.tasks.sentence import TASK
from qkvlab.training.recipe import start

LEXICON = load()
NAMES = ("QKV", "QQV", "QKK", "XKV", "QXV", "XXV", "frozen", "QDQ", "uniform", "QQV/noself", "QKV/kv2")


@pytest.fixture(scope="module", name="folder")
def _folder(tmp_path_factory):
    """Untrained models, as a record would ship them."""
    folder = tmp_path_factory.mktemp("record")
    for setting in TASK.shown:
        for name in NAMES:
            state = start(TASK, setting, parse(name), 0).state_dict()
            half = {n: w.numpy().astype(np.float16) for n, w in state.items()}
            _write(path_of(folder, "sentence", setting, name), half, {})
    return folder


@pytest.fixture(autouse=True)
def _shipped(folder, monkeypatch):
    monkeypatch.setattr(record, "folder", lambda: folder)


def words(said):
    return [word["zh"] for word in said.json["words"]]


@pytest.mark.parametrize("setting", TASK.shown)
def test_it_says_what_the_module_computes(cli_here, setting):
    said = cli_here("look", "老师把小明批评了", "--setting", setting, "--json")
    assert (said.code, said.err) == (0, "")
    assert words(said) == ["老师", "把", "小明", "批评", "了"] and said.json["setting"] == setting
    (verb,) = said.json["verbs"]
    assert verb["place"] == 3 and verb["right"] == {"subject": 0, "object": 2}
    assert [row["design"] for row in verb["designs"]] == list(NAMES)
    tokens = torch.tensor([segment("老师把小明批评了")])
    for row in verb["designs"]:
        model = start(TASK, setting, parse(row["design"]), 0)
        with torch.no_grad():
            weights = model.half().float().weights(tokens)[:, 0, :, 3].numpy()
            names = model(tokens, torch.tensor([[3]]))[0, 0].argmax(-1).numpy()
        np.testing.assert_allclose([layer["weights"] for layer in row["layers"]], weights, atol=2e-4)
        np.testing.assert_allclose(row["weights"], weights[-1].mean(0), atol=2e-4)
        named = [LEXICON.words[n].zh for n in LEXICON.nouns[names]]
        assert [row["subject"]["zh"], row["object"]["zh"]] == named
        assert row["subject"]["right"] == (named[0] == "老师") and row["object"]["right"] == (named[1] == "小明")
        assert row["subject"]["in_sentence"] == (named[0] in words(said))
    uniform = verb["designs"][NAMES.index("uniform")]
    assert uniform["looks_at"] is None and set(uniform["scores"]) == {0}


def test_many_verbs_in_one_sentence(cli_here):
    said = cli_here("look", "我爱北京，也吃苹果吧", "--json")
    assert [verb["right"] for verb in said.json["verbs"]] == [{"subject": 0, "object": 2}, {"subject": 0, "object": 6}]
    assert [verb["place"] for verb in said.json["verbs"]] == [1, 5]


def test_what_is_no_sentence_is_shown_without_marks(cli_here):
    said = cli_here("look", "爱北京", "--json")
    (verb,) = said.json["verbs"]
    assert verb["right"] is None and all(row["subject"]["right"] is None for row in verb["designs"])
    told = cli_here("look", "爱北京", "--lang", "en")
    assert "no right answer" in told.out and not {"✓", "✗"} & set(told.out)


@pytest.mark.parametrize(
    "text",
    ["我爱北京", "我 爱 北京", "  我爱 北京。", "I love Beijing", "i LOVES beijing!", "“me” love 北京", "我爱the 北京"],
)
def test_one_sentence_in_many_spellings(text):
    assert [LEXICON.words[n].zh for n in segment(text)] == ["我", "爱", "北京"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("小明丢了自行车", "小明 丢 了 自行车"),
        ("The teacher goes to the Great Wall", "老师 去 长城"),
        ("北京，我爱", "北京 ， 我 爱"),
        ("北京, 我爱", "北京 ， 我 爱"),
        ("我弄坏手机", "我 弄坏 手机"),
    ],
)
def test_the_longest_word_wins(text, wanted):
    assert " ".join(LEXICON.words[n].zh for n in segment(text)) == wanted


def test_every_word_is_read_in_both_languages():
    love = LEXICON.number("爱")
    for number, word in enumerate(LEXICON.words[1:], 1):
        assert segment(f"爱 {word.zh}") == [love, number]
        if word.kind in ("noun", "verb", "adverb", "joiner"):
            assert segment(f"爱 {word.en}") == [love, number]


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_what_people_see_fits_eighty_columns(cli_here, lang, monkeypatch):
    from rich.cells import cell_len

    monkeypatch.setenv("COLUMNS", "80")
    said = cli_here("look", "自行车昨天被小明卖了", "--lang", lang)
    assert (said.code, said.err) == (0, "")
    assert max(map(cell_len, said.out.splitlines())) <= 80 and "…" not in said.out
    for name in NAMES:
        assert name in said.out
    for zh in ("自行车", "昨天", "被", "小明", "卖", "了"):
        assert LEXICON.words[LEXICON.number(zh)].words.of(lang) in said.out


def test_many_designs_stand_in_several_tables(cli_here, monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    narrow = cli_here("look", "我爱北京", "--lang", "zh").out
    monkeypatch.setenv("COLUMNS", "120")
    wide = cli_here("look", "我爱北京", "--lang", "zh").out
    heads = [[line for line in out.splitlines() if line.startswith("词")] for out in (narrow, wide)]
    assert len(heads[0]) > 1 and len(heads[1]) == 1
    assert " ".join(heads[0]).replace("词", "").split() == heads[1][0].replace("词", "").split() == list(NAMES)


# What cannot be read


@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        (["我爱东京"], "'东京'; did you mean 北京"),
        (["I lov Beijing"], "did you mean love"),
        (["xyzzy 爱 qwerty"], "'xyzzy', 'qwerty'"),
        (["我北京"], "no verb to ask; add one, such as 爱"),
        ([""], "no word in this text; try 我爱北京"),
        (["。 ！"], "no word"),
        (["我爱" * 8], "at most 14 words; got 16"),
        (["爱" * 201], "at most 200 characters is read; got 201"),
        (["我爱北京", "--setting", "one-layer/position"], "did you mean 'one-layer/positions'"),
        (["我爱北京", "--setting", "one-layer/bag"], "setting with trained models"),
        (["我爱北京", "--setting", "../../etc/passwd"], "setting with trained models"),
        (["我爱北京", "--setting", ""], "setting with trained models"),
        (["我", "爱"], "extra argument"),
    ],
)
def test_refusals(cli_here, arguments, phrase):
    assert phrase in cli_here("look", *arguments).refusal()
    assert cli_here("look", *arguments, "--json").code == 2


def test_without_models_it_says_so(cli_here, monkeypatch, tmp_path):
    monkeypatch.setattr(record, "folder", lambda: tmp_path)
    assert "install it anew" in cli_here("look", "我爱北京").refusal()


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_words(cli_here, text):
    for arguments in (["look", text], ["look", f"我爱{text}"], ["look", "我爱北京", "--setting", text]):
        assert len(cli_here(*arguments).refusal()) < 700


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_without_a_sentence_the_words_are_listed(cli_here, lang):
    listed = json.loads(cli_here("look", "--lang", lang, "--json").out)
    words = [word for kind in listed.values() for word in kind]
    assert sorted(words) == sorted(word.words.of(lang) for word in LEXICON.words[1:])
    said = cli_here("look", "--lang", lang)
    assert said.code == 0 and all(word in said.out for word in words)


def test_looking_imports_no_torch():
    code = "import qkvlab.cli.look, sys; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), check=False)
    assert done.returncode == 0
