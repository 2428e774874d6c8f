"""How to list several settings without naming each.

A title has three parts: what is asked, which variant of it, and where the vectors come from. A list names a
part only where it tells something apart: with all variants in it, the variant is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from qkvlab import tasks
from qkvlab.contracts import Words
from qkvlab.errors import BadInput
from qkvlab.tasks import Title


@dataclass(frozen=True)
class TaskWords:
    """A task in words.

    Attributes:
        name: the short one.
        tells: what happens in it; empty where nothing is told.
    """

    name: Words
    tells: Words


def task_words(task: str) -> TaskWords:
    """Say a task; one that this version does not know keeps its code.

    >>> task_words("library").name.en
    'the library'
    """
    try:
        words = tasks.find(task).words
    except BadInput:
        words = Words(task, task)
    # a task says its name, a colon, and what happens in it
    (zh, _, zh_tells), (en, _, en_tells) = words.zh.partition("："), words.en.partition(": ")
    return TaskWords(Words(zh, en), Words(zh_tells, en_tells))


def title(task: str, setting: str) -> Title:
    """Name a setting; one that this version does not know keeps its code.

    >>> str(title("library", "synonym/fixed/cos0.3").words)
    '同义词（余弦 0.3）·给定向量 / synonym (cosine 0.3) · given vectors'
    """
    try:
        known = tasks.find(task)
        return known.title(known.setting(setting))
    except BadInput:
        return Title(Words(setting, setting))


def listed(chosen: Sequence[Title], every: Sequence[Title]) -> Words:
    """List titles in as few words as say which ones of all there are.

    >>> a, b = title("library", "synonym/fixed"), title("library", "synonym/learned")
    >>> listed([a, b], [a, b]).en, listed([a], [a, b]).en
    ('“synonym”', '“synonym” with given vectors')
    """
    groups: dict[tuple[Words, ...], list[Words]] = {}
    for vectors in _unique(each.vectors for each in chosen):
        names = _names([t for t in chosen if t.vectors == vectors], [t for t in every if t.vectors == vectors])
        groups.setdefault(tuple(names), []).append(vectors)
    zh, en = [], []
    for names, kinds in groups.items():
        here = "、".join(f"“{name.zh}”" for name in names)
        there = joined([f"“{name.en}”" for name in names])
        if kinds[0].zh and set(kinds) != {t.vectors for t in every}:
            here = f"{'、'.join(kind.zh for kind in kinds)}的{here}"
            there = f"{there} with {joined([kind.en for kind in kinds])}"
        zh.append(here)
        en.append(there)
    return Words("以及".join(zh), " and ".join(en))


def joined(texts: Sequence[str]) -> str:
    """Join with commas and a last "and".

    >>> joined(["a", "b", "c"])
    'a, b and c'
    """
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def _names(chosen: list[Title], every: list[Title]) -> list[Words]:
    """Name the heads whose variants are all chosen, and single variants of the others."""
    names = []
    for head in _unique(each.head for each in chosen):
        mine = [each for each in chosen if each.head == head]
        whole = len(mine) == sum(each.head == head for each in every)
        names += [head] if whole else [each.asked for each in mine]
    return names


def _unique(words: Iterable[Words]) -> list[Words]:
    return list(dict.fromkeys(words))
