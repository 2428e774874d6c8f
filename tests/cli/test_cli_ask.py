"""`ask`: what the shipped models find, as the reference computes it, and every question that cannot be answered."""

from __future__ import annotations

import json

import numpy as np
import pytest
from calling import HOSTILE

from qkvlab import designs
from qkvlab.cli.ask import MOST_BOOKS, shipped
from qkvlab.tasks.library import TASK, Setting
from qkvlab.tasks.shelves import relevant, shelf_for
from qkvlab.tasks.vocabulary import load

VOCABULARY = load()
READY = [s for s in TASK.shown if s in ("synonym/fixed", "directed/fixed")]


def check(document: dict, question: int, labels: list[int], setting: str) -> None:
    """Hold an answer against the librarians themselves."""
    librarians = shipped(setting)
    assert document["setting"] == setting and document["question"]["id"] == question
    assert [book["id"] for book in document["shelf"]] == labels
    marks = relevant(Setting.parse(setting).question, np.array(question), np.array(labels))
    assert [book["relevant"] for book in document["shelf"]] == marks.tolist()
    assert [row["design"] for row in document["designs"]] == list(librarians)
    for row in document["designs"]:
        answer = librarians[row["design"]].answer(question, labels)
        assert row["scores"] == pytest.approx(answer.scores.tolist(), abs=1e-4)
        assert row["weights"] == pytest.approx(answer.weights.tolist(), abs=1e-4)
        assert sum(row["weights"]) == pytest.approx(1, abs=1e-3) and row["book"] == answer.book
        assert (row["zh"], row["en"]) == (designs.parse(row["design"]).words.zh, designs.parse(row["design"]).words.en)


@pytest.mark.parametrize("setting", READY)
@pytest.mark.parametrize(
    ("text", "question"),
    [("怎么减肥？", 0), ("怎么减肥", 0), ("瘦身", 2), ("How do I lose weight?", 0), ("slimming", 2), ("SLIMMING!", 2)],
)
def test_a_question_of_the_vocabulary(cli_here, text, question, setting):
    said = cli_here("ask", text, "--setting", setting, "--json")
    assert (said.code, said.err) == (0, "") and said.json["unknown"] == []
    check(said.json, question, shelf_for(question), setting)


@pytest.mark.parametrize("question", range(0, 120, 7))
def test_any_token(cli_here, question):
    said = cli_here("ask", VOCABULARY.tokens[question].zh, "--json")
    check(said.json, question, shelf_for(question), "synonym/fixed")


@pytest.mark.parametrize("separator", [",", "，", "、", " , ", ",,"])
def test_a_shelf_of_ones_own(cli_here, separator):
    said = cli_here("ask", "瘦身", "--shelf", separator.join(["减肥", "exercise", "历史", "减肥"]), "--json")
    labels = [1, 11, 16, 1]
    assert [VOCABULARY.tokens[label].zh for label in labels] == ["减肥", "运动", "历史", "减肥"]
    check(said.json, 2, labels, "synonym/fixed")


@pytest.mark.parametrize("count", [1, MOST_BOOKS])
def test_the_smallest_and_the_largest_shelf(cli_here, count):
    said = cli_here("ask", "瘦身", "--shelf", ",".join(["减肥"] * count), "--json")
    check(said.json, 2, [1] * count, "synonym/fixed")


def test_what_was_not_used_is_said(cli_here):
    said = cli_here("ask", "我想减肥和运动 quickly", "--json")
    assert said.json["question"]["zh"] == "减肥"
    assert len(said.json["unknown"]) == 4 and "quickly" in " ".join(said.json["unknown"])
    told = cli_here("ask", "我想减肥和运动 quickly", "--lang", "en")
    assert "not used" in told.out and "quickly" in told.out


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_what_people_see(cli_here, lang, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    said = cli_here("ask", "怎么减肥？", "--lang", lang)
    assert (said.code, said.err) == (0, "")
    for label in shelf_for(0):
        assert VOCABULARY.tokens[label].text(lang) in said.out
    for name in shipped("synonym/fixed"):
        assert f"({name})" in said.out
    assert "✓" in said.out and "Traceback" not in said.out


def test_the_article_in_one_answer(cli_here):
    """Separate matrices find a synonym, raw x does not: what `ask` is there to show."""
    rows = {row["design"]: row for row in cli_here("ask", "怎么减肥？", "--json").json["designs"]}
    shelf = cli_here("ask", "怎么减肥？", "--json").json["shelf"]
    mass = {n: sum(w for w, b in zip(r["weights"], shelf, strict=True) if b["relevant"]) for n, r in rows.items()}
    assert mass["QKV"] > 0.5 and shelf[rows["QKV"]["book"]]["relevant"]
    assert mass["XXV"] < mass["QKV"] - 0.1 and mass["uniform"] == pytest.approx(0.25, abs=1e-3)


# What cannot be answered


@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        (["跑酷"], "holds no word of the vocabulary"),
        (["parkour"], "Words it knows: "),
        ([""], "holds no word"),
        (["？！ "], "holds no word"),
        (["sliming"], "slimming"),
        (["瘦身", "--shelf", "减肥,跑酷"], "no label is spelled '跑酷'"),
        (["瘦身", "--shelf", "exercize"], "exercise"),
        (["瘦身", "--shelf", ""], "1 to 16 books"),
        (["瘦身", "--shelf", " , ，、"], "got 0"),
        (["瘦身", "--shelf", ",".join(["减肥"] * 17)], "got 17"),
        (["瘦身", "--setting", "synonim/fixed"], "did you mean 'synonym/fixed'"),
        (["瘦身", "--setting", "related/fixed"], "setting with trained models"),
        (["瘦身", "--setting", "../../etc/passwd"], "setting with trained models"),
        (["瘦身", "--setting", ""], "setting with trained models"),
        (["瘦身", "--lang", "fr"], "--lang"),
        (["瘦身", "减肥"], "extra argument"),
    ],
)
def test_refusals(cli_here, arguments, phrase):
    assert phrase in cli_here("ask", *arguments, *(["--lang", "en"] if "--lang" not in arguments else [])).refusal()
    assert cli_here("ask", *arguments, "--json").code == 2


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_words(cli_here, text):
    for arguments in (["ask", text], ["ask", "瘦身", "--shelf", text], ["ask", "瘦身", "--setting", text]):
        assert len(cli_here(*arguments).refusal()) < 700


def test_hostile_words_beside_a_known_one(cli_here):
    for text in HOSTILE.values():
        for lang in ("zh", "en"):
            said = cli_here("ask", f"减肥 {text}", "--lang", lang)
            assert (said.code, said.err) == (0, "") and said.seconds < 10
            assert not {"\x1b", "\0", "\u202e", "\x07"} & set(said.out) and len(said.out) < 10_000
            said.out.encode()


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_without_a_question_the_words_are_listed(cli_here, lang):
    listed = json.loads(cli_here("ask", "--lang", lang, "--json").out)
    words = [word for concepts in listed.values() for concept in concepts for word in concept]
    assert words == [token.text(lang) for token in VOCABULARY.tokens]
    said = cli_here("ask", "--lang", lang)
    assert said.code == 0
    assert all(word in said.out for word in words)
