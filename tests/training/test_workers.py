"""Real worker processes: they train what was ordered, die alone, and are gone when their parent is gone."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from qkvlab import designs
from qkvlab.errors import BadInput
from qkvlab.tasks.library import TASK
from qkvlab.training.faults import Lost, OutOfMemory
from qkvlab.training.place import Here
from qkvlab.training.pool import START, Pool
from qkvlab.training.processes import ProcessWorker
from qkvlab.training.recipe import Run
from qkvlab.training.together import train_together
from qkvlab.training.workers import Order, measure, ready, train, warm_up

ORDER = Order("library", "same-word/fixed", "uniform", ((0, 0.003), (1, 0.003), (2, 1e30)), keep=(1,))

PARENT = """
import multiprocessing, sys, time
from qkvlab.training.place import Here
from qkvlab.training.workers import Order

if __name__ == "__main__":
    workers = Here().pool(2, 1)
    order = Order("library", "same-word/fixed", "uniform", ((0, 0.003),))
    futures = [workers.train(order, 60) for _ in range(2)]
    if "first" in sys.argv:
        for future in futures: future.result()
        futures = [workers.train(order, 60) for _ in range(50)]
    while len(multiprocessing.active_children()) < 2: time.sleep(0.01)
    print(*[child.pid for child in multiprocessing.active_children()], flush=True)
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


@pytest.fixture
def pool():
    made = Here().pool(1, 1)
    yield made
    made.close()


def the_worker() -> int:
    (child,) = multiprocessing.active_children()
    assert child.pid is not None
    return child.pid


def test_a_worker_that_dies_or_hangs_or_raises_is_alone_in_it(pool):
    """One pool through all of it: what comes after a fault is trained by a worker like the first."""
    assert pool.train(ORDER, 60).result().diverged == [False, False, True]
    first = the_worker()
    with pytest.raises(BadInput, match="unknown design 'QQW'"):
        pool.train(Order("library", "same-word/fixed", "QQW", ((0, 0.003),)), 60).result()
    assert the_worker() == first

    future = pool.train(ORDER, 60)
    os.kill(first, signal.SIGKILL)
    with pytest.raises(Lost, match=r"died \(signal 9, perhaps for want of memory\)"):
        future.result()

    good = pool.train(ORDER, 60).result()
    second = the_worker()
    assert second != first and good.diverged == [False, False, True]
    os.kill(second, signal.SIGSTOP)
    with pytest.raises(Lost, match="did not answer within 1 seconds"):
        pool.train(ORDER, 1).result()
    assert gone({first, second})


class Narrow(ProcessWorker):
    """A process that may take only little memory beyond what PyTorch has taken when it is ready."""

    ROOM = 120 << 20

    def call(self, function, *arguments, limit):
        found = super().call(function, *arguments, limit=limit)
        if function is ready:
            pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[0])
            most = pages * resource.getpagesize() + self.ROOM
            super().call(resource.setrlimit, resource.RLIMIT_AS, (most, most), limit=limit)
        return found


def test_a_group_that_memory_does_not_hold():
    """A real limit on the address space: two models fit into it, two hundred do not, and the worker is replaced."""
    workers = Pool(lambda place: Narrow(1, "cpu"), 1, 1)
    try:
        order = Order("library", "same-word/fixed", "uniform", ((0, 0.003), (1, 0.003)))
        assert workers.train(order, 60).result().diverged == [False, False]
        first = the_worker()
        large = Order("library", "same-word/fixed", "uniform", tuple((i, 0.003) for i in range(200)))
        with pytest.raises(OutOfMemory):
            workers.train(large, 60).result()
        assert gone({first})
    finally:
        workers.close()


def test_a_trial_measures_on_the_threads_it_was_asked_for():
    import torch

    before = torch.get_num_threads()
    warm_up(ORDER, before + 1)
    assert torch.get_num_threads() == before + 1
    assert measure(0.05).rate > 0 and torch.get_num_threads() == before


def test_closing_does_not_wait_for_what_runs(pool):
    futures = [pool.train(ORDER, 60) for _ in range(20)]
    while not multiprocessing.active_children():
        time.sleep(0.01)
    worker = the_worker()
    begun = time.monotonic()
    pool.close()
    assert time.monotonic() - begun < START / 10 and gone({worker})
    assert all(future.cancelled() or isinstance(future.exception(), Lost) for future in futures)
