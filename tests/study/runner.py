"""A study in a process of its own, to be killed: real planner, runner and store; only the training is made up.

runner.py FOLDER    run the study of `killed`, saying "stored N" for every batch that the store has acknowledged
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from made_up import FakeWorkers, World, layout, spec

from qkvlab.study import run as runs
from qkvlab.study.spec import Spec
from qkvlab.study.store import Store

WORLD = World(means={"XXV": 0.5, "QQV": 0.12}, noise=0.06, diverges={"XXV": 0.05})


def killed() -> Spec:
    """Return a study of some hundred cells, with settings whose models are kept."""
    return spec(settings=("same-word/fixed", "synonym/fixed", "directed/fixed"), judge_seeds=90)


def main(folder: str) -> None:
    add = Store.add

    def say(self: Store, results: Any) -> None:
        batch = list(results)
        add(self, batch)
        print("stored", len(batch), flush=True)

    Store.add = say
    runs.layouts.find = lambda *given, **much: (layout(4), FakeWorkers(WORLD, seconds=0.004))
    runs.run(killed(), Path(folder), minutes=5)
    print("finished", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
