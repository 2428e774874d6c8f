"""What there is to show while a study runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qkvlab.study.decisions import Findings
from qkvlab.study.schedule import Arm, Group
from qkvlab.training.layout import Layout


@dataclass(frozen=True)
class Progress:
    """How far a study is.

    Attributes:
        findings: everything known so far.
        running: groups under way.
        note: what is being done when no group runs.
        layout: processes, threads and group size; None before the trial.
        finished: cells that this call has finished.
        left: cells that are estimated to be open.
        elapsed: seconds since the call began.
        limit: seconds that it may take.
        remark: why steps are not compiled although it would pay; empty otherwise.
        programs: the design whose program trains an arm, for those that are trained by compiled steps.
        lost: workers that were lost and replaced.
    """

    findings: Findings
    running: tuple[Group, ...]
    note: str
    layout: Layout | None
    finished: int
    left: int
    elapsed: float
    limit: float
    remark: str = ""
    programs: Mapping[Arm, str] = field(default_factory=dict)
    lost: int = 0

    @property
    def seconds_left(self) -> float | None:
        """Predicted seconds until everything is decided; None while nothing has been timed."""
        if self.layout is None or not self.finished:
            return None
        return self.left * self.elapsed / self.finished
