"""What trainings took: judged ones all the same steps, whatever the design; tuning until hopeless rates stopped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from qkvlab.contracts import Words
from qkvlab.report.numbers import percent, whole
from qkvlab.report.view import Setting, Study


@dataclass(frozen=True)
class Budget:
    """Trainings of one setting, or of several.

    Attributes:
        judged: trainings that are judged.
        steps: that each of those took; more than one number means that something is wrong.
        tuned: trainings that choose rates.
        stopped: those of them that stopped early.
        taken: steps of those that choose rates.
        full: the same without a rule that stops them.
    """

    judged: int = 0
    steps: tuple[int, ...] = ()
    tuned: int = 0
    stopped: int = 0
    taken: int = 0
    full: int = 0

    def __add__(self, other: Budget) -> Budget:
        steps = tuple(sorted({*self.steps, *other.steps}))
        rest = (getattr(self, n) + getattr(other, n) for n in ("tuned", "stopped", "taken", "full"))
        return Budget(self.judged + other.judged, steps, *rest)

    @property
    def saved(self) -> float:
        """Share of the tuning steps that were not taken."""
        return 1 - self.taken / self.full if self.full else 0.0


def budgets(registration: Mapping[str, Any], trained: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], Budget]:
    """Return the budget of every setting; nothing for studies of before rates could stop.

    Args:
        registration: of the study.
        trained: rows of its origin, see `verdicts.json`.
    """
    steps = {(each["task"], each["setting"]): each.get("steps", 0) for each in registration["tasks"]}
    found: dict[tuple[str, str], Budget] = {}
    for row in trained:
        if "steps_of_tuning" not in row:
            continue
        key = row["task"], row["setting"]
        judged = tuple(row["steps_of_judged"])
        taken = row["tuned"], row["stopped"], row["steps_of_tuning"], row["tuned"] * steps[key]
        found[key] = found.get(key, Budget()) + Budget(row["judged"], judged, *taken)
    return found


def of_settings(study: Study) -> list[tuple[Setting, Budget]]:
    """Return the settings that were trained, with what it took."""
    every = budgets(study.registration, study.origin["trained"])
    return [(each, every[each.key]) for each in study.settings if each.key in every and every[each.key].tuned]


def rule(study: Study) -> Words | None:
    """Say how the budget of trainings is made equal; None for studies of before rates could stop."""
    halving = study.registration["tuning"].get("halving")
    if halving is None:
        return None
    after = [percent(rung["after"]) for rung in halving["rungs"]]
    total = sum((budget for _, budget in of_settings(study)), Budget())
    so_far = brief(total) if total.tuned else Words("还没有调参的训练", "nothing has been tuned yet")
    return Words(
        "同一设置里，评判的每次训练都跑满登记的步数，批次相同，与设计无关；步数不同的结果不予采用。各设计调参用同样的学习率和种子。"
        f"没有希望的学习率按第一次训练之前登记的规则，走完 {' 或 '.join(after)} 的步数时停下，停下的不会被选中："
        f"{so_far.zh}。",
        "In a setting every judged training takes all registered steps on the same batches, whatever the design; a "
        "result of another length is not accepted. Every design is tuned on the same rates and seeds. Hopeless rates "
        f"stop after {' or '.join(after)} of the steps by a rule that was registered before the first run, and what "
        f"stopped is never chosen: {so_far.en}.",
    )


def brief(budget: Budget) -> Words:
    """Say in a few words what stopped and what it saved."""
    stopped, tuned, saved = whole(budget.stopped), whole(budget.tuned), percent(budget.saved)
    return Words(
        f"{tuned} 次调参训练停了 {stopped} 次，省下 {saved} 的调参步数",
        f"{stopped} of {tuned} tuning trainings stopped, which saved {saved} of the tuning steps",
    )
