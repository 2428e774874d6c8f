"""The words of `sentence`: who can act, what can be acted on, and which verbs take which objects in which forms.

A word is a token: its number is its place in `LEXICON.words`. Number 0 is padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from qkvlab.contracts import Words

Kind = Literal["padding", "noun", "verb", "adverb", "aspect", "marker", "joiner", "final"]
FORMS = ("plain", "ba", "bei", "topic")
"""我爱北京, 我把书丢了, 书被我丢了, 北京，我爱."""
SORTS = ("person", "place", "food", "thing")
"""Sorts of nouns; only a person is ever a subject."""
PADDING = 0

_NOUNS = {
    "person": "我 I/me|你 you|他 he/him|她 she/her|小明 Xiaoming|小红 Xiaohong|老师 teacher|医生 doctor"
    "|妈妈 Mum|爸爸 Dad",
    "place": "北京 Beijing|上海 Shanghai|长城 Great Wall|学校 school|公园 park|医院 hospital",
    "food": "苹果 apple|面包 bread|米饭 rice|饺子 dumplings|西瓜 watermelon|蛋糕 cake",
    "thing": "书 book|手机 phone|衣服 clothes|自行车 bicycle|钥匙 keys|电脑 computer",
}
_EVERYTHING, _GOODS = "person place food thing", "food thing"
_STAYS, _MOVES = "plain topic", "plain ba bei topic"  # 把 and 被 need something done to the object
_VERBS = (
    (_EVERYTHING, _STAYS, "爱 love/loves|喜欢 like/likes|想念 miss/misses", "讨厌 hate/hates"),
    (
        *("person", _MOVES),
        "打 hit/hits|骂 scold/scolds|表扬 praise/praises|批评 blame/blames|救 rescue/rescues|推 push/pushes"
        "|抱 hug/hugs",
        "骗 deceive/deceives|拦 stop/stops",
    ),
    ("place", _STAYS, "去 go to/goes to|参观 visit/visits|离开 leave/leaves", "经过 pass/passes"),
    ("food", _MOVES, "吃 eat/eats|分 share/shares", "煮 cook/cooks"),
    ("thing", _MOVES, "丢 lose/loses|修 repair/repairs|卖 sell/sells", "弄坏 break/breaks"),
    (_GOODS, _MOVES, "买 buy/buys|拿 take/takes", ""),
)
_OTHERS: dict[Kind, str] = {
    "adverb": "也 also|常常 often|昨天 yesterday|今天 today|已经 already|又 again|很少 seldom|真 really",
    "aspect": "了 (done)|过 (once)",
    "marker": "把 (ba)|被 (by)|， ,",
    "joiner": "但是 but|而且 and|所以 so",
    "final": "吧 (suggest)|呢 (well)|吗 (ask)",
}


@dataclass(frozen=True)
class Word:
    """One word.

    Attributes:
        zh: Chinese.
        en: English.
        kind: what part it plays.
        sort: of a noun; empty for others.
        takes: sorts of noun that a verb takes as its object.
        forms: forms of sentence that a verb goes with.
        new: a verb that training shows in plain sentences only.
        also: other English spellings.
    """

    zh: str
    en: str
    kind: Kind
    sort: str = ""
    takes: tuple[str, ...] = ()
    forms: tuple[str, ...] = ()
    new: bool = False
    also: tuple[str, ...] = ()

    @property
    def words(self) -> Words:
        """The word in both languages."""
        return Words(self.zh, self.en)


class Lexicon:
    """All words, and the tables by which sentences are drawn.

    Attributes:
        words: by number.
        nouns: numbers of all nouns, in order; a noun's class is its place here.
        verbs: numbers of all verbs, in order.
        sorts: (sorts, nouns), True where a noun is of a sort.
        takes: (verbs, sorts), True where a verb takes it as its object.
        forms: (forms, verbs), True where a verb goes with a form.
        new: (verbs,), True where training shows a verb in plain sentences only.
    """

    def __init__(self) -> None:
        words = [Word("", "", "padding")]
        for sort, row in _NOUNS.items():
            words += [_word(text, "noun", sort=sort) for text in row.split("|")]
        for takes, forms, known, new in _VERBS:
            for row, is_new in ((known, False), (new, True)):
                words += [
                    _word(text, "verb", takes=tuple(takes.split()), forms=tuple(forms.split()), new=is_new)
                    for text in row.split("|")
                    if text
                ]
        for kind, row in _OTHERS.items():
            words += [_word(text, kind) for text in row.split("|")]
        self.words = tuple(words)
        self.nouns, self.verbs = self.of("noun"), self.of("verb")
        self.sorts = np.array([[words[n].sort == sort for n in self.nouns] for sort in SORTS])
        self.takes = np.array([[sort in words[v].takes for sort in SORTS] for v in self.verbs])
        self.forms = np.array([[form in words[v].forms for v in self.verbs] for form in FORMS])
        self.new = np.array([words[v].new for v in self.verbs])

    def of(self, kind: Kind) -> np.ndarray:
        """Return the numbers of all words of a kind."""
        return np.array([i for i, word in enumerate(self.words) if word.kind == kind])

    def number(self, zh: str) -> int:
        """Return the number of a Chinese word that is here."""
        return next(i for i, word in enumerate(self.words) if word.zh == zh)


@cache
def load() -> Lexicon:
    """Return the lexicon.

    >>> lexicon = load()
    >>> [lexicon.words[lexicon.number(zh)].en for zh in ("我", "爱", "北京")]
    ['I', 'love', 'Beijing']
    """
    return Lexicon()


def _word(text: str, kind: Kind, **more: object) -> Word:
    zh, _, english = text.partition(" ")
    en, *also = english.split("/")
    return Word(zh, en, kind, also=tuple(also), **more)  # pyright: ignore[reportArgumentType]
