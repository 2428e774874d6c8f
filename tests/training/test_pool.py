"""The pool by itself, over workers that are made up: who gets what, who is replaced, and how it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from qkvlab.training.faults import Lost, OutOfMemory
from qkvlab.training.pool import STARTS, Pool
from qkvlab.training.workers import Order, Speed, ready, train, warm_up


def order(name: str) -> Order:
    return Order("library", "same-word/fixed", name, ((0, 0.003),))


class MadeUp:
    """A worker in this process; the design of an order says what befalls it."""

    def __init__(self, place: int = 0, starts: bool = True) -> None:
        self.place, self.starts = place, starts
        self.killed = threading.Event()
        self.calls: list[str] = []
        self.left = False

    def call(self, function: Callable[..., Any], *arguments: Any, limit: float) -> Any:
        if self.killed.is_set() or not self.starts:
            raise Lost("killed")
        if function is ready:
            return None
        if function is train:
            self.calls.append(arguments[0].design)
            return self.befall(arguments[0].design, limit)
        self.calls.append(function.__name__)
        return self.befall(arguments[0].design, limit) if function is warm_up else Speed(10.0, ready=self.place)

    def befall(self, design: str, limit: float) -> Any:
        if design == "dies":
            raise Lost("died")
        if design == "full":
            raise OutOfMemory("full")
        if design == "wrong":
            raise ValueError("wrong")
        if design == "hangs" and self.killed.wait(limit):
            raise Lost("killed")
        return design, self

    def kill(self) -> None:
        self.killed.set()

    def leave(self) -> None:
        self.left = not self.killed.is_set()


@pytest.fixture
def make():
    """Make pools of made-up workers, which are closed at the end."""
    pool: list[Pool] = []

    def make(processes: int = 1, starts: Callable[[int, int], bool] = lambda place, nth: True):
        made: list[MadeUp] = []

        def start(place: int) -> MadeUp:
            nth = sum(worker.place == place for worker in made)
            made.append(MadeUp(place, starts(place, nth)))
            return made[-1]

        pool.append(Pool(start, processes, 1))
        return pool[-1], made

    yield make
    for each in pool:
        each.close()


def result_of(future, seconds: float = 10) -> Any:
    return future.result(timeout=seconds)


def test_every_order_is_answered_once_and_by_itself(make):
    pool, made = make(3)
    futures = {str(i): pool.train(order(str(i)), 60) for i in range(50)}
    assert [result_of(future)[0] for future in futures.values()] == list(futures)
    assert sorted(name for worker in made for name in worker.calls) == sorted(futures) and len(made) == 3


@pytest.mark.parametrize(("fault", "error"), [("dies", Lost), ("full", OutOfMemory)])
def test_a_fault_costs_its_own_order_and_its_own_worker(make, fault, error):
    pool, made = make(2)
    futures = [pool.train(order(name), 60) for name in ("a", "b", fault, "c", "d", "e", "f")]
    with pytest.raises(error):
        result_of(futures[2])
    assert [result_of(future)[0] for future in futures if future is not futures[2]] == ["a", "b", "c", "d", "e", "f"]
    (lost,) = [worker for worker in made if fault in worker.calls]
    assert lost.killed.is_set() and lost.calls[-1] == fault
    until = time.monotonic() + 10
    while len(made) < 3:
        assert time.monotonic() < until
        time.sleep(0.005)
    assert sorted(worker.place for worker in made if not worker.killed.is_set()) == [0, 1]


def test_an_error_of_the_training_keeps_its_worker(make):
    pool, made = make()
    with pytest.raises(ValueError, match="wrong"):
        result_of(pool.train(order("wrong"), 60))
    assert result_of(pool.train(order("a"), 60)) == ("a", made[0]) and len(made) == 1


def test_a_worker_that_starts_at_the_last_attempt_serves(make):
    pool, made = make(starts=lambda place, nth: nth == STARTS - 1)
    assert result_of(pool.train(order("a"), 60))[0] == "a" and len(made) == STARTS


def test_a_place_where_nothing_starts_is_given_up_and_the_others_go_on(make):
    pool, made = make(2, starts=lambda place, nth: place == 0)
    futures = [pool.train(order(str(i)), 60) for i in range(10)]
    assert [result_of(future)[1].place for future in futures] == [0] * 10
    assert sum(worker.place == 1 for worker in made) <= STARTS


def test_where_nothing_starts_at_all_every_order_says_so(make):
    pool, made = make(2, starts=lambda place, nth: False)
    early = [pool.train(order("a"), 60) for _ in range(3)]
    for future in early:
        with pytest.raises(Lost):
            result_of(future)
    with pytest.raises(Lost):
        result_of(pool.train(order("late"), 60))
    assert len(made) == 2 * STARTS


def test_closing_ends_what_runs_and_drops_what_waits(make):
    pool, made = make(2)
    futures = [pool.train(order("hangs"), 60) for _ in range(2)]
    waiting = [pool.train(order("a"), 60) for _ in range(5)]
    while sum(worker.calls == ["hangs"] for worker in made) < 2:
        time.sleep(0.005)
    begun = time.monotonic()
    pool.close()
    assert time.monotonic() - begun < 5
    for future in futures:
        with pytest.raises(Lost):
            result_of(future)
    assert all(future.cancelled() for future in waiting) and len(made) == 2
    assert not any(worker.left for worker in made)


def test_closing_lets_idle_workers_leave_and_kills_those_that_train(make):
    pool, made = make(2)
    assert result_of(pool.train(order("a"), 60))
    hanging = pool.train(order("hangs"), 60)
    while not any("hangs" in worker.calls for worker in made) or len(pool._idle) < 1:
        time.sleep(0.005)
    pool.close()
    assert isinstance(hanging.exception(timeout=10), Lost)
    assert sorted(worker.left for worker in made) == [False, True] and all(worker.killed.is_set() for worker in made)


def test_a_trial_everywhere_is_measured_by_every_worker_at_once(make):
    pool, made = make(3)
    assert pool.rate(order("a"), 1, everywhere=True, seconds=0.1) == Speed(30.0, ready=2)
    assert [worker.calls for worker in made] == [["warm_up", "measure"]] * 3
    assert pool.rate(order("a"), 3, everywhere=False, seconds=0.1).rate == 10.0
    assert sum(len(worker.calls) for worker in made) == 8


@pytest.mark.parametrize(("fault", "error"), [("dies", Lost), ("full", OutOfMemory), ("wrong", ValueError)])
def test_a_trial_says_its_first_cause_and_not_that_others_waited(make, fault, error):
    pool, _ = make(3)
    with pytest.raises(error):
        pool.rate(order(fault), 1, everywhere=True, seconds=0.1)
    assert pool.rate(order("a"), 1, everywhere=True, seconds=0.1) == Speed(30.0, ready=2)
