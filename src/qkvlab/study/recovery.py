"""What a study does about a group that failed: run its cells again, in halves, or stop and say why."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from qkvlab import tasks
from qkvlab.errors import WorkerError
from qkvlab.study.cells import Cell
from qkvlab.study.schedule import Group
from qkvlab.training.faults import Lost, OutOfMemory
from qkvlab.training.layout import Layout

LOSSES = 5
"""How often a cell that is trained alone may have lost its worker before the study stops."""
PATIENCE = 60.0
"""Seconds that any group may take."""
FACTOR = 10
"""How many times as long as the slowest group of its task a group may take besides; then its worker hangs."""


class Recovery:
    """The memory of what went wrong, and of how long things take when nothing does.

    Attributes:
        workers: that were lost.
    """

    def __init__(self) -> None:
        self.workers = 0
        self._lost: Counter[Cell] = Counter()
        self._slowest: dict[str, float] = {}

    def finished(self, group: Group, seconds: float) -> None:
        """Take note of how long a group took."""
        task = group.key[0]
        self._slowest[task] = max(self._slowest.get(task, 0.0), seconds)

    def expected(self, group: Group, layout: Layout) -> float:
        """Return the seconds that a group may take, compiling apart: of the slowest of its task, or by the trial."""
        task, setting = group.key
        steps = tasks.find(task).steps(setting) * len(group.cells)
        return self._slowest.get(task, steps * layout.processes / layout.rate)

    def deadline(self, group: Group, layout: Layout) -> float:
        """Return the seconds after which a group's worker hangs."""
        compiling = layout.compiled.seconds if layout.compiled else 0.0
        return PATIENCE + FACTOR * (self.expected(group, layout) + compiling)

    def after(self, group: Group, error: BaseException, layout: Layout) -> Layout:
        """Return the layout with which the cells of a failed group run again.

        Programs are halved when memory was not enough, and when they lost their worker twice: the system ends processes
        that want too much memory without a word, and halves take less time too. So no cell runs more than a few times.

        Raises:
            WorkerError: one model at a time is too much, or has lost its worker too often.
            BaseException: ``error`` itself, where it is a fault of neither worker nor memory.
        """
        name, setting = group.design, group.key[1]
        alone = group.at_once == 1
        if isinstance(error, Lost):
            self.workers += 1
            self._lost.update(group.cells)
            times = max(self._lost[cell] for cell in group.cells)
            if alone and times >= LOSSES:
                raise WorkerError(
                    f"{name} on {setting} lost its worker {times} times: {error}; what was finished is stored. Run the "
                    "same command again to continue; if this comes back, take fewer --workers."
                ) from error
            if alone or times == 1:
                return layout
        elif not isinstance(error, OutOfMemory):
            raise error
        elif alone:
            raise WorkerError(
                f"{name} on {setting} does not fit into memory with models trained one at a time ({error}); what was "
                "finished is stored. Free some memory or take fewer --workers, and run the same command again."
            ) from error
        return replace(layout, group=min(layout.group, group.at_once // 2))
