"""The shipped models of `sentence`: what every verb of a sentence looks at, and whom it names.

T words    L layers    h heads
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qkvlab import designs, record
from qkvlab.errors import BadInput, unknown
from qkvlab.reference import Encoder
from qkvlab.study.weights import load, path_of
from qkvlab.tasks.grammar import ROLES
from qkvlab.tasks.lexicon import load as load_lexicon
from qkvlab.tasks.sentence import TASK


@dataclass(frozen=True)
class Named:
    """What one verb did in one model.

    Attributes:
        place: of the verb.
        nouns: numbers of the words that it names as its subject and as its object.
        scores: (L, h, T), of the verb with every word.
        weights: (L, h, T), its attention on every word.
    """

    place: int
    nouns: tuple[int, int]
    scores: np.ndarray
    weights: np.ndarray

    @property
    def attention(self) -> np.ndarray:
        """What the last layer gives to every word, mean over heads: (T,)."""
        return self.weights[-1].mean(0)

    @property
    def looks_at(self) -> int | None:
        """The place with the most of `attention`; None where no word has more than all others."""
        top = self.attention.argmax()
        return int(top) if self.attention[top] > np.delete(self.attention, top).max(initial=0) + 1e-6 else None


def shipped(setting: str) -> dict[str, Encoder]:
    """Return the shipped models of a setting by design, in the catalogue's order.

    Raises:
        BadInput: none ship for this setting, or none at all.
    """
    ready = {each: _files(each) for each in TASK.shown if _files(each)}
    if not ready:
        raise BadInput(
            "this copy of qkvlab holds no trained models of the task sentence, which ship with the package; install it "
            "anew, or publish a recorded study that has them."
        )
    if setting not in ready:
        raise unknown("setting with trained models", setting, ready)
    return {name: Encoder(name, load(path)[0], heads=TASK.heads, roles=ROLES) for name, path in ready[setting].items()}


def look(encoder: Encoder, tokens: Sequence[int]) -> list[Named]:
    """Let a model read a sentence, and ask every verb in it."""
    lexicon = load_lexicon()
    understood = encoder.understand(tokens)
    found = []
    for place, token in enumerate(tokens):
        if lexicon.words[token].kind == "verb":
            subject, thing = lexicon.nouns[understood.logits[place].argmax(-1)].tolist()
            scores, weights = (
                [getattr(s, name)[:, place] for s in understood.layers] for name in ("scores", "weights")
            )
            found.append(Named(place, (subject, thing), np.stack(scores), np.stack(weights)))
    return found


def _files(setting: str) -> dict[str, Path]:
    names = sorted(designs.examples(), key=lambda name: "/" in name)  # designs with parts stand behind the plain ones
    paths = {name: path_of(record.folder(), TASK.name, setting, name) for name in names}
    return {name: path for name, path in paths.items() if path.is_file()}
