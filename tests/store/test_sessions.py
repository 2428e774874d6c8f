"""How long a study took: noted while it runs, kept through kills, and told of older files as far as it is known."""

from __future__ import annotations

import contextlib
import dataclasses
import sqlite3
import time
from pathlib import Path

import pytest
from studies import batch, contents, refused, registration, same

from qkvlab.errors import StoreError
from qkvlab.report.took import took
from qkvlab.study import sessions as module
from qkvlab.study.sessions import Clock, Session, account
from qkvlab.study.store import Store

FIRST = Session(number=1, begun=1.5e9, seconds=12.5, cores=2, workers=2, before=0)


def make_old(folder: Path) -> None:
    """Turn a study file into one of version 1, which noted no calls."""
    with contextlib.closing(sqlite3.connect(folder / "study.db")) as db:
        db.executescript("BEGIN; DROP TABLE session; PRAGMA user_version=1; COMMIT")


def test_calls_come_back_as_they_were_noted(tmp_path: Path) -> None:
    second = dataclasses.replace(FIRST, number=2, cores=None, seconds=1 / 3, before=4)
    with Store.create_or_continue(tmp_path, registration()) as store:
        assert store.sessions() == []
        store.note(second)
        for seconds in (0.0, 7.0, 12.5):
            store.note(dataclasses.replace(FIRST, seconds=seconds))
        store.add(batch(0))
    with Store.read(tmp_path) as store:
        assert store.sessions() == [FIRST, second] and same(store.results(), batch(0))


def test_a_file_of_the_first_version_is_read_as_it_is_and_brought_up_to_date_when_it_goes_on(tmp_path: Path) -> None:
    with Store.create_or_continue(tmp_path, registration()) as store:
        store.add(batch(0))
    make_old(tmp_path)
    before = contents(tmp_path)
    with Store.read(tmp_path) as store:
        assert store.sessions() == [] and same(store.results(), batch(0))
    assert contents(tmp_path) == before
    with Store.read(tmp_path) as reader, Store.create_or_continue(tmp_path, registration()) as store:
        assert reader.sessions() == [] and same(store.results(), batch(0))
        store.note(dataclasses.replace(FIRST, before=4))
        store.add(batch(1))
        assert reader.sessions() == store.sessions()
    with Store.read(tmp_path) as store:
        assert store.sessions() == [dataclasses.replace(FIRST, before=4)]
        assert same(store.results(), [*batch(0), *batch(1)])


@pytest.mark.parametrize("version", [1, 2])
def test_a_file_whose_tables_are_of_another_version_is_refused(tmp_path: Path, version: int) -> None:
    Store.create_or_continue(tmp_path, registration()).close()
    if version == 2:
        make_old(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / "study.db", isolation_level=None)) as db:
        db.execute(f"PRAGMA user_version={version}")
    with refused("its tables are not those of a study"):
        Store.read(tmp_path)


def test_a_time_that_somebody_changed_is_noticed(tmp_path: Path) -> None:
    with Store.create_or_continue(tmp_path, registration()) as store:
        store.note(FIRST)
    with contextlib.closing(sqlite3.connect(tmp_path / "study.db", isolation_level=None)) as db:
        db.execute("UPDATE session SET seconds = 1")
    with refused("session 1 is not what was written"):
        Store.read(tmp_path)


def test_a_clock_notes_while_nobody_else_does_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY", 0.02)
    noted: list[Session] = []
    begun = time.monotonic() - 100
    with Clock(noted.append, dataclasses.replace(FIRST, seconds=0.0, workers=0), begun) as clock:
        until = time.monotonic() + 20
        while len(noted) < 5 and time.monotonic() < until:
            time.sleep(0.01)
        clock.working(3)
        clock.working(2)
    assert len(noted) >= 6 and noted[0].workers == 0 and {each.workers for each in noted[-2:]} == {3}
    seconds = [each.seconds for each in noted]
    assert seconds == sorted(seconds) and seconds[0] >= 100 and seconds[-1] <= time.monotonic() - begun
    count = len(noted)
    time.sleep(0.1)
    assert len(noted) == count, "it is over"


@pytest.mark.parametrize("other", [None, KeyboardInterrupt])
def test_a_last_note_that_fails_hides_no_other_trouble(other: type[BaseException] | None) -> None:
    def full(session: Session) -> None:
        if noted:
            raise StoreError("the disk is full")
        noted.append(session)

    noted: list[Session] = []

    def work() -> None:
        with Clock(full, FIRST, time.monotonic()):
            if other is not None:
                raise other

    with pytest.raises(other or StoreError):
        work()


def test_sums_say_what_they_leave_out() -> None:
    assert account([]) is None and took({}).en == took({"wall": None}).zh == "–"
    calls = [
        dataclasses.replace(FIRST, before=7),
        dataclasses.replace(FIRST, number=2, cores=None, workers=0),
        dataclasses.replace(FIRST, number=3, cores=4, workers=8),
    ]
    wall = account(calls)
    assert wall == {"seconds": 37.5, "calls": 3, "cores": [2, 4], "workers": [2, 8], "before": 7}
    said = took({"wall": wall})
    assert said.en == "38 s in 3 calls, 2–4 cores, 2–8 workers, without the 7 trainings before it was noted"
    assert said.zh == "3 次运行共 38 秒，2–4 个核，2–8 个训练进程，不含之前未计时的 7 次训练"
    one = took({"wall": account([dataclasses.replace(FIRST, cores=1, workers=1)])})
    assert one.en == "12 s in 1 call, 1 core, 1 worker"
