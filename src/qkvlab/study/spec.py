"""What a study asks for, checked: recipes and the command line make one, a TOML file may state one."""

from __future__ import annotations

import math
import reprlib
import stat
import tomllib
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from qkvlab import designs, tasks
from qkvlab.contracts import Products
from qkvlab.errors import BadInput, Refusal, unknown
from qkvlab.tasks import Match, Task

MAX_CELLS = 1_000_000
MAX_BYTES = 10_000
"""Of a study's file; the time that deeply dotted keys take grows with the square of their length."""
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Spec(BaseModel):
    """A study: which designs, on which settings of which tasks, judged how.

    Attributes:
        recipe: the name under which people know it.
        designs: names; the first is the baseline unless `baseline` names another.
        tasks: names, in the order in which they run.
        settings: which settings of the tasks; empty for all.
        baseline: what every other design is compared with.
        also: for a task by name, designs that join there beside `designs`.
        match: of the settings that exist with and without equal budgets, which run.
        text: a file for the tasks that read text; None for their own.
        products: precision of matrix products in training; bf16 holds where a task is known to give the same verdicts
            by them (`Task.halves`), the others stay with fp32. ``auto``: what is faster there, which is found before
            the study is registered (`precision.settled`).
        rates: learning rates to tune over, before any extension of the grid; None for each task's own.
        tune_seeds: seeds that choose rates and are never judged; None for each task's own.
        halving: whether rates that cannot win any more stop early in tuning.
        judge_seeds: how many seeds may be judged, in order.
        delta: smallest difference that matters; None for each task's own.
        alpha: chance of any wrong verdict in the whole study.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipe: str
    designs: tuple[str, ...] = Field(min_length=1)
    tasks: tuple[str, ...] = ("library",)
    settings: tuple[str, ...] = ()
    baseline: str = "QKV"
    also: dict[str, tuple[str, ...]] = {}
    match: tuple[Match, ...] = Field(default=("none",), min_length=1)
    text: Path | None = None
    products: Literal["auto", "fp32", "bf16"] = "auto"
    rates: tuple[Positive, ...] | None = Field(default=None, min_length=1)
    tune_seeds: tuple[Annotated[int, Field(ge=0, lt=2**63)], ...] | None = Field(default=None, min_length=1)
    halving: Annotated[bool, Field(strict=True)] = True
    judge_seeds: int = Field(default=256, ge=1, le=10**9)
    delta: Positive | None = None
    alpha: float = Field(default=0.05, ge=1e-9, lt=1, allow_inf_nan=False)

    @field_validator("recipe")
    @classmethod
    def _folder_name(cls, name: str) -> str:
        # it names the default folder and the record, so it must not lead elsewhere
        if not 0 < len(name) <= 100 or not name.isprintable() or name.startswith(".") or set(name) & set("/\\"):
            short = name if len(name) <= 40 else name[:39] + "…"
            raise BadInput(f"recipe must be a name of 1 to 100 letters that a folder can have; got {short!r}.")
        return name

    @field_validator("designs")
    @classmethod
    def _known_designs(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return _distinct("designs", tuple(designs.parse(name).name for name in names))

    @field_validator("tasks")
    @classmethod
    def _known_tasks(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return _distinct("tasks", tuple(tasks.find(name).name for name in names))

    @field_validator("rates")
    @classmethod
    def _sorted_rates(cls, rates: tuple[float, ...] | None) -> tuple[float, ...] | None:
        return None if rates is None else tuple(sorted(_distinct("rates", rates)))

    @field_validator("tune_seeds")
    @classmethod
    def _distinct_seeds(cls, seeds: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return None if seeds is None else _distinct("tune_seeds", seeds)

    @field_validator("match")
    @classmethod
    def _distinct_matches(cls, kinds: tuple[Match, ...]) -> tuple[Match, ...]:
        return _distinct("match", kinds)

    @field_validator("text", mode="before")
    @classmethod
    def _file_name(cls, name: Any) -> Any:
        # a name that no file can have, or that a report could not print
        told = str(name)
        if "\0" in told or any("\ud800" <= c <= "\udfff" for c in told):
            raise BadInput(f"text must name a file; got {told[:40]!a}. Rename it, or link to it by another name.")
        return name

    @field_validator("also")
    @classmethod
    def _known_additions(cls, also: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        return {tasks.find(task).name: tuple(designs.parse(n).name for n in names) for task, names in also.items()}

    @model_validator(mode="after")
    def _fits_together(self) -> Spec:
        _distinct("settings", self.settings)
        for name in self.settings:
            every = [s for task in self.tasks for s in tasks.find(task).settings()]
            if name not in every:
                raise unknown("setting", name, every)
        if self.baseline not in self.designs:
            raise BadInput(f"the baseline {self.baseline} is not among the designs {', '.join(self.designs)}.")
        if len(self.designs) < 2:
            raise BadInput(
                f"a comparison needs two designs; got only {', '.join(self.designs)}. Add one with --designs."
            )
        if self.text is not None and all(self.task(name) is tasks.find(name) for name in self.tasks):
            raise BadInput(
                f"none of the tasks {', '.join(self.tasks)} reads a file; got text={str(self.text)!r}. "
                "Leave --text out, or name a task that reads one, such as --tasks text."
            )
        if self.products == "bf16" and not any(self.task(name).halves for name in self.tasks):
            raise BadInput(
                f"whether bf16 products leave verdicts as they are is not known of {', '.join(self.tasks)}; "
                "leave --products out."
            )
        if not self.pairs():
            raise BadInput(
                f"no setting of {', '.join(self.tasks)} is left with match={','.join(self.match)}; "
                "ask for match=none, or for settings that exist with equal budgets."
            )
        cells = sum(
            len(self.arms(task)) * (self.judge_seeds + len(self.tuning(task)[0]) * len(self.tuning(task)[1]))
            for task, _ in self.pairs()
        )
        if cells > MAX_CELLS:
            raise BadInput(
                f"this study has {cells:,} cells ({len(self.designs)} designs x {len(self.pairs())} settings x "
                f"seeds and rates); at most {MAX_CELLS:,} are taken. Ask for fewer seeds, designs or settings."
            )
        for task, setting in self.pairs():
            for name in self.arms(task):  # a refusal now, not after minutes of training
                self.task(task).parameters(setting, designs.parse(name))
        return self

    def task(self, name: str) -> Task:
        """Return a task of this study, on its file where it reads one."""
        return tasks.find(name, self.text)

    def arms(self, task: str) -> tuple[str, ...]:
        """Return the designs that run on a task."""
        return tuple(dict.fromkeys([*self.designs, *self.also.get(task, ())]))

    def tuning(self, task: str) -> tuple[tuple[float, ...], tuple[int, ...]]:
        """Return the rates and the seeds by which designs are tuned on a task."""
        own = tasks.find(task)
        rates = own.rates if self.rates is None else self.rates
        return rates, own.tune_seeds if self.tune_seeds is None else self.tune_seeds

    def products_of(self, task: str) -> Products:
        """Return the precision of products with which a task is trained; fp32 as long as that is open."""
        return "bf16" if self.products == "bf16" and self.task(task).halves else "fp32"

    def pairs(self) -> list[tuple[str, str]]:
        """Every (task, setting) of the study, in the order in which they run."""
        return [
            (task, setting)
            for task in self.tasks
            for setting in tasks.find(task).settings()
            if (not self.settings or setting in self.settings) and tasks.find(task).match(setting) in self.match
        ]


def make(**fields: Any) -> Spec:
    """Check the fields of a study.

    Raises:
        BadInput: one line that says which field, what came and what is taken.
    """
    try:
        return Spec(**fields)
    except ValidationError as error:
        raise _one_line(error) from None


def read(path: Path) -> Spec:
    """Read a study from a TOML file whose keys are the fields of `Spec`.

    Raises:
        BadInput: unreadable, not TOML, an unknown key (the nearest is offered) or a value that cannot be meant.
    """
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise BadInput(f"{path}: is not a file.")
        if about.st_size > MAX_BYTES:
            raise BadInput(
                f"{path}: a study of {about.st_size:,} bytes cannot be meant; at most {MAX_BYTES:,} are read."
            )
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
    except BadInput:
        raise
    except (OSError, ValueError, RecursionError) as error:  # not UTF-8 and not TOML are ValueErrors
        raise BadInput(f"{path}: cannot be read as TOML: {str(error).splitlines()[0]}") from None
    try:
        return make(**{"recipe": path.stem, **fields})
    except BadInput as error:
        raise type(error)(f"{path}: {error}") from None


def _one_line(error: ValidationError) -> BadInput:
    found = error.errors()
    # a mistyped key also leaves one missing: the typo is what to mend
    first = next((e for e in found if e["type"] == "extra_forbidden"), found[0])
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, (BadInput, Refusal)):
        return cause
    where = ".".join(str(part) for part in first["loc"])
    where = "judge_seeds (--seeds)" if where == "judge_seeds" else where
    if first["type"] == "extra_forbidden":
        return unknown("key", where, Spec.model_fields)
    return BadInput(f"{where}: {first['msg'].lower()}; got {reprlib.repr(first.get('input'))}.")


def _distinct(what: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise BadInput(f"{what} must differ from each other; {twice[0]!r} stands there twice.")
    if any(isinstance(v, float) and math.isnan(v) for v in values):
        raise BadInput(f"{what} must be numbers; got NaN.")
    return values
