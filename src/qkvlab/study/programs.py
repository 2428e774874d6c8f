"""Which designs of a study are trained by compiled steps, and by whose program: what saves more than it costs.

A program is that of a design at the sizes of a setting. It serves all designs whose weights it can hold
(`designs.laying`) and all settings that have these sizes (PyTorch keeps it on disk, so that each takes a second more):
what it costs is paid once, and what it saves is the sum of them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from qkvlab import designs, tasks
from qkvlab.designs import Design
from qkvlab.designs.laying import host
from qkvlab.study.schedule import Arm
from qkvlab.tasks.network import Network
from qkvlab.training.effort import work
from qkvlab.training.layout import Compiled, Layout

PAYS = 2.0
"""A program must save this many times what compiling it costs; the cost was measured, the savings are foreseen."""


@dataclass(frozen=True)
class Program:
    """What is compiled once.

    Attributes:
        task: name.
        design: whose program it is.
        network: the sizes of its models.
    """

    task: str
    design: str
    network: Network


@dataclass(frozen=True)
class Way:
    """One way to train an arm by compiled steps.

    Attributes:
        program: that takes them.
        slower: how many times the work of the arm's own steps it does.
    """

    program: Program
    slower: float


class Programs:
    """What was decided so far; what is decided stays, since its program is there.

    Attributes:
        chosen: the design whose program trains an arm, for those that are trained by compiled steps.

    Args:
        text: a file that tasks read instead of their own data.
    """

    def __init__(self, text: Path | None = None) -> None:
        self._text = text
        self._begun: set[Program] = set()
        self.chosen: dict[Arm, str] = {}

    def of(self, arm: Arm, layout: Layout, left: Mapping[Arm, int], seconds: float) -> str | None:
        """Return the design whose program trains an arm; None for plain steps.

        Args:
            arm: which has a group to train.
            layout: of its task.
            left: cells of every arm that are still to be trained.
            seconds: how long there is for them.
        """
        if layout.compiled is None:
            return None
        if arm not in self.chosen:
            found = self._choose(arm, layout, layout.compiled, left, seconds)
            if found is None:
                return None
            self._begun.add(found)
            self.chosen[arm] = found.design
        return self.chosen[arm]

    def way(self, arm: Arm) -> Way | None:
        """Return how the steps of an arm are taken whose program was chosen; None for plain steps."""
        return next((way for way in self._ways(arm) if way.program.design == self.chosen.get(arm)), None)

    def _choose(
        self, arm: Arm, layout: Layout, compiled: Compiled, left: Mapping[Arm, int], seconds: float
    ) -> Program | None:
        cost = PAYS * compiled.seconds
        plain = {each: self._model_steps(each, n) / layout.rate for each, n in left.items() if each[0][0] == arm[0][0]}
        within = min(1.0, seconds / max(sum(plain.values()), 1e-9))

        def pays(program: Program) -> bool:
            ways = [(each, way) for each in plain for way in self._ways(each) if way.program == program]
            saved = sum(max(0.0, plain[each] * (1 - way.slower / compiled.gain)) for each, way in ways)
            return program in self._begun or saved * within > cost

        own, *others = self._ways(arm)
        # all that a program of its own would do faster, in every setting that it serves
        same = sum(plain[each] for each in plain if self._ways(each)[0].program == own.program)
        for way in others:
            faster = same * (way.slower - 1) / compiled.gain
            if way.slower < compiled.gain and faster * within <= cost and pays(way.program):
                return way.program
        return own.program if compiled.gain > 1 and pays(own.program) else None

    def _ways(self, arm: Arm) -> tuple[Way, ...]:
        (task, setting), name = arm
        return _ways(task, setting, name, self._text)

    def _model_steps(self, arm: Arm, cells: int) -> float:
        (task, setting), _ = arm
        return cells * tasks.find(task, self._text).steps(setting)


@cache
def _ways(task: str, setting: str, name: str, text: Path | None) -> tuple[Way, ...]:
    """Return the ways to train an arm by compiled steps: by its own program, then by one that holds its weights."""
    found, design = tasks.find(task, text), designs.parse(name)
    network = found.network(setting, design)
    ways = [Way(Program(task, name, network), 1.0)]
    other = host(design, network.dims)
    # with equal budgets the models differ in more than their designs
    if other is not None and found.network(setting, other) == network:
        ways.append(Way(Program(task, other.name, network), _slower(network, design, other)))
    return tuple(ways)


def _slower(network: Network, design: Design, other: Design) -> float:
    return work(network, other) / work(network, design)
