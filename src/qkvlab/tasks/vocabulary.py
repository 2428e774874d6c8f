"""The words of the task ``library``: 24 everyday concepts, each said in five ways, in Chinese and in English.

A concept is one question phrase (slot 0: 怎么减肥？) and four words that could be a label on a spine (slots
1 to 4: 减肥, 瘦身, ...), which are synonyms. A `Token` is what a model sees: one (concept, slot) pair with
two spellings. Three concepts make a theme. They are related, not synonyms, and form a course that is read in
order and then from the start again: weight -> diet -> exercise -> weight. The words themselves are in
``vocabulary.json`` beside this file.

    token number = 5 * concept number + slot        themes hold the concepts 0-2, 3-5, 6-8, ...
"""

from __future__ import annotations

import difflib
import json
import re
import string
import unicodedata
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from typing import Any, Literal

from qkvlab.errors import unknown

Lang = Literal["zh", "en"]
Relation = Literal["same", "synonym", "related", "none"]

LANGS: tuple[Lang, ...] = ("zh", "en")
SLOTS = 5
"""Spellings of a concept per language: its question phrase, then four words."""
COURSE = 3
"""Concepts in a theme."""

_LONGEST_GUESS = 80  # characters of a text that `nearest` compares; difflib is quadratic
_LIKENESS = {"zh": 0.5, "en": 0.6}  # one of two characters shared is a near word in Chinese, not in English


@dataclass(frozen=True)
class Token:
    """One (concept, slot) pair: what a model sees as a single token. Slot 0 is the concept's question.

    >>> load().tokens[2].text("zh"), load().tokens[2].text("en")
    ('瘦身', 'slimming')
    """

    id: int
    zh: str
    en: str

    @property
    def concept(self) -> int:
        """The number of its concept."""
        return self.id // SLOTS

    @property
    def slot(self) -> int:
        """Its place in the concept: 0 is the question, 1 to 4 are the words."""
        return self.id % SLOTS

    @property
    def is_question(self) -> bool:
        """Whether it is asked rather than put on a label."""
        return self.slot == 0

    def text(self, lang: str) -> str:
        """Spell it in Chinese ("zh") or in English ("en")."""
        return _spelling(self, lang)


@dataclass(frozen=True)
class Concept:
    """One meaning: a question and four synonymous words. `number` is its place in `Vocabulary.concepts`.

    `next`, `previous` and `related` are numbers too: ``vocabulary.concepts[concept.next]``.
    """

    id: str
    number: int
    tokens: tuple[Token, ...]

    @property
    def question(self) -> Token:
        """Its question phrase."""
        return self.tokens[0]

    @property
    def words(self) -> tuple[Token, ...]:
        """Its four words, synonyms of each other."""
        return self.tokens[1:]

    @property
    def theme(self) -> int:
        """The number of its theme."""
        return self.number // COURSE

    @property
    def next(self) -> int:
        """The concept read after it in the course; the last is followed by the first."""
        return self.theme * COURSE + (self.number + 1) % COURSE

    @property
    def previous(self) -> int:
        """The concept read before it in the course."""
        return self.theme * COURSE + (self.number - 1) % COURSE

    @property
    def related(self) -> tuple[int, int]:
        """The other two of its theme: the next and the previous one."""
        return self.next, self.previous


@dataclass(frozen=True)
class Theme:
    """A course of three related concepts, in reading order."""

    id: str
    zh: str
    en: str
    concepts: tuple[Concept, ...]

    def text(self, lang: str) -> str:
        """Name it in Chinese ("zh") or in English ("en")."""
        return _spelling(self, lang)


@dataclass(frozen=True)
class Vocabulary:
    """All themes, and the way from a text back to the tokens.

    >>> words = load()
    >>> words.find("怎么减肥?") is words.find(" How do I lose WEIGHT ") is words.concepts[0].question
    True
    >>> tokens, rest = words.understand("怎么减肥和跑酷")
    >>> [token.text("en") for token in tokens], rest
    (['How do I lose weight?'], ['和跑酷'])
    """

    themes: tuple[Theme, ...]

    @cached_property
    def concepts(self) -> tuple[Concept, ...]:
        """Every concept; a concept's number is its index."""
        return tuple(concept for theme in self.themes for concept in theme.concepts)

    @cached_property
    def tokens(self) -> tuple[Token, ...]:
        """Every token; a token's id is its index."""
        return tuple(token for concept in self.concepts for token in concept.tokens)

    def relation(self, a: Token, b: Token) -> Relation:
        """Say how two tokens stand: same, synonym (one concept), related (one theme) or none of these."""
        if a.id == b.id:
            return "same"
        if a.concept == b.concept:
            return "synonym"
        return "related" if self.concepts[a.concept].theme == self.concepts[b.concept].theme else "none"

    def find(self, text: str) -> Token | None:
        """Return the token that the whole text spells; case, width, spacing and end punctuation are free."""
        return self._by_key.get(_key(text))

    def understand(self, text: str) -> tuple[list[Token], list[str]]:
        """Read a longer text: the tokens in it, in order, and the pieces between them that are not known.

        The longest spelling wins, so 怎么减肥 is the question and not the word 减肥. Chinese is found inside
        running text, English between word boundaries. Pieces hold no control characters and no punctuation
        at their ends; they can be as long as the text.
        """
        plain = _plain(text)
        tokens, pieces, seen = [], [], 0
        for match in self._pattern.finditer(_fold(plain)):
            tokens.append(self._by_key[_key(match.group())])
            pieces.append(plain[seen : match.start()])
            seen = match.end()
        pieces.append(plain[seen:])
        tidied = (_tidy(piece) for piece in pieces)
        return tokens, [piece for piece in tidied if piece]

    def nearest(self, text: str, lang: str | None = None, n: int = 3) -> list[Token]:
        """Return up to `n` tokens spelled most like the text, best first; `lang` keeps to one language."""
        if lang is not None and lang not in LANGS:
            raise unknown("language", lang, LANGS)
        key = _key(text[:_LONGEST_GUESS])[:_LONGEST_GUESS]
        found: list[Token] = []
        for spoken in LANGS if lang is None else (lang,):
            keys = {_key(token.text(spoken)): token for token in self.tokens}
            near = difflib.get_close_matches(key, keys, n=max(n, 1), cutoff=_LIKENESS[spoken])
            found += [keys[each] for each in near if keys[each] not in found]
        return found[: max(n, 0)]

    @cached_property
    def _by_key(self) -> dict[str, Token]:
        return {_key(token.text(lang)): token for token in self.tokens for lang in LANGS}

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        # Grouped by first character, because re tries the alternatives of a group one after the other.
        letter = r"[^\W_\u4e00-\u9fff]"  # a letter or digit that is not a Chinese character
        groups: dict[str, list[str]] = {}
        for key in sorted(self._by_key, key=len, reverse=True):
            rest = re.escape(key[1:]).replace(r"\ ", " +")
            groups.setdefault(key[0], []).append(rest + (f"(?!{letter})" if key.isascii() else ""))
        starts = (
            (f"{first}(?<!{letter}{first})" if first.isascii() else first) + f"(?:{'|'.join(rests)})"
            for first, rests in groups.items()
        )
        return re.compile("|".join(starts))


@cache
def load() -> Vocabulary:
    """Return the vocabulary that ships with the package (read once)."""
    data = json.loads(resources.files("qkvlab.tasks").joinpath("vocabulary.json").read_text(encoding="utf-8"))
    assert data["version"] == 1, data["version"]
    return Vocabulary(tuple(_theme(raw, number) for number, raw in enumerate(data["themes"])))


def _theme(raw: dict[str, Any], number: int) -> Theme:
    assert len(raw["concepts"]) == COURSE, raw["id"]
    concepts = (_concept(each, number * COURSE + place) for place, each in enumerate(raw["concepts"]))
    return Theme(raw["id"], raw["zh"], raw["en"], tuple(concepts))


def _concept(raw: dict[str, Any], number: int) -> Concept:
    spellings = [raw["question"], *raw["words"]]
    assert len(spellings) == SLOTS, raw["id"]
    tokens = (Token(number * SLOTS + slot, each["zh"], each["en"]) for slot, each in enumerate(spellings))
    return Concept(raw["id"], number, tuple(tokens))


def _spelling(named: Token | Theme, lang: str) -> str:
    if lang not in LANGS:
        raise unknown("language", lang, LANGS)
    return named.zh if lang == "zh" else named.en


def _plain(text: str) -> str:
    """Clean the characters: one width (NFKC), no controls, no invisible marks, no lone surrogates."""
    # Each character alone: NFKC of a whole text takes quadratic time on long runs of combining marks.
    return text.translate({ord(char): _plain_character(char) for char in set(text)})


def _plain_character(char: str) -> str:
    category = unicodedata.category(char)
    if category == "Cf":  # right-to-left and zero-width marks
        return ""
    if category == "Cs":
        return "\N{REPLACEMENT CHARACTER}"
    if category == "Cc" or char.isspace():
        return " "
    return unicodedata.normalize("NFKC", char)


def _fold(plain: str) -> str:
    """Fold case, and hyphens to spaces, without moving a character: places in it are places in `plain`."""
    folded = {ord(char): low for char in set(plain) if len(low := char.casefold()) == 1}
    return plain.translate({**folded, ord("-"): " ", 0x2010: " "})


def _key(text: str) -> str:
    return _tidy(_fold(_plain(text)))


def _tidy(text: str) -> str:
    """Collapse inner whitespace, and drop whitespace and punctuation around the text."""
    edges = {char for char in set(text) if char in string.punctuation or unicodedata.category(char)[0] in "PZ"}
    return " ".join(text.split()).strip("".join(edges) + " ")
