"""Sentences as drawn against the parser that knows the grammar alone, and what nobody may find in them."""

import numpy as np
import pytest

from qkvlab.tasks import grammar, parsing
from qkvlab.tasks.grammar import NO_TARGET, TOKENS, Sentences, draw, draw_bags, one_bag_reading
from qkvlab.tasks.lexicon import PADDING, load

LEXICON = load()
COUNT = 800


def drawn(*, new=False, bag=False, seed=0):
    rng = np.random.default_rng(seed)
    return draw_bags(rng, COUNT, new=new) if bag else draw(rng, COUNT, new=new)


def words(row):
    return [int(token) for token in row if token != PADDING]


def spelled(row):
    return "".join(LEXICON.words[token].zh for token in words(row))


def tokens(text):
    return [LEXICON.number(zh) for zh in text.split()]


def clauses(sentences, i):
    """The truth of one sentence as the parser would say it."""
    there = sentences.nouns[i, :, 0] != NO_TARGET
    return [
        parsing.Clause(int(verb), int(subject), int(thing))
        for verb, (subject, thing) in zip(sentences.verbs[i, there], sentences.places[i, there], strict=True)
    ]


# What must hold of any sentences: each check fails for the bug that is planted for it


def the_parser_finds_the_answers(sentences):
    for i, row in enumerate(sentences.tokens):
        assert parsing.parse(words(row)) == clauses(sentences, i), spelled(row)


def targets_stand_at_their_places(sentences):
    asked = sentences.nouns != NO_TARGET
    rows = np.arange(len(asked))[:, None, None]
    found = sentences.tokens[rows, sentences.places][asked]
    assert (found == LEXICON.nouns[sentences.nouns[asked]]).all()
    verbs = sentences.tokens[rows[..., 0], sentences.verbs][asked[..., 0]]
    assert np.isin(verbs, LEXICON.verbs).all()


def padding_stands_behind(sentences):
    there = sentences.tokens != PADDING
    assert sentences.tokens.shape[1] == TOKENS and (np.diff(there.astype(int), axis=1) <= 0).all()


def nouns_and_verbs_differ(sentences):
    for row in sentences.tokens:
        content = [t for t in words(row) if LEXICON.words[t].kind in ("noun", "verb")]
        assert len(set(content)) == len(content), spelled(row)


def verbs_take_their_objects(sentences):
    for row in sentences.tokens:
        for clause in parsing.parse(words(row)) or []:
            verb, subject, thing = (LEXICON.words[row[p]] for p in (clause.verb, clause.subject, clause.object))
            assert subject.sort == "person" and thing.sort in verb.takes, spelled(row)


CHECKS = (
    the_parser_finds_the_answers,
    targets_stand_at_their_places,
    padding_stands_behind,
    nouns_and_verbs_differ,
    verbs_take_their_objects,
)


@pytest.mark.parametrize("new", [False, True])
@pytest.mark.parametrize("bag", [False, True])
@pytest.mark.parametrize("check", CHECKS, ids=lambda f: f.__name__)
def test_sentences(check, bag, new):
    check(drawn(bag=bag, new=new))


def roles_turned(s):
    return Sentences(s.tokens, s.verbs, s.nouns[..., ::-1], s.places[..., ::-1])


def one_place_off(s):
    return Sentences(s.tokens, s.verbs, s.nouns, s.places + 1)


def padding_in_front(s):
    return Sentences(s.tokens[:, ::-1], s.verbs, s.nouns, s.places)


def one_word_everywhere(s):
    noun = np.isin(s.tokens, LEXICON.nouns)
    return Sentences(np.where(noun, LEXICON.nouns[0], s.tokens), s.verbs, s.nouns, s.places)


def objects_of_any_sort(s):
    things = np.isin(s.tokens, LEXICON.nouns[~LEXICON.sorts[0]])
    return Sentences(np.where(things, LEXICON.number("北京"), s.tokens), s.verbs, s.nouns, s.places)


@pytest.mark.parametrize(
    ("check", "bug"),
    [
        (the_parser_finds_the_answers, roles_turned),
        (targets_stand_at_their_places, one_place_off),
        (padding_stands_behind, padding_in_front),
        (nouns_and_verbs_differ, one_word_everywhere),
        (verbs_take_their_objects, objects_of_any_sort),
    ],
    ids=lambda f: f.__name__,
)
def test_planted_bugs_show(check, bug):
    with pytest.raises(AssertionError):
        check(bug(drawn()))


# What the drawing promises


def forms(sentences):
    found = set()
    for i, row in enumerate(sentences.tokens):
        said = [LEXICON.words[t].zh for t in words(row)]
        for clause in clauses(sentences, i):
            behind = said[clause.object - 1] if clause.object else ""
            passive = said[clause.subject - 1] == "被"
            form = (
                "ba" if behind == "把" else "bei" if passive else "topic" if clause.object < clause.subject else "plain"
            )
            found.add((said[clause.verb], form))
    return found


def test_new_verbs_are_trained_in_plain_sentences_only():
    new = {LEXICON.words[v].zh for v in LEXICON.verbs[LEXICON.new]}
    trained, asked = forms(drawn()), forms(drawn(new=True))
    assert {form for verb, form in trained if verb in new} == {"plain"}
    assert {verb for verb, _ in trained} >= new, "a new verb is a known word"
    assert {form for _, form in asked} == {"ba", "bei", "topic"} and {verb for verb, _ in asked} == new


def test_all_forms_and_lengths_occur():
    sentences = drawn()
    assert {form for _, form in forms(sentences)} == {"plain", "ba", "bei", "topic"}
    lengths = (sentences.tokens != PADDING).sum(1)
    assert lengths.min() == 3 and lengths.max() == TOKENS
    two = sentences.nouns[:, 1, 0] != NO_TARGET
    same = two & (sentences.places[:, 0, 0] == sentences.places[:, 1, 0])
    assert 0.6 < two.mean() < 0.8 and same.sum() > 40


@pytest.mark.parametrize("new", [False, True])
def test_a_bag_has_one_reading_where_the_rule_says_so(new):
    """The rule that filters knows how a sentence was made; the reader tries every way of giving out nouns."""
    sentences = drawn(new=new, seed=1)
    for row, one in zip(sentences.tokens, one_bag_reading(sentences), strict=True):
        assert (len(parsing.bag_readings(words(row))) == 1) == one, spelled(row)


@pytest.mark.parametrize("new", [False, True])
def test_bags_are_answered_by_their_words_alone(new):
    sentences = drawn(bag=True, new=new)
    rng = np.random.default_rng(2)
    for i, row in enumerate(sentences.tokens):
        (reading,) = parsing.bag_readings(rng.permutation(words(row)).tolist())
        wanted = {int(row[c.verb]): (int(row[c.subject]), int(row[c.object])) for c in clauses(sentences, i)}
        assert reading == wanted, spelled(row)


def test_the_same_seed_draws_the_same():
    for one, other in zip(vars(drawn()).values(), vars(drawn()).values(), strict=True):
        assert (one == other).all()
    assert (drawn().tokens != drawn(seed=1).tokens).any()
    assert grammar.draw(np.random.default_rng(0), 0).tokens.shape == (0, TOKENS)


# The parser, held against sentences that people can read


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("我 爱 北京", [(1, 0, 2)]),
        ("老师 把 小明 批评 了", [(3, 0, 2)]),
        ("老师 被 小明 批评 了", [(3, 2, 0)]),
        ("北京 ， 我 真 爱", [(4, 2, 0)]),
        ("我 爱 北京 ， 也 吃 苹果 吧", [(1, 0, 2), (5, 0, 6)]),
        ("我 把 书 丢 了 而且 把 手机 卖 了", [(3, 0, 2), (8, 0, 7)]),
        ("北京 ， 我 爱 ， 上海 ， 他 喜欢", [(3, 2, 0), (8, 7, 5)]),
    ],
)
def test_sentences_that_people_can_read(text, wanted):
    assert parsing.parse(tokens(text)) == [parsing.Clause(*each) for each in wanted]


@pytest.mark.parametrize("text", ["我", "爱", "我 爱", "爱 北京", "我 北京 爱", "我 把 爱 北京", "我 爱 北京 ， 也"])
def test_what_is_no_sentence(text):
    assert parsing.parse(tokens(text)) is None


@pytest.mark.parametrize(("text", "count"), [("我 爱 他", 2), ("我 爱 北京", 1), ("北京 爱 上海", 0), ("我 爱", 0)])
def test_readings_of_a_bag(text, count):
    assert len(parsing.bag_readings(tokens(text))) == count


def test_the_words_of_the_article_are_here():
    said = [LEXICON.words[LEXICON.number(zh)] for zh in ("我", "爱", "北京")]
    assert [word.en for word in said] == ["I", "love", "Beijing"]
    assert len({word.zh for word in LEXICON.words}) == len(LEXICON.words)
    assert all(word.zh and word.en for word in LEXICON.words[1:])
