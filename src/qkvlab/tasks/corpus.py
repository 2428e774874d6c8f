"""Real text as classes of characters, cut once into a part to learn from and a part that is held out.

The last `HELD_OUT` characters are held out; the up to `TRAINING` characters before them are learned from. Every
character that the training part has at least `OFTEN` times is a class of its own (the `CLASSES` most frequent of them
if there are more); all others share the class 0, "other", and count like any other class.
"""

from __future__ import annotations

import hashlib
import stat
from collections import Counter
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path

import numpy as np

from qkvlab.errors import BadInput
from qkvlab.tasks.ngram import WittenBell

HELD_OUT = 32_768
TRAINING = 150_000
LEAST = 100_000
"""Characters that a text must have; with fewer there is too little to learn from."""
MOST = 100_000_000
"""Bytes of a file; only its end is used."""
OFTEN = 10
CLASSES = 2000
ORDER = 5
"""Of the n-gram that a model must beat."""


@dataclass(frozen=True, eq=False)
class Corpus:
    """A text, cut.

    Attributes:
        name: where it comes from.
        characters: of the whole text.
        sha256: of the whole text as UTF-8.
        alphabet: characters with a class of their own, in the order of their classes 1, 2, ...
        training: classes, whole numbers (t,).
        held_out: classes, whole numbers (t,); these characters stand right behind the training part.
    """

    name: str
    characters: int
    sha256: str
    alphabet: str
    training: np.ndarray
    held_out: np.ndarray

    @property
    def classes(self) -> int:
        """Size of the alphabet, "other" included."""
        return 1 + len(self.alphabet)

    @cached_property
    def five_gram(self) -> float:
        """Nats per held-out character of the interpolated 5-gram that counted the training part."""
        model = WittenBell(self.training, self.classes, ORDER)
        return model.nats(np.concatenate([self.training[1 - ORDER :], self.held_out]))

    @cached_property
    def one_gram(self) -> float:
        """Nats per held-out character of the frequencies of single characters in the training part."""
        return WittenBell(self.training, self.classes, 1).nats(self.held_out)


def of(file: Path) -> Corpus:
    """Read a text from a file.

    Raises:
        BadInput: missing, no file, too large, not UTF-8, too short or one repeated character.
    """
    try:
        about = file.stat()
        if not stat.S_ISREG(about.st_mode):  # a folder, or a pipe that might never end
            raise BadInput(f"{file}: is not a file; name a text file.")
        if about.st_size > MOST:
            raise BadInput(f"{file}: {about.st_size:,} bytes are too many; cut it to {MOST:,} (tail -c {MOST}).")
        raw = file.read_bytes()
    except OSError as error:
        raise BadInput(f"{file}: cannot be read: {error.strerror}; name a text file.") from None
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{file}: is not UTF-8: byte {error.start:,} is 0x{raw[error.start]:02x}; convert it (iconv -t UTF-8)."
        ) from None
    return cut(file.name, text)


@lru_cache(maxsize=4)
def cut(name: str, text: str) -> Corpus:
    """Cut a text.

    Raises:
        BadInput: too short or one repeated character.
    """
    if not text:
        raise BadInput(f"{name}: is empty; a text needs at least {LEAST:,} characters.")
    if text.count(text[0]) == len(text):
        raise BadInput(
            f"{name}: is {text[0]!r} and nothing else ({len(text):,} times), so there is nothing to learn; "
            f"name a text of at least {LEAST:,} characters."
        )
    if len(text) < LEAST:
        raise BadInput(f"{name}: has {len(text):,} characters; a text needs at least {LEAST:,}.")
    known, unknown = text[-HELD_OUT - TRAINING : -HELD_OUT], text[-HELD_OUT:]
    often = [c for c, count in Counter(known).most_common(CLASSES) if count >= OFTEN]
    alphabet = "".join(sorted(often))
    classes = {c: i for i, c in enumerate(alphabet, start=1)}
    numbers = np.array([classes.get(c, 0) for c in known + unknown], dtype=np.int64)
    return Corpus(
        name, len(text), hashlib.sha256(text.encode()).hexdigest(), alphabet, numbers[: len(known)],
        numbers[len(known) :],
    )  # fmt: skip


@cache
def documentation() -> Corpus:
    """Return the texts that Python's ``help()`` shows; a paragraph that several of them share stands there once."""
    from pydoc_data.topics import topics

    paragraphs = dict.fromkeys(p for name in sorted(topics) for p in topics[name].split("\n\n"))
    return cut("pydoc_data.topics", "\n\n".join(paragraphs))
