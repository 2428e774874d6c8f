"""The bilingual vocabulary: its shape, its words, and the way from a text back to the tokens."""

import json
import re
import subprocess
import sys
import time
import unicodedata
from importlib import resources

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qkvlab.errors import BadInput
from qkvlab.tasks.vocabulary import COURSE, LANGS, SLOTS, Token, load

VOCABULARY = load()
SPELLINGS = [(token, lang) for token in VOCABULARY.tokens for lang in LANGS]


def token(text: str) -> Token:
    found = VOCABULARY.find(text)
    assert found is not None, text
    return found


def spelled(tokens: list[Token], lang: str = "zh") -> list[str]:
    return [each.text(lang) for each in tokens]


# Shape


def test_counts():
    assert len(VOCABULARY.themes) == 8
    assert [len(theme.concepts) for theme in VOCABULARY.themes] == [COURSE] * 8
    assert len(VOCABULARY.concepts) == 24 and len(VOCABULARY.tokens) == 120
    assert all(len(concept.words) == 4 for concept in VOCABULARY.concepts)


def test_numbers_are_indices():
    assert [concept.number for concept in VOCABULARY.concepts] == list(range(24))
    assert [each.id for each in VOCABULARY.tokens] == list(range(120))
    for concept in VOCABULARY.concepts:
        assert concept in VOCABULARY.themes[concept.theme].concepts
        assert [each.id for each in concept.tokens] == [concept.number * SLOTS + slot for slot in range(SLOTS)]
        for slot, each in enumerate(concept.tokens):
            assert (each.concept, each.slot, each.is_question) == (concept.number, slot, slot == 0)


def test_a_theme_is_a_cycle_of_three():
    for concept in VOCABULARY.concepts:
        follower = VOCABULARY.concepts[concept.next]
        assert follower.previous == concept.number
        assert VOCABULARY.concepts[follower.next].next == concept.number
        assert {concept.number, *concept.related} == {each.number for each in VOCABULARY.themes[concept.theme].concepts}
        assert len(set(concept.related)) == 2 and concept.number not in concept.related


def test_load_reads_once_and_is_frozen():
    assert load() is VOCABULARY
    with pytest.raises(AttributeError):
        VOCABULARY.tokens[0].zh = "x"  # pyright: ignore[reportAttributeAccessIssue]


def test_the_file_holds_nothing_else():
    data = json.loads(resources.files("qkvlab.tasks").joinpath("vocabulary.json").read_text(encoding="utf-8"))
    assert set(data) == {"version", "themes"}
    for theme in data["themes"]:
        assert set(theme) == {"id", "zh", "en", "concepts"}
        for concept in theme["concepts"]:
            assert set(concept) == {"id", "question", "words"}
            for each in [concept["question"], *concept["words"]]:
                assert set(each) == {"zh", "en"}


def test_ids_are_distinct_and_plain():
    for names in ([t.id for t in VOCABULARY.themes], [c.id for c in VOCABULARY.concepts]):
        assert len(set(names)) == len(names) and all(re.fullmatch("[a-z]+", name) for name in names)


# Words


@pytest.mark.parametrize("lang", LANGS)
def test_spellings_are_distinct(lang):
    folded = {each.text(lang).casefold() for each in VOCABULARY.tokens}
    assert len(folded) == len(VOCABULARY.tokens)


def test_scripts():
    """Chinese is Chinese characters, English is lower-case words; questions end as questions do."""
    for concept in VOCABULARY.concepts:
        assert re.fullmatch("[\u4e00-\u9fff]+？", concept.question.zh), concept.question
        assert re.fullmatch(r"[A-Z][A-Za-z]*( [A-Za-z]+)+\?", concept.question.en), concept.question
        for word in concept.words:
            assert re.fullmatch("[\u4e00-\u9fff]{2,4}", word.zh), word
            assert re.fullmatch("[a-z]+( [a-z]+){0,3}", word.en), word


def test_characters_are_simplified():
    """GB 2312 holds the simplified characters in use and none of the traditional forms that they replaced."""
    for each in VOCABULARY.tokens:
        each.zh.encode("gb2312")


def test_no_word_hides_another():
    """No word lies inside another word, nor inside the question of another concept."""
    for inner in VOCABULARY.tokens:
        for outer in VOCABULARY.tokens:
            if inner is outer or inner.is_question or (outer.is_question and inner.concept == outer.concept):
                continue
            assert inner.zh not in outer.zh, (inner.zh, outer.zh)
            assert not re.search(rf"\b{inner.en}\b", outer.en, re.IGNORECASE), (inner.en, outer.en)


def test_the_article():
    """The article's words stand as it uses them: the question, its synonyms, and what is only related."""
    question = token("怎么减肥？")
    assert question.is_question and question.id == 0
    assert {VOCABULARY.relation(question, token(word)) for word in ("减肥", "瘦身")} == {"synonym"}
    assert {VOCABULARY.relation(question, token(word)) for word in ("运动", "饮食")} == {"related"}
    assert {VOCABULARY.relation(question, token(word)) for word in ("历史", "地理")} == {"none"}
    assert VOCABULARY.relation(token("减肥"), token("瘦身")) == "synonym"
    assert VOCABULARY.relation(token("运动"), token("饮食")) == "related"
    assert VOCABULARY.relation(token("历史"), token("地理")) == "related"
    assert VOCABULARY.relation(token("瘦身"), token("slimming")) == "same"
    assert [concept.words[0].en for concept in VOCABULARY.themes[0].concepts] == [
        "weight loss",
        "diet",
        "exercise",
    ]


def test_relation_is_symmetric():
    for a in VOCABULARY.tokens:
        assert all(VOCABULARY.relation(a, b) == VOCABULARY.relation(b, a) for b in VOCABULARY.tokens)


# From text to token


@pytest.mark.parametrize(("each", "lang"), SPELLINGS)
def test_every_spelling_is_found(each, lang):
    text = each.text(lang)
    fullwidth = "".join(chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in text)
    for variant in (text, f"  {text}\n", text.upper(), f"“{text}！！”", text.replace(" ", " \t "), fullwidth):
        assert VOCABULARY.find(variant) is each, variant
        assert VOCABULARY.understand(variant) == ([each], []), variant
    assert VOCABULARY.nearest(text, lang, 1) == [each]
    assert VOCABULARY.nearest(text, n=1) == [each]


@pytest.mark.parametrize(
    "text",
    ["怎么减肥?", "怎么减肥？", " 怎么减肥 ", "怎么减肥。", "how do i lose weight", "HOW DO I  LOSE WEIGHT!"],
)
def test_the_question_in_many_forms(text):
    assert token(text).id == 0


@pytest.mark.parametrize("text", ["", " ", "？", "减", "怎么", "减肥瘦身", "weight", "weightloss", "减 肥"])
def test_what_is_not_a_spelling_is_not_found(text):
    assert VOCABULARY.find(text) is None


@pytest.mark.parametrize(
    ("text", "tokens", "rest"),
    [
        ("怎么减肥和跑酷", ["怎么减肥？"], ["和跑酷"]),
        ("我想减肥", ["减肥"], ["我想"]),
        ("减肥瘦身", ["减肥", "瘦身"], []),
        ("减肥、瘦身，运动；饮食。", ["减肥", "瘦身", "运动", "饮食"], []),
        ("减肥减肥", ["减肥", "减肥"], []),
        ("How do I lose weight? And parkour!", ["怎么减肥？"], ["And parkour"]),
        ("weight-loss DIET", ["减肥", "饮食"], []),
        ("dietary exercises", [], ["dietary exercises"]),
        ("diet2 2diet", [], ["diet2 2diet"]),
        ("减肥diet历史", ["减肥", "饮食", "历史"], []),
        ("瘦身 or weight loss", ["瘦身", "减肥"], ["or"]),
        ("Parkour 减肥 Slalom", ["减肥"], ["Parkour", "Slalom"]),
        ("跑酷", [], ["跑酷"]),
        ("减\u200b肥", ["减肥"], []),
        ("\u202e减肥\u202c \x1b[31m瘦身\x00", ["减肥", "瘦身"], ["31m"]),
        ("\x1b跑\x07酷\u202e", [], ["跑 酷"]),
        ("\udcff 减肥", ["减肥"], ["\ufffd"]),
        ("🏋 减肥", ["减肥"], ["🏋"]),
        ("", [], []),
        ("  \n？！...", [], []),
    ],
)
def test_understand(text, tokens, rest):
    found, pieces = VOCABULARY.understand(text)
    assert (spelled(found), pieces) == (tokens, rest)


@settings(deadline=None)
@given(st.lists(st.sampled_from(SPELLINGS), max_size=6))
def test_understand_reads_any_list_of_spellings(drawn):
    text = "; ".join(each.text(lang) for each, lang in drawn)
    assert VOCABULARY.understand(text) == ([each for each, _ in drawn], [])


@settings(deadline=None)
@given(st.text(st.characters(), max_size=60))
@example("\ufdfa İß\u0301")
def test_any_text_is_answered_with_printable_pieces(text):
    tokens, pieces = VOCABULARY.understand(text)
    assert set(VOCABULARY.nearest(text)) <= set(VOCABULARY.tokens)
    assert VOCABULARY.find(text) in {None, *tokens}
    assert all(each in VOCABULARY.tokens for each in tokens)
    for piece in pieces:
        assert piece.strip() == piece != ""
        assert not any(unicodedata.category(char) in {"Cc", "Cf", "Cs"} for char in piece)
        piece.encode()


@pytest.mark.parametrize(
    "unit",
    [
        "跑",
        "减肥",
        "怎么",
        "how do i ",
        "weight ",
        "h",
        "weight" + " " * 1000,
        "\u0301\u0316",
        "？",
        "\x00",
        "-",
        "ﷺ",
    ],
)
def test_a_megabyte_is_read_quickly(unit):
    text = unit * (1_000_000 // len(unit.encode()))
    start = time.process_time()
    for read in (VOCABULARY.find, VOCABULARY.understand, VOCABULARY.nearest):
        read(text)
    assert time.process_time() - start < 3  # 0.1 to 0.5 s on an idle core; quadratic work takes minutes


# Suggestions and names


def test_nearest_suggests():
    assert "slimming" in spelled(VOCABULARY.nearest("sliming"), "en")
    assert "减肥" in spelled(VOCABULARY.nearest("减肥法", "zh"))
    assert VOCABULARY.nearest("exercize", "en", 1) == [token("运动")]
    assert len(VOCABULARY.nearest("怎么", "zh", 2)) == 2


def test_nearest_keeps_to_its_language_and_count():
    assert VOCABULARY.nearest("减肥", "en") == []
    assert VOCABULARY.nearest("") == [] and VOCABULARY.nearest("xyzzy") == []
    assert VOCABULARY.nearest("减肥", n=0) == [] and VOCABULARY.nearest("减肥", n=-1) == []
    assert len(VOCABULARY.nearest("怎么", n=10**9)) <= 120
    several = VOCABULARY.nearest("减肥 weight loss", n=50)
    assert len(set(several)) == len(several)


def test_an_unknown_language_is_an_error_that_helps():
    for call in (
        VOCABULARY.tokens[0].text,
        VOCABULARY.themes[0].text,
        lambda lang: VOCABULARY.nearest("x", lang),
    ):
        with pytest.raises(BadInput, match=r"unknown language 'zn'; did you mean 'zh'\?"):
            call("zn")


def test_names_in_both_languages():
    assert [VOCABULARY.themes[0].text(lang) for lang in LANGS] == ["健康", "health"]
    assert [token("slimming").text(lang) for lang in LANGS] == ["瘦身", "slimming"]


def test_reading_words_does_not_import_torch():
    code = "import sys, qkvlab.tasks.vocabulary as v; v.load(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
