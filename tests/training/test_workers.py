"""Real worker processes: they train what was ordered and are gone when their parent is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pytest

from qkvlab import designs
from qkvlab.tasks.library import TASK
from qkvlab.training.recipe import Run
from qkvlab.training.together import train_together
from qkvlab.training.workers import Order, Workers, train

ORDER = Order("library", "same-word/fixed", "uniform", ((0, 0.003), (1, 0.003), (2, 1e30)), keep=(1,))

PARENT = """
import sys, time
from qkvlab.training.workers import Order, Workers

if __name__ == "__main__":
    workers = Workers(2, 1)
    order = Order("library", "same-word/fixed", "uniform", ((0, 0.003),))
    futures = [workers.train(order) for _ in range(2)]
    if "first" in sys.argv:
        for future in futures: future.result()
        futures = [workers.train(order) for _ in range(50)]
    print(*workers._pool._processes, flush=True)
    time.sleep(60)
"""


def runs(pid: int) -> bool:
    """Say whether a process still runs; a dead one that nobody has waited for does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def gone(pids: set[int], seconds: float = 20) -> bool:
    until = time.monotonic() + seconds
    while any(map(runs, pids)):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def test_a_group_comes_back_as_plain_data():
    delivery = train(ORDER)
    direct = train_together(TASK, ORDER.setting, designs.parse("uniform"), [Run(*run) for run in ORDER.runs])
    for mine, theirs in zip(delivery.losses, direct, strict=True):
        assert mine == pytest.approx(theirs.losses, nan_ok=True)
    assert delivery.diverged == [False, False, True]
    assert [m["error"] for m in delivery.metrics[:2]] == [t.metrics["error"] for t in direct[:2]]
    assert 0.8 < delivery.metrics[0]["error"] < 0.95  # chance is .875
    assert list(delivery.weights) == [1]
    assert all(isinstance(w, np.ndarray) for w in delivery.weights[1].values())
    assert all((delivery.weights[1][n] == direct[1].state[n].numpy()).all() for n in direct[1].state)
    assert set(delivery.versions) == {"python", "torch", "numpy"} and delivery.seconds > 0


@pytest.mark.parametrize("when", ["first", "starting"])
def test_workers_leave_with_their_parent(tmp_path, when):
    """kill -9 while workers train, and while they are still importing."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen([sys.executable, str(script), when], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        children = {int(pid) for pid in parent.stdout.readline().split()}
        assert len(children) == 2 and all(map(runs, children))
        parent.send_signal(signal.SIGKILL)
        assert parent.wait(timeout=10) == -signal.SIGKILL
    assert gone(children)


def test_a_killed_worker_breaks_the_pool_and_closing_ends_the_rest():
    workers = Workers(1, 1)
    try:
        future = workers.train(ORDER)
        assert future.result().diverged == [False, False, True]
        (pid,) = workers._pool._processes
        future = workers.train(ORDER)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(BrokenProcessPool):
            future.result(timeout=20)
    finally:
        workers.close()
    assert gone({pid})


def test_closing_does_not_wait_for_what_runs():
    workers = Workers(1, 1)
    futures = [workers.train(ORDER) for _ in range(20)]
    pids = set(workers._pool._processes)
    workers.close()
    assert pids and gone(pids)
    assert not any(future.done() and not future.cancelled() and not future.exception() for future in futures[2:])
