"""A file or folder that cannot be the study: each case has its own sentence, and nothing is changed by it."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import socket
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from studies import batch, contents, refused, registration, result, same

from qkvlab import __version__
from qkvlab.errors import BadInput, StoreError
from qkvlab.study import lock as lock_module
from qkvlab.study import sqlite_file
from qkvlab.study.store import Store

posix = pytest.mark.skipif(sys.platform == "win32", reason="permissions and special files of POSIX")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study with accepted and flagged results, to be copied and spoilt."""
    folder = tmp_path_factory.mktemp("sound")
    with Store.create_or_continue(folder, registration()) as store:
        store.add([one for number in range(8) for one in batch(number)])
        store.add([result(0, off=1.0), result(-1), result(3, source="old")])
    return folder


@pytest.fixture
def study(sound: Path, tmp_path: Path) -> Path:
    shutil.copy(sound / "study.db", tmp_path)
    return tmp_path


def patch(folder: Path, at: int, new: bytes) -> None:
    with (folder / "study.db").open("r+b") as file:
        file.seek(at)
        file.write(new)


def run_sql(folder: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(folder / "study.db", isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)


def overwrite(folder: Path, content: bytes) -> None:
    (folder / "study.db").write_bytes(content)


def truncate(folder: Path, size: int) -> None:
    os.truncate(folder / "study.db", size)


def write_ahead(folder: Path) -> None:
    """Leave the file in WAL mode as a crash does, its newest pages in the log."""
    db = sqlite3.connect(folder / "study.db", isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("UPDATE result SET steps = steps + 1")
    for name in ("study.db", "study.db-wal"):
        shutil.copy(folder / name, folder / f"{name}.copy")
    db.close()
    for name in ("study.db", "study.db-wal"):
        (folder / f"{name}.copy").replace(folder / name)


def lose_the_log(folder: Path) -> None:
    write_ahead(folder)
    (folder / "study.db-wal").unlink()


def flip_in_an_index(folder: Path) -> None:
    """Spoil what only lookups use: the record itself stays sound."""
    with contextlib.closing(sqlite3.connect(folder / "study.db")) as db:
        (digest,) = db.execute("SELECT cell FROM result WHERE id = 9").fetchone()
    places = (folder / "study.db").read_bytes().split(digest)
    assert len(places) == 4  # the record and two indexes
    patch(folder, sum(map(len, places[:3])) + 2 * len(digest), bytes(16))


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda f: overwrite(f, b""), "is empty and no study"),
    "text": (lambda f: overwrite(f, b"accuracy,0.5\n" * 99), "is not a SQLite file"),
    "zeros": (lambda f: overwrite(f, bytes(8192)), "is not a SQLite file"),
    "other program": (lambda f: run_sql(f, "PRAGMA application_id=7"), "belongs to another program"),
    "newer": (lambda f: run_sql(f, "PRAGMA user_version=3"), "was written by a newer qkvlab (format 3"),
    "no version": (lambda f: run_sql(f, "PRAGMA user_version=0"), "format 0 never existed"),
    "header cut": (lambda f: truncate(f, 60), "is truncated: it has 60 bytes"),
    "page cut": (lambda f: truncate(f, 8192), "is truncated: it has 8192 bytes of"),
    "last byte cut": (lambda f: truncate(f, (f / "study.db").stat().st_size - 1), "is truncated"),
    "another table": (lambda f: run_sql(f, "CREATE TABLE x (y)"), "its tables are not those of a study"),
    "a trigger": (
        lambda f: run_sql(f, "CREATE TRIGGER t AFTER INSERT ON result BEGIN DELETE FROM metric; END"),
        "its tables are not those of a study",
    ),
    "page of noise": (lambda f: patch(f, 8192, random.Random(0).randbytes(4096)), "is damaged"),
    "an index": (flip_in_an_index, "missing from index"),
    "a number": (
        lambda f: run_sql(f, "UPDATE result SET steps = 1 WHERE id = 7"),
        "record 7 is not what was",
    ),
    "a metric": (
        lambda f: run_sql(f, "UPDATE metric SET value = 0.9 WHERE result = 6"),
        "record 6 is not what",
    ),
    "a metric gone": (
        lambda f: run_sql(f, "DELETE FROM metric WHERE result = 6"),
        "record 6 is not what was",
    ),
    "a record gone": (
        lambda f: run_sql(f, "DELETE FROM result WHERE id = 5"),
        "numbers that belong to no record",
    ),
    "a reason": (
        lambda f: run_sql(f, "UPDATE result SET reason = 'older code' WHERE id = 34"),
        "record 34 is not what",
    ),
    "registration": (
        lambda f: run_sql(f, "UPDATE study SET registration = replace(registration, 'QQV', 'QKK')"),
        "its registration is not what was written",
    ),
    "registration gone": (lambda f: run_sql(f, "DELETE FROM study"), "its registration is not what was"),
    "wal": (write_ahead, "was put in WAL mode by another program"),
    "wal lost": (lose_the_log, "is in WAL mode but its study.db-wal is missing"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_file_that_is_no_sound_study(case: str, study: Path) -> None:
    spoil, phrase = SPOILT[case]
    spoil(study)
    before = contents(study)
    begun = time.process_time()
    with refused("study.db", phrase):
        Store.read(study)
    with refused("study.db", phrase):
        Store.create_or_continue(study, registration())
    assert time.process_time() - begun < 10
    assert contents(study) == before
    lock_module.WriterLock(study, "x").release()  # the refusal has let the lock go


def test_the_sentences_are_distinct(sound: Path, tmp_path: Path) -> None:
    cases = ["empty", "text", "other program", "newer", "page cut", "page of noise", "wal", "wal lost"]
    told = set()
    for case in cases:
        folder = tmp_path / case
        shutil.copytree(sound, folder)
        SPOILT[case][0](folder)
        with pytest.raises(StoreError) as caught:
            Store.read(folder)
        told.add(str(caught.value).split("study.db", 1)[1][:30])
    assert len(told) == len(cases)


def test_flipped_bytes_are_noticed_or_harmless(study: Path) -> None:
    """Either the file is refused and left as it is, or it reads as before: no one used that byte."""
    good = (study / "study.db").read_bytes()
    with Store.read(study) as store:
        results, aside = store.results(), store.aside()
    rng, noticed = random.Random(47), 0
    for trial in range(300):
        at = rng.randrange(100 if trial % 4 == 0 else len(good))
        spoilt = bytearray(good)
        spoilt[at] ^= rng.randrange(1, 256)
        (study / "study.db").write_bytes(spoilt)
        try:
            store = Store.read(study)
        except StoreError:
            noticed += 1
        else:
            with store:
                assert same(store.results(), results), at
                assert repr(store.aside()) == repr(aside), at
                assert store.registration == registration(), at
        assert list(contents(study).values()) == [bytes(spoilt)], at
    assert noticed > 150


def test_every_cut_of_the_file_is_refused(study: Path) -> None:
    good = (study / "study.db").read_bytes()
    for size in [*range(1, 130, 7), *range(512, len(good), 1777)]:
        (study / "study.db").write_bytes(good[:size])
        with refused("is truncated"):
            Store.read(study)


def test_a_journal_without_its_file_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "study.db-journal").write_bytes(b"what is left of a study")
    with refused("is missing but its -journal file is there"):
        Store.create_or_continue(tmp_path, registration())
    assert contents(tmp_path) == {"study.db-journal": b"what is left of a study"}


def test_reading_where_nothing_is(tmp_path: Path) -> None:
    with refused("there is no study in", "run one with this folder as --out"):
        Store.read(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


@posix
@pytest.mark.parametrize("kind", ["folder", "fifo", "socket", "zero"])
def test_what_is_not_a_regular_file(kind: str) -> None:
    phrase = "cannot be read" if kind == "socket" else "is not a regular file"
    with tempfile.TemporaryDirectory(prefix="q") as name:  # a socket's path must be short
        path = Path(name) / "study.db"
        if kind == "folder":
            path.mkdir()
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind == "zero":
            path.symlink_to("/dev/zero")
        else:
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(path))
        for open_it in (
            lambda: Store.read(path.parent),
            lambda: Store.create_or_continue(path.parent, registration()),
        ):
            with refused("study.db", phrase):
                open_it()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "deeper", tmp_path / ("x" * 300), Path("a\0b")):
        with refused("cannot make the folder"):
            Store.create_or_continue(folder, registration())
    assert (tmp_path / "file").read_text() == "mine"


@contextlib.contextmanager
def without_rights(folder: Path) -> Iterator[None]:
    """Do what follows as a user who owns nothing here, since root may write everywhere."""
    if os.geteuid():
        yield
        return
    for path in (folder, *folder.iterdir()):
        os.chown(path, 65534, 65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder(sound: Path) -> Iterator[Path]:
    """A copy of the sound study in a folder that other users can reach."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copy(sound / "study.db", folder)
        yield folder
        folder.chmod(0o755)


@posix
def test_a_read_only_file_is_read_and_not_continued(open_folder: Path) -> None:
    (open_folder / "study.db").chmod(0o444)
    before = contents(open_folder)
    with without_rights(open_folder):
        with Store.read(open_folder) as store:
            assert len(store.results()) == 32
        with refused("study.db is read-only"):
            Store.create_or_continue(open_folder, registration())
    assert contents(open_folder) == before


@posix
def test_a_read_only_folder_is_read_and_not_continued(open_folder: Path) -> None:
    with without_rights(open_folder):
        open_folder.chmod(0o555)
        with Store.read(open_folder) as store:
            assert len(store.results()) == 32
        with refused("cannot write in", "make the folder writable"):
            Store.create_or_continue(open_folder, registration())
        with refused("cannot make the folder"):
            Store.create_or_continue(open_folder / "new", registration())
    assert [path.name for path in open_folder.iterdir()] == ["study.db"]


@posix
def test_a_file_that_may_not_be_read(open_folder: Path) -> None:
    (open_folder / "study.db").chmod(0)
    with without_rights(open_folder), refused("cannot be read: Permission denied"):
        Store.read(open_folder)


@posix
def test_an_interrupted_study_in_a_read_only_place(open_folder: Path, tmp_path: Path) -> None:
    """The killed writer's journal must be rolled back, which a reader without rights cannot do."""
    writer = sqlite3.connect(open_folder / "study.db", isolation_level=None)
    writer.execute("PRAGMA cache_size=2")
    writer.execute("BEGIN")
    writer.execute("UPDATE result SET steps = 1, losses = zeroblob(9000)")
    for path in list(open_folder.iterdir()):
        shutil.copy(path, tmp_path)  # a copy made now is what a kill would leave
    writer.execute("ROLLBACK")
    writer.close()
    for path in tmp_path.iterdir():
        shutil.copy(path, open_folder)
    with without_rights(open_folder):
        open_folder.chmod(0o555)
        with refused("was interrupted in the middle of a write", "-journal"):
            Store.read(open_folder)
        open_folder.chmod(0o755)
        with Store.read(open_folder) as store:
            assert len(store.results()) == 32


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO])
def test_a_file_system_without_locks(code: int, study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(lock_module, "_take", refuse)
    before = contents(study)
    with refused("does not lock files", "local disk"):
        Store.create_or_continue(study, registration())
    assert contents(study) == before
    with Store.read(study) as store:
        assert len(store.results()) == 32


@posix
def test_a_holder_that_has_not_written_its_number(study: Path) -> None:
    first = lock_module.WriterLock(study, "x")
    for text in ("", "not a number\n", "99999999999\n"):
        (study / "study.lock").write_text(text)
        begun = time.monotonic()
        with refused("is being run by " + ("process 99999999999" if "9" in text else "another process")):
            Store.create_or_continue(study, registration())
        assert time.monotonic() - begun < 10  # it does not wait for the number
    first.release()


@posix
def test_the_number_of_a_dead_process_is_not_believed(study: Path) -> None:
    """The holder has taken the lock of a killed process and is about to write its own number."""
    first = lock_module.WriterLock(study, "x")
    (study / "study.lock").write_text("99999999999\n")
    late = threading.Timer(0.1, lambda: (study / "study.lock").write_text(f"{os.getpid()}\n"))
    late.start()
    with refused(f"is being run by process {os.getpid()};"):
        Store.create_or_continue(study, registration())
    late.join()
    first.release()


def test_a_lock_file_that_is_something_else(tmp_path: Path) -> None:
    (tmp_path / "study.lock").mkdir()
    with refused("cannot write in"):
        Store.create_or_continue(tmp_path, registration())


def test_another_program_holds_the_file(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_file, "_OPEN_WAITS", 0.05)
    monkeypatch.setattr(sqlite_file, "_COMMIT_WAITS", 0.05)
    phrase = "is locked by another program"
    with contextlib.closing(sqlite3.connect(study / "study.db", isolation_level=None)) as browser:
        browser.execute("BEGIN EXCLUSIVE")
        with refused(phrase):
            Store.read(study)
        with refused(phrase):
            Store.create_or_continue(study, registration())
        browser.execute("ROLLBACK")
        with Store.create_or_continue(study, registration()) as store:
            browser.execute("BEGIN IMMEDIATE")
            with refused(phrase):
                store.add(batch(9))
            browser.execute("ROLLBACK")
            store.add(batch(9))
            assert len(store.results()) == 36


def test_another_registration_is_refused_with_the_difference(study: Path) -> None:
    before = contents(study)
    cases: list[tuple[dict[str, object], tuple[str, ...]]] = [
        (
            {"alpha": 0.01},
            ("(alpha: registered 0.05, asked 0.01)", "use another --out or the same settings."),
        ),
        ({"designs": ["QKV", "QKK"]}, ("(designs[1]: registered 'QQV', asked 'QKK')",)),
        ({"designs": ["QKV"]}, ("(designs: registered ['QKV', 'QQV'], asked ['QKV'])",)),
        ({"delta": True}, ("(delta: registered nothing, asked True)",)),
        ({"alpha": "0.05"}, ("(alpha: registered 0.05, asked '0.05')",)),
        (
            {"seeds": {"tune": [900_000, 900_001], "judge": list(range(9))}},
            ("seeds.judge: registered 8000 items",),
        ),
        (
            {"tasks": [{"task": "recall", "setting": "small", "steps": 9}]},
            ("tasks[0].steps: registered 200, asked 9",),
        ),
        ({c: 1 for c in "abcdef"}, ("(a: registered nothing", "c: registered nothing, asked 1; and 3 more)")),
        ({"designs": ["x\u202e\n" * 300_000, "QQV"]}, ("asked 'x\\u202e\\n",)),
        ({"source": "new", "alpha": 1}, ("alpha: registered 0.05, asked 1; source: registered 'abc123'",)),
        ({"<b>'; DROP TABLE result; --": 1}, ("DROP TABLE",)),
    ]
    for change, phrases in cases:
        with refused("another study is registered in", *phrases):
            Store.create_or_continue(study, registration(**change))
    without = registration()
    del without["alpha"]
    with refused("alpha: registered 0.05, asked nothing"):
        Store.create_or_continue(study, without)
    assert contents(study) == before


def test_a_changed_training_source_is_refused_in_its_own_words(study: Path) -> None:
    with refused("the training source has changed since", f"use another --out or install qkvlab {__version__}"):
        Store.create_or_continue(study, registration(source="new"))


def test_the_same_registration_in_another_order_is_the_same(study: Path) -> None:
    turned = dict(reversed(registration().items())) | {"designs": ("QKV", "QQV")}
    with Store.create_or_continue(study, turned) as store:
        assert store.registration == registration()


def test_a_registration_that_is_not_json(tmp_path: Path) -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (float("nan"), {1, 2}, object(), deep, 10**5000):
        with pytest.raises(BadInput, match="plain JSON"):
            Store.create_or_continue(tmp_path / "new", registration(alpha=value))
    assert not (tmp_path / "new").exists()


def test_only_the_writer_adds(study: Path) -> None:
    with Store.read(study) as store, pytest.raises(AssertionError):
        store.add(batch(0))
    store = Store.create_or_continue(study, registration())
    store.close()
    with pytest.raises(AssertionError):
        store.add(batch(0))


def test_paths_that_need_care(tmp_path: Path) -> None:
    for name in (
        "a b",
        "100%25?mode=memory#x",
        "研究",
        "line\nbreak",
        "\u202eabc",
        "'; DROP TABLE result; --",
    ):
        folder = tmp_path / name / "deeper"
        with Store.create_or_continue(folder, registration()) as store:
            store.add(batch(0))
            with refused("is being run by"):
                Store.create_or_continue(folder, registration())
        with Store.read(folder) as store:
            assert same(store.results(), batch(0))
        with refused("another study"):
            Store.create_or_continue(folder, registration(alpha=1))
        assert sorted(path.name for path in folder.iterdir()) == ["study.db", "study.lock"]
