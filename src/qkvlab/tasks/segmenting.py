"""Running text to words of the lexicon: 我爱北京, 我 爱 北京 and "I love Beijing" are the same three words."""

from __future__ import annotations

import difflib
import re
import unicodedata
from functools import cache

from qkvlab.errors import BadInput
from qkvlab.tasks.grammar import TOKENS
from qkvlab.tasks.lexicon import load

LONGEST = 200
"""Characters of a text; a sentence has far fewer."""
_SHOWN = 40
_SILENT = re.compile(r"[\s.!?;:。、\"'“”‘’]+|\b(?:the|an?)\b")
"""What says nothing here, in folded text: spaces, most punctuation, articles."""
_RUN = re.compile(r"[a-z0-9'-]+|[^\sa-z0-9'-]+")
"""Letters of one script in a row."""
_NEAR = 0.45


def segment(text: str) -> list[int]:
    """Cut a text into numbers of words; of two spellings that begin at one place the longer wins.

    Raises:
        BadInput: nothing to read, words that are not in the lexicon, no verb, or more words than a model has places.

    >>> segment("我爱北京") == segment("I love Beijing.")
    True
    """
    if len(text) > LONGEST:
        raise BadInput(
            f"a sentence of at most {LONGEST} characters is read; got {len(text):,}. Ask about one sentence."
        )
    folded, found, unknown, seen = _fold(text), [], [], 0
    pattern, numbers = _spellings()
    for match in pattern.finditer(folded):
        found.append(numbers[match.group()])
        unknown.append(folded[seen : match.start()])
        seen = match.end()
    unknown.append(folded[seen:])
    strange = [piece for gap in unknown for piece in _RUN.findall(_SILENT.sub(" ", gap))]
    if strange:
        raise _unknown_words(strange)
    words = load().words
    if not found:
        raise BadInput("there is no word in this text; try 我爱北京, or leave the text out to see all words.")
    if not any(words[number].kind == "verb" for number in found):
        verbs = ", ".join(words[number].zh for number in load().verbs[:6])
        raise BadInput(f"this sentence has no verb to ask; add one, such as {verbs}.")
    if len(found) > TOKENS:
        raise BadInput(f"a sentence holds at most {TOKENS} words; got {len(found)}. Leave some out.")
    return found


def _unknown_words(strange: list[str]) -> BadInput:
    numbers = _spellings()[1]
    shown = ", ".join(repr(piece if len(piece) <= _SHOWN else piece[: _SHOWN - 1] + "…") for piece in strange[:3])
    more = f" and {len(strange) - 3} more" if len(strange) > 3 else ""
    near: list[str] = []
    for piece in strange[:3]:
        near += difflib.get_close_matches(piece[:_SHOWN], numbers, n=2, cutoff=_NEAR)
    hint = f"did you mean {', '.join(dict.fromkeys(near))}? " if near else ""
    return BadInput(f"unknown to the models: {shown}{more}; {hint}`qkvlab look` alone lists the words they know.")


@cache
def _spellings() -> tuple[re.Pattern[str], dict[str, int]]:
    """Every spelling by its number, and what finds them, longest first; English only as whole words."""
    numbers: dict[str, int] = {}
    for number, word in enumerate(load().words):
        english = (word.en, *word.also) if word.en[:1].isalpha() else ()
        for text in (word.zh, *english):
            if text:
                numbers.setdefault(_fold(text), number)
    longest = sorted(numbers, key=len, reverse=True)
    pattern = "|".join(
        rf"\b{re.escape(text)}(?![a-z])" if text[0].isascii() and text[0].isalpha() else re.escape(text)
        for text in longest
    )
    return re.compile(pattern), numbers


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
