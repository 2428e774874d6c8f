"""The trained models that a study saved in a setting, each asked the same thing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from safetensors import SafetensorError

from qkvlab.reference.attention import Array
from qkvlab.report.view import Arm, Setting, Study
from qkvlab.study import weights

Reply = TypeVar("Reply")


@dataclass(frozen=True, eq=False)
class Replied(Generic[Reply]):
    """What one model replied.

    Attributes:
        arm: its design.
        reply: whatever was asked for.
        seed: of the model.
    """

    arm: Arm
    reply: Reply
    seed: str


@dataclass(frozen=True, eq=False)
class Round(Generic[Reply]):
    """All replies in one setting.

    Attributes:
        replies: one per model, floors last.
        left_out: designs whose file cannot be used.
    """

    replies: tuple[Replied[Reply], ...]
    left_out: tuple[str, ...]


def ask_each(
    folder: Path, study: Study, setting: Setting, ask: Callable[[str, Mapping[str, Array]], Reply]
) -> Round[Reply] | None:
    """Ask every saved model of a setting; None where none is saved.

    Args:
        folder: of the study.
        study: its registration says by which code its models were trained.
        setting: where they were trained.
        ask: gets a design and its parameters; may raise KeyError, ValueError or IndexError on ones that do not fit.
    """
    files = {name: weights.path_of(folder, *setting.key, name) for name in setting.arms}
    files = {name: path for name, path in files.items() if path.is_file()}
    replies, left_out = [], []
    for name, path in files.items():
        try:
            state, origin = weights.load(path)
            if origin.get("source") != study.registration["source"]:
                raise ValueError("the model of another study")
            replies.append(Replied(setting.arms[name], ask(name, state), origin.get("seed", "?")))
        except (SafetensorError, OSError, KeyError, ValueError, IndexError):
            left_out.append(name)
    return Round(tuple(replies), tuple(left_out)) if files else None
