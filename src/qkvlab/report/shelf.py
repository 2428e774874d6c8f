"""The article's question, asked of trained models: under each design, what does 怎么减肥？ find on one shelf?

Runs the models that a study saved, in the NumPy reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qkvlab.contracts import Words
from qkvlab.reference.librarian import Answer, Librarian
from qkvlab.report.saved import Round, ask_each
from qkvlab.report.view import Setting, Study
from qkvlab.tasks import library, shelves, vocabulary

QUESTION = 0
"""怎么减肥？"""


@dataclass(frozen=True, eq=False)
class Shelf:
    """One shelf and everyone who was asked.

    Attributes:
        setting: what the models were trained on.
        question: what is asked.
        labels: on the spines.
        right: which books answer the question in this setting.
        asked: what every model answered.
    """

    setting: Setting
    question: Words
    labels: tuple[Words, ...]
    right: tuple[bool, ...]
    asked: Round[Answer]

    def found(self, answer: Answer) -> bool:
        """Whether a right book came back."""
        return answer.book is not None and self.right[answer.book]


def ask_all(folder: Path, study: Study) -> list[Shelf]:
    """Ask every model that the study saved in a setting of the library."""
    found = [_ask(folder, study, setting) for setting in study.settings if setting.key[0] == "library"]
    return [shelf for shelf in found if shelf is not None]


def _ask(folder: Path, study: Study, setting: Setting) -> Shelf | None:
    labels = shelves.shelf_for(QUESTION)
    asked = ask_each(folder, study, setting, lambda name, state: Librarian(name, state).answer(QUESTION, labels))
    if asked is None:
        return None
    kind = library.Setting.parse(setting.key[1]).question
    right = shelves.relevant(kind, np.array(QUESTION), np.array(labels))
    words = vocabulary.load().tokens
    return Shelf(
        setting,
        Words(words[QUESTION].zh, words[QUESTION].en),
        tuple(Words(words[token].zh, words[token].en) for token in labels),
        tuple(bool(each) for each in right),
        asked,
    )
