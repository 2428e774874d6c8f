"""The article's question, asked of trained models: under each design, what does 怎么减肥？ find on one shelf?

Runs the models that a study saved, in the NumPy reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError

from qkvlab.contracts import Words
from qkvlab.reference.librarian import Answer, Librarian
from qkvlab.report.view import Arm, Setting, Study
from qkvlab.study import weights
from qkvlab.tasks import library, shelves, vocabulary

QUESTION = 0
"""怎么减肥？"""


@dataclass(frozen=True, eq=False)
class Asked:
    """What one trained model answered.

    Attributes:
        arm: its design.
        answer: scores, weights, and what came back.
        right: whether a right book came back.
        seed: of the model.
    """

    arm: Arm
    answer: Answer
    right: bool
    seed: str


@dataclass(frozen=True, eq=False)
class Shelf:
    """One shelf and everyone who was asked.

    Attributes:
        setting: what the models were trained on.
        question: what is asked.
        labels: on the spines.
        right: which books answer the question in this setting.
        asked: one entry per model.
        left_out: designs whose file cannot be used.
    """

    setting: Setting
    question: Words
    labels: tuple[Words, ...]
    right: tuple[bool, ...]
    asked: tuple[Asked, ...]
    left_out: tuple[str, ...]


def ask_all(folder: Path, study: Study) -> list[Shelf]:
    """Ask every model that the study saved in a setting of the library."""
    found = [_ask(folder, study, setting) for setting in study.settings if setting.key[0] == "library"]
    return [shelf for shelf in found if shelf is not None]


def _ask(folder: Path, study: Study, setting: Setting) -> Shelf | None:
    files = {name: weights.path_of(folder, *setting.key, name) for name in study.designs}
    files = {name: path for name, path in files.items() if path.is_file()}
    if not files:
        return None
    kind = library.Setting.parse(setting.key[1]).question
    labels = shelves.shelf_for(QUESTION)
    right = shelves.relevant(kind, np.array(QUESTION), np.array(labels))
    asked, left_out = [], []
    for name, path in files.items():
        try:
            state, origin = weights.load(path)
            if origin.get("source") != study.registration["source"]:
                raise ValueError("the model of another study")
            answer = Librarian(name, state).answer(QUESTION, labels)
        except (SafetensorError, OSError, KeyError, ValueError, IndexError):
            left_out.append(name)
            continue
        good = answer.book is not None and bool(right[answer.book])
        asked.append(Asked(setting.arms[name], answer, good, origin.get("seed", "?")))
    words = vocabulary.load().tokens
    return Shelf(
        setting,
        Words(words[QUESTION].zh, words[QUESTION].en),
        tuple(Words(words[token].zh, words[token].en) for token in labels),
        tuple(bool(each) for each in right),
        tuple(asked),
        tuple(left_out),
    )
