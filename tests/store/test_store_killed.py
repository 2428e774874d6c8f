"""kill -9 at any moment, inside a commit too, loses at most the batch in flight."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from studies import BATCH, batch, contents, refused, registration, result, same, torn

from qkvlab.study.store import Store

WRITER = Path(__file__).with_name("writer.py")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and resource limits of POSIX")


def start(mode: str, folder: Path, *numbers: int) -> subprocess.Popen[str]:
    command = [sys.executable, str(WRITER), mode, str(folder), *map(str, numbers)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def line(writer: subprocess.Popen[str]) -> str:
    assert writer.stdout is not None
    return writer.stdout.readline().strip()


def kill(writer: subprocess.Popen[str]) -> list[str]:
    """Kill a writer and return the lines it said that were not read yet."""
    writer.send_signal(signal.SIGKILL)
    assert writer.stdout is not None
    with writer.stdout as pipe:  # not communicate(), which forgets what readline() took in beyond its line
        said = pipe.read()
    assert writer.wait(timeout=20) == -signal.SIGKILL
    return said.splitlines()


def hot(folder: Path) -> bool:
    """Whether a transaction was cut short and is still to be rolled back."""
    journal = folder / "study.db-journal"
    return journal.exists() and journal.stat().st_size > 0


def check(folder: Path, acknowledged: int, in_flight: int = 1) -> int:
    """Check the file after a kill and return how many batches it has."""
    with Store.read(folder) as store:
        found = store.results()
        assert store.aside() == []
    assert not torn(found)
    batches = len(found) // BATCH
    assert acknowledged <= batches <= acknowledged + in_flight
    assert same(found, [one for number in range(batches) for one in batch(number)])
    return batches


def test_twenty_kills_while_batches_are_committed(tmp_path: Path) -> None:
    rng, done, caught = random.Random(20), 0, 0
    for _ in range(20):
        writer = start("batches", tmp_path, done)
        assert line(writer) == "ready"
        time.sleep(rng.uniform(0, 0.12))
        said = [int(word) for word in kill(writer)]
        caught += hot(tmp_path)
        assert said == list(range(done, done + len(said)))
        done = check(tmp_path, done + len(said))
    assert caught > 0, "no kill fell into a commit"
    with Store.create_or_continue(tmp_path, registration()) as store:
        store.add(batch(done))
    assert check(tmp_path, done + 1, 0) == done + 1


@pytest.mark.parametrize("pages", range(8))
def test_killed_by_the_kernel_inside_a_write(tmp_path: Path, pages: int) -> None:
    """The write that makes the file one page too long is cut at the limit and its process killed."""
    with Store.create_or_continue(tmp_path, registration()) as store:
        store.add(batch(0))
    writer = start("sized", tmp_path, 1, (tmp_path / "study.db").stat().st_size + 4096 * pages + 1000)
    said, _ = writer.communicate(timeout=20)
    assert writer.returncode == -signal.SIGXFSZ
    assert hot(tmp_path)
    done = check(tmp_path, len(said.splitlines()), 0)
    with Store.create_or_continue(tmp_path, registration()) as store:
        store.add(batch(done))
    check(tmp_path, done + 1, 0)


def kill_inside_transaction(mode: str, folder: Path) -> None:
    with Store.create_or_continue(folder, registration()) as store:
        store.add([one for number in range(100) for one in batch(number)])
    small = (folder / "study.db").stat().st_size
    writer = start(mode, folder)
    assert line(writer) == "ready"
    assert kill(writer) == []
    assert (folder / "study.db").stat().st_size > small, "nothing of the transaction had reached the file"


def test_a_transaction_half_in_the_file_is_rolled_back(tmp_path: Path) -> None:
    kill_inside_transaction("stuck", tmp_path)
    assert hot(tmp_path)
    assert check(tmp_path, 100, 0) == 100


def test_the_writer_itself_rolls_back(tmp_path: Path) -> None:
    kill_inside_transaction("stuck", tmp_path)
    with Store.create_or_continue(tmp_path, registration()) as store:
        store.add(batch(100))
    check(tmp_path, 101, 0)


def test_planted_a_commit_after_every_row_is_caught(tmp_path: Path) -> None:
    kill_inside_transaction("onebyone", tmp_path)
    with pytest.raises(AssertionError):
        check(tmp_path, 100, 0)


def test_planted_a_lost_journal_is_caught(tmp_path: Path) -> None:
    """Without the journal the half transaction stays, which must not pass for a study."""
    kill_inside_transaction("stuck", tmp_path)
    (tmp_path / "study.db-journal").unlink()
    with refused("study.db is"), Store.read(tmp_path):
        pass


def test_killed_while_the_study_is_made(tmp_path: Path) -> None:
    """Whatever a dead process left of a study that was never finished is made anew."""
    (tmp_path / "study.db.new").write_bytes(b"SQLite format 3\0half")
    (tmp_path / "study.db.new-journal").write_bytes(b"half")
    with refused("there is no study in"):
        Store.read(tmp_path)
    with Store.create_or_continue(tmp_path, registration()) as store:
        assert store.results() == []
    assert list(contents(tmp_path)) == ["study.db"]


def test_a_disk_that_refuses(tmp_path: Path) -> None:
    with Store.create_or_continue(tmp_path, registration()) as store:
        store.add(batch(0))
    writer = start("full", tmp_path, 1, (tmp_path / "study.db").stat().st_size + 20_000)
    said = writer.communicate(timeout=20)[0].splitlines()
    assert writer.returncode == 3
    assert "the disk refused" in said[-1] and "what was stored before is safe" in said[-1]
    check(tmp_path, len(said) - 1, 0)  # without "ready" and the refusal, with the batch before


def test_no_room_for_a_study_at_all(tmp_path: Path) -> None:
    writer = start("full", tmp_path, 0, 2000)
    said = writer.communicate(timeout=20)[0]
    assert writer.returncode == 3 and "the disk refused" in said
    assert not (tmp_path / "study.db").exists()
    with Store.create_or_continue(tmp_path, registration()) as store:
        store.add(batch(0))


def test_a_full_disk_and_then_room_again(tmp_path: Path) -> None:
    with Store.create_or_continue(tmp_path, registration()) as store:
        store.add(batch(0))
        (pages,) = store._db.execute("PRAGMA page_count").fetchone()
        store._db.execute(f"PRAGMA max_page_count={pages + 1}")
        with refused("the disk is full", "free some space"):
            store.add([result(seed) for seed in range(4, 404)])
        assert same(store.results(), batch(0))
        store._db.execute("PRAGMA max_page_count=1000000")
        store.add(batch(1))
    check(tmp_path, 2, 0)


def test_results_can_be_read_while_the_writer_runs(tmp_path: Path) -> None:
    writer, seen = start("calmly", tmp_path, 0), [0]
    assert line(writer) == "ready"
    until = time.monotonic() + 10
    while len(set(seen)) < 20 and time.monotonic() < until:
        with Store.read(tmp_path) as store:
            found = store.results()
        assert not torn(found)
        seen.append(len(found))
    said = kill(writer)
    assert seen == sorted(seen) and len(set(seen)) == 20
    check(tmp_path, len(said))


def test_a_reader_left_open_neither_stops_the_writer_nor_goes_stale(tmp_path: Path) -> None:
    with Store.create_or_continue(tmp_path, registration()) as store, Store.read(tmp_path) as reader:
        for number in range(3):
            store.add(batch(number))
            assert len(reader.results()) == BATCH * (number + 1)


def test_a_second_process_is_refused_with_the_number_of_the_first(tmp_path: Path) -> None:
    with Store.create_or_continue(tmp_path, registration()):
        second = start("open", tmp_path)
        said = second.communicate(timeout=20)[0]
        assert second.returncode == 3
        assert f"study in {tmp_path} is being run by process {os.getpid()}; wait for it or stop it." in said
        assert float(said.split()[2]) < 1
    third = start("open", tmp_path)
    assert third.communicate(timeout=20)[0] == "opened\n"


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    writer = start("batches", tmp_path, 0)
    assert line(writer) == "ready"
    with refused(f"process {writer.pid};"):
        Store.create_or_continue(tmp_path, registration())
    kill(writer)
    assert (tmp_path / "study.lock").read_text() == f"{writer.pid}\n"
    with Store.create_or_continue(tmp_path, registration()):
        assert (tmp_path / "study.lock").read_text() == f"{os.getpid()}\n"
    assert (tmp_path / "study.lock").read_text() == ""


def test_a_worker_that_outlives_its_killed_parent_does_not_hold_the_study(tmp_path: Path) -> None:
    writer = start("fork", tmp_path)
    worker = int(line(writer))
    try:
        writer.send_signal(signal.SIGKILL)
        writer.wait(timeout=20)
        os.kill(worker, 0)  # it lives
        Store.create_or_continue(tmp_path, registration()).close()
    finally:
        os.kill(worker, signal.SIGKILL)
        assert writer.stdout is not None
        writer.stdout.close()


def test_every_commit_is_durable_against_a_power_cut(tmp_path: Path) -> None:
    """What no kill can show: the settings that make SQLite wait for the disk."""
    with Store.create_or_continue(tmp_path, registration()) as store:
        assert store._db.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert store._db.execute("PRAGMA synchronous").fetchone() == (3,)  # EXTRA
        assert store._db.execute("PRAGMA foreign_keys").fetchone() == (1,)
    with sqlite3.connect(tmp_path / "study.db") as db:
        strict = dict(db.execute("SELECT name, strict FROM pragma_table_list WHERE schema = 'main'").fetchall())
    db.close()
    assert all(strict[name] for name in ("study", "result", "metric"))
