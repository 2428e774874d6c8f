"""A grammar of Chinese sentences, drawn many at a time: one or two verbs, each with its subject and its object.

    n sentence    t token    v verb (first and second clause)    r role (subject, object)

A clause has one of four forms; [ ] may be missing:

    plain  S [adverb] V [aspect] O          ba     S [adverb] 把 O V 了
    bei    O [adverb] 被 S V 了              topic  O ， S [adverb] V [aspect]

A second clause follows ， or a conjunction. After plain or ba, in plain or ba, it may leave out its subject, which then
is that of the first: 我爱北京，也吃苹果. A particle may end the sentence. All nouns and all verbs of a sentence differ.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from qkvlab.tasks.lexicon import PADDING, SORTS, load

TOKENS = 14
"""Longest sentence: two clauses of six words, what joins them, and a particle."""
NO_TARGET = -100
"""Marks the missing second verb of a short sentence; losses pass over it."""
VERBS, ROLES = 2, 2
_TWO = 0.7
_FORMS = (0.4, 0.2, 0.2, 0.2)
_SUBJECT, _OBJECT, _VERB, _ADVERB, _ASPECT, _MARKER = range(6)
_ORDER = np.array(
    [
        (_SUBJECT, _ADVERB, _VERB, _ASPECT, _OBJECT, _MARKER),
        (_SUBJECT, _ADVERB, _MARKER, _OBJECT, _VERB, _ASPECT),
        (_OBJECT, _ADVERB, _MARKER, _SUBJECT, _VERB, _ASPECT),
        (_OBJECT, _MARKER, _SUBJECT, _ADVERB, _VERB, _ASPECT),
    ]
)
_PLAIN, _BA, _BEI, _TOPIC = range(4)


@dataclass(frozen=True)
class Sentences:
    """Many sentences at once.

    Attributes:
        tokens: (n, t), numbers of words, padding behind.
        verbs: (n, v), where the verbs stand; 0 where there is no second one.
        nouns: (n, v, r), which nouns are the subject and the object of each verb (places in `Lexicon.nouns`);
            `NO_TARGET` where there is no second verb.
        places: (n, v, r), where these nouns stand; 0 where there is no second verb.
    """

    tokens: np.ndarray
    verbs: np.ndarray
    nouns: np.ndarray
    places: np.ndarray

    def rows(self, chosen: np.ndarray | slice) -> Sentences:
        """Return some of the sentences."""
        return Sentences(*(getattr(self, field.name)[chosen] for field in fields(self)))


def draw(rng: np.random.Generator, n: int, *, new: bool = False, same_subject: float = 0.4) -> Sentences:
    """Draw n sentences.

    Args:
        rng: source of everything random.
        n: how many.
        new: draw verbs that training shows in plain sentences only, in the three other forms; else what training
            shows.
        same_subject: share of second clauses without a subject of their own, where forms allow it.
    """
    two = rng.random(n) < _TWO
    form = rng.choice(len(_FORMS), (n, VERBS), p=_shares(new))
    same = two & (form <= _BA).all(1) & (rng.random(n) < same_subject)
    verb = _verbs(rng, form, new)
    nouns = _nouns(rng, verb, same)
    clauses = np.take_along_axis(_ingredients(rng, form, verb, nouns, same), _ORDER[form], axis=2)
    clauses[~two, 1] = PADDING
    lexicon = load()
    joiners = np.array([lexicon.number("，"), *lexicon.of("joiner")])
    joiner = np.where(two, rng.choice(joiners, n), PADDING)
    final = np.where(rng.random(n) < 0.3, rng.choice(lexicon.of("final"), n), PADDING)
    row = np.concatenate([clauses[:, 0], joiner[:, None], clauses[:, 1], final[:, None]], axis=1)
    there = row != PADDING
    tokens = np.take_along_axis(row, np.argsort(~there, axis=1, kind="stable"), axis=1)

    # where each ingredient of each clause came to stand once what is missing is closed up
    column = np.argsort(_ORDER[form], axis=2) + np.array([0, _ORDER.shape[1] + 1])[:, None]
    place = np.take_along_axis(there.cumsum(1) - 1, column.reshape(n, _ORDER.shape[1] * VERBS), axis=1).reshape(
        column.shape
    )
    place[:, 1, _SUBJECT] = np.where(same, place[:, 0, _SUBJECT], place[:, 1, _SUBJECT])
    places, verbs = place[:, :, [_SUBJECT, _OBJECT]], place[:, :, _VERB]
    places[~two, 1], verbs[~two, 1], nouns[~two, 1] = 0, 0, NO_TARGET
    return Sentences(tokens, verbs, nouns, places)


def draw_bags(rng: np.random.Generator, n: int, *, new: bool = False) -> Sentences:
    """Draw n sentences that have `one_bag_reading`; arguments as `draw`."""
    parts: list[Sentences] = []
    while sum(len(part.tokens) for part in parts) < n:
        more = draw(rng, 2 * n, new=new, same_subject=1.0)  # two subjects are never told apart in a bag
        parts.append(more.rows(one_bag_reading(more)))
    joined = (np.concatenate([getattr(part, f.name) for part in parts])[:n] for f in fields(Sentences))
    return Sentences(*joined)


def one_bag_reading(sentences: Sentences) -> np.ndarray:
    """Say which sentences keep their answer when the order of their words is lost: (n,) booleans.

    There must be one person, who then is every subject, and no two verbs that could change objects.
    """
    lexicon, two = load(), sentences.nouns[:, 1, 0] != NO_TARGET
    sort = lexicon.sorts.argmax(0)[np.where(two[:, None], sentences.nouns[:, :, 1], sentences.nouns[:, :1, 1])]
    same = sentences.places[:, 0, 0] == sentences.places[:, 1, 0]
    words = np.take_along_axis(sentences.tokens, sentences.verbs, axis=1)
    takes = lexicon.takes[np.searchsorted(lexicon.verbs, np.where(two[:, None], words, words[:, :1]))]
    every = np.arange(len(two))
    change = takes[every, 0, sort[:, 1]] & takes[every, 1, sort[:, 0]]
    return (sort != SORTS.index("person")).all(1) & (~two | (same & ~change))


def _shares(new: bool) -> np.ndarray:
    shares = np.array(_FORMS)
    if new:
        shares[_PLAIN] = 0
    return shares / shares.sum()


def _pick(rng: np.random.Generator, allowed: np.ndarray) -> np.ndarray:
    # one of the allowed of each row, all equally likely
    return (rng.random(allowed.shape) * allowed).argmax(-1)


def _verbs(rng: np.random.Generator, form: np.ndarray, new: bool) -> np.ndarray:
    lexicon = load()
    plain = np.arange(len(_FORMS))[:, None] == _PLAIN
    allowed = (lexicon.forms & (lexicon.new if new else plain | ~lexicon.new))[form]
    first = _pick(rng, allowed[:, 0])
    allowed[np.arange(len(form)), 1, first] = False
    return np.stack([first, _pick(rng, allowed[:, 1])], axis=1)


def _nouns(rng: np.random.Generator, verb: np.ndarray, same: np.ndarray) -> np.ndarray:
    # each sort is shuffled once per sentence: its first two are for subjects, the next two for objects
    lexicon = load()
    shuffled = np.stack(
        [rng.permuted(np.tile(np.flatnonzero(own), (len(verb), 1)), axis=1)[:, : 2 * VERBS] for own in lexicon.sorts],
        axis=1,
    )
    sort = _pick(rng, lexicon.takes[verb])
    every, clause = np.arange(len(verb))[:, None], np.arange(VERBS)
    objects = shuffled[every, sort, VERBS + clause]
    subjects = shuffled[:, SORTS.index("person"), :VERBS].copy()
    subjects[same, 1] = subjects[same, 0]
    return np.stack([subjects, objects], axis=2)


def _ingredients(
    rng: np.random.Generator, form: np.ndarray, verb: np.ndarray, nouns: np.ndarray, same: np.ndarray
) -> np.ndarray:
    lexicon = load()
    done = lexicon.number("了")
    said = lexicon.nouns[nouns]
    said[same, 1, 0] = PADDING
    adverb = np.where(rng.random(form.shape) < 0.5, rng.choice(lexicon.of("adverb"), form.shape), PADDING)
    aspect = rng.choice([PADDING, *lexicon.of("aspect")], form.shape)
    aspect = np.where((form == _BA) | (form == _BEI), done, aspect)
    marker = np.array([PADDING, *(lexicon.number(zh) for zh in "把被，")])[form]
    return np.stack([said[..., 0], said[..., 1], lexicon.verbs[verb], adverb, aspect, marker], axis=2)
