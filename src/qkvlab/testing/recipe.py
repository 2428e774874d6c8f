"""Is the recipe itself well behaved: its name, its words, its equality, its refusals?"""

from __future__ import annotations

import contextlib
import dataclasses
import pickle

from qkvlab.designs import Design, parse
from qkvlab.errors import BadInput, Refusal
from qkvlab.testing.sizes import candidates, require


def frozen_and_hashable(design: Design) -> None:
    """A recipe is a frozen dataclass: it can be a key, be sent to a worker, and never changes."""
    require(dataclasses.is_dataclass(design), "a design must be a dataclass: @dataclass(frozen=True)")
    try:
        design.changed = True  # pyright: ignore[reportAttributeAccessIssue]
    except dataclasses.FrozenInstanceError:
        pass
    else:
        raise AssertionError("a design must be frozen: @dataclass(frozen=True)")
    try:
        twin = pickle.loads(pickle.dumps(design))
    except (pickle.PicklingError, AttributeError, TypeError) as problem:
        raise AssertionError(f"a design must survive pickle, on its way to a worker: {problem}") from problem
    equal = twin == design and hash(twin) == hash(design)
    require(equal, "a design must equal its pickled copy and have the same hash")


def name_parses_back(design: Design) -> None:
    """The printed name means this design: where qkvlab knows the name, it reads back an equal one."""
    require(str(design) == design.name, f"str(design) must be its name; got {str(design)!r}, {design.name!r}")
    ours = type(design).__module__.startswith("qkvlab.designs.")
    for name in (design.name, design.name.lower(), design.name.upper(), f" {design.name} "):
        try:
            found = parse(name)
        except BadInput as problem:
            require(not ours, f"the grammar must read {name!r}; it said: {problem}")
        else:
            require(found == design, f"{name!r} is the name of another design, {found!r}; choose a free one")


def words_in_both_languages(design: Design) -> None:
    """People read words before codes, in Chinese and in English."""
    zh, en = design.words.zh, design.words.en
    require(bool(zh.strip()) and bool(en.strip()), f"words must not be empty; got zh={zh!r}, en={en!r}")
    require(zh != en, f"words must be Chinese and English; both are {zh!r}")
    chinese = any("\u4e00" <= letter <= "\u9fff" for letter in zh)
    require(chinese, f"the Chinese words hold no Chinese character: {zh!r}")
    require("\n" not in zh + en, "words are one line each")


def refusals_name_the_numbers(design: Design) -> None:
    """Sizes are carried or refused by `Refusal`, in one line with the numbers; cost and build agree on it."""
    for dims in candidates():
        try:
            design.matrices(dims)
        except Refusal as refusal:
            text = str(refusal)
            numbers = any(str(n) in text for n in (dims.d_model, dims.heads, dims.d_head, dims.d_value))
            require(numbers and "\n" not in text, f"a refusal names numbers in one line; got {text!r}")
            for act in (design.cost, design.build):
                with contextlib.suppress(Refusal):
                    act(dims)
                    require(False, f"matrices refuses {dims}, but {act.__name__} accepts them")
