"""The article's sentence, 我爱北京, read by trained models: whom does 爱 look at under each design, and name?

Runs the models that a study saved, in the NumPy reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from qkvlab.contracts import Words
from qkvlab.record.sentence import look
from qkvlab.reference.attention import Array
from qkvlab.reference.encoder import Encoder
from qkvlab.report.saved import Round, ask_each
from qkvlab.report.view import Setting, Study
from qkvlab.tasks import grammar, lexicon, parsing

SENTENCE = ("我", "爱", "北京")
ALIKE = 1e-4
"""Shares of attention closer than this are the same."""


@dataclass(frozen=True, eq=False)
class Look:
    """What the verb did in one model.

    Attributes:
        scores: (layers, words), of the verb with every word, mean over heads.
        weights: (layers, words), what the verb gives to every word, mean over heads.
        named: number of the word that it names as its subject, and as its object.
    """

    scores: Array
    weights: Array
    named: tuple[int, int]

    def most(self, layer: int) -> int | None:
        """Return the word that the verb looks at most; None where it looks at all alike."""
        row = self.weights[layer]
        return int(row.argmax()) if row.max() - row.min() > ALIKE else None


@dataclass(frozen=True, eq=False)
class Read:
    """The sentence and everyone who read it.

    Attributes:
        setting: what the models were trained on.
        tokens: numbers of the words.
        verb: where the verb stands.
        right: number of the word that is its subject, and of the one that is its object.
        looks: what every model did.
    """

    setting: Setting
    tokens: tuple[int, ...]
    verb: int
    right: tuple[int, int]
    looks: Round[Look]

    @property
    def words(self) -> list[Words]:
        """The words of the sentence."""
        return [word(token) for token in self.tokens]


def read_all(folder: Path, study: Study) -> list[Read]:
    """Let every model read that the study saved in a setting of the sentence."""
    found = [_read(folder, study, setting) for setting in study.settings if setting.key[0] == "sentence"]
    return [each for each in found if each is not None]


def word(number: int) -> Words:
    """Say a word of the lexicon."""
    return lexicon.load().words[number].words


def _read(folder: Path, study: Study, setting: Setting) -> Read | None:
    tokens = tuple(lexicon.load().number(zh) for zh in SENTENCE)
    clauses = parsing.parse(tokens)
    assert clauses is not None, "the article's sentence is one of the grammar"
    clause, heads = clauses[0], setting.facts.get("heads")

    def asked(name: str, state: Mapping[str, Array]) -> Look:
        if not isinstance(heads, int):
            raise ValueError("the registration does not say how many heads there are")
        (verb,) = look(Encoder(name, state, heads=heads, roles=grammar.ROLES), tokens)
        return Look(scores=verb.scores.mean(1), weights=verb.weights.mean(1), named=verb.nouns)

    looks = ask_each(folder, study, setting, asked)
    right = tokens[clause.subject], tokens[clause.object]
    return None if looks is None else Read(setting, tokens, clause.verb, right, looks)
