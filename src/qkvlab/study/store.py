"""The study's memory: its registration, every finished cell and how long its calls took, in one SQLite file.

A batch that `Store.add` has returned from is on the disk and stays there; a batch cut short by a kill or a
full disk leaves no trace. What cannot be a result of this study is kept aside with the reason, never mixed
in.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from qkvlab import __version__
from qkvlab.errors import BadInput, StoreError
from qkvlab.study.belonging import objection
from qkvlab.study.cells import Result
from qkvlab.study.differing import differences
from qkvlab.study.lock import WriterLock
from qkvlab.study.records import COLUMNS, Metric, Record, alike, checksum, decode, encode
from qkvlab.study.sessions import Session
from qkvlab.study.sqlite_file import create, damaged, explained, one_at_a_time, open_checked, shown

STORE_NAME = "study.db"

DIFFERENT_BITS = "different bits"

_ALL = f"SELECT id, {COLUMNS}, reason, checksum FROM result ORDER BY id"
_INSERT = f"INSERT INTO result ({COLUMNS}, reason, checksum) VALUES ({', '.join('?' * 17)})"
_NOTE = f"INSERT OR REPLACE INTO session VALUES ({', '.join('?' * 7)})"
_TWINS = "SELECT id, reason, source, losses, models_in_group, device, versions FROM result WHERE cell = ?"
_METRICS_OF = "SELECT name, value, is_nan FROM metric WHERE result = ? ORDER BY name"


class Store:
    """One study on disk: `create_or_continue` makes its one writer, `read` any number of readers."""

    def __init__(self, path: Path, db: sqlite3.Connection, lock: WriterLock | None) -> None:
        """Take over an open file; every record is read here once, so that damage shows before work begins."""
        self._path, self._db, self._lock = path, db, lock
        self.registration, self._version = _registered(path, db)
        for _ in self._verified():
            pass
        self.sessions()

    @classmethod
    def create_or_continue(cls, folder: Path, registration: dict[str, Any]) -> Store:
        """Begin the study `registration` in `folder`, or continue it when it is the one registered there.

        Raises:
            BadInput: the registration is not plain JSON.
            StoreError: another process writes the study, another study is registered in the folder, or the
                folder or the file cannot be used.
        """
        text = _canonical(registration)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise StoreError(f"cannot make the folder {shown(folder)}: {why}; use another --out.") from error
        lock = WriterLock(folder, shown(folder))
        try:
            path = folder / STORE_NAME
            if not _is_there(path):
                create(path, text, __version__, checksum([text, __version__], []))
            store = cls._open(path, lock)
        except BaseException:
            lock.release()
            raise
        try:
            store._require(json.loads(text))
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def read(cls, folder: Path, registration: dict[str, Any] | None = None) -> Store:
        """Open the study in `folder` for reading, also while its writer runs.

        Args:
            folder: of the study.
            registration: what must be registered there; anything unless given.

        Raises:
            StoreError: there is no study, it is another one, or its file cannot be used.
        """
        path = folder / STORE_NAME
        if not _is_there(path):
            raise StoreError(
                f"there is no study in {shown(folder)} (no {STORE_NAME}); run one with this folder as --out."
            )
        store = cls._open(path, None)
        if registration is not None:
            try:
                store._require(json.loads(_canonical(registration)))
            except BaseException:
                store.close()
                raise
        return store

    @classmethod
    def registered(cls, folder: Path) -> dict[str, Any]:
        """Return what is registered in `folder`, where a study was begun; its records are not looked at.

        Raises:
            StoreError: its file cannot be used.
        """
        path = folder / STORE_NAME
        with one_at_a_time:
            db = open_checked(path, writer=False)
            try:
                with explained(path):
                    return _registered(path, db)[0]
            finally:
                db.close()

    @classmethod
    def begun(cls, folder: Path) -> bool:
        """Return whether a study was begun in `folder`."""
        return _is_there(folder / STORE_NAME)

    @classmethod
    def _open(cls, path: Path, lock: WriterLock | None) -> Store:
        with one_at_a_time:
            db = open_checked(path, writer=lock is not None)
            try:
                with explained(path):
                    return cls(path, db, lock)
            except BaseException:
                db.close()
                raise

    def add(self, results: Iterable[Result]) -> None:
        """Store a batch in one transaction: durable when this returns, absent as a whole when it raises.

        A result that is there already with the same numbers is skipped, also when a group of another size, another
        device or other versions changed their last digits (`records.DRIFT`); one that does not belong is kept aside.

        Raises:
            BadInput: an integer beyond 64 bits or text that is not Unicode.
            StoreError: the disk is full or refuses, or another program holds the file.
        """
        assert self._lock is not None and self._lock.held, "only the process that holds the lock adds"
        records = [encode(result) for result in results]
        with self._transaction():
            for record in records:
                self._place(record)

    def note(self, session: Session) -> None:
        """Store how long a call has taken, over what was noted of it before; errors as `add`."""
        row = tuple(vars(session).values())
        with self._transaction():
            self._db.execute(_NOTE, (*row, checksum(row, [])))

    def sessions(self) -> list[Session]:
        """Return the calls that trained, in their order; none in a file of a version that did not note them."""
        with one_at_a_time, explained(self._path):
            kept = self._db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'session'").fetchone()
            rows = self._db.execute("SELECT * FROM session ORDER BY number").fetchall() if kept else []
        for *row, sum_ in rows:
            if checksum(row, []) != sum_:
                raise damaged(self._path, f"session {row[0]} is not what was written")
        return [Session(*row[:-1]) for row in rows]

    def results(self) -> list[Result]:
        """Return the accepted results, ordered by cell and so the same however the study was interrupted."""
        return sorted((result for result, reason in self._load() if reason is None), key=lambda r: r.cell)

    def aside(self) -> list[tuple[Result, str]]:
        """Return what was kept aside, each with its reason, in order of arrival."""
        return [(result, reason) for result, reason in self._load() if reason is not None]

    def close(self) -> None:
        """Close the file and let the next writer in."""
        with one_at_a_time:
            self._db.close()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with one_at_a_time, explained(self._path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _require(self, asked: dict[str, Any]) -> None:
        """Refuse another registration than the one in the file."""
        where = shown(self._path.parent)
        found = list(differences("", self.registration, asked))
        if not found:
            return
        if all(path == "source" for path, _, _ in found):
            raise StoreError(
                f"the training source has changed since the study in {where} was registered; results would "
                f"not be comparable; use another --out or install qkvlab {self._version} as it was then."
            )
        told = [f"{path}: registered {old}, asked {new}" for path, old, new in found[:3]]
        if len(found) > 3:
            told.append(f"and {len(found) - 3} more")
        raise StoreError(
            f"another study is registered in {where} ({'; '.join(told)}); use another --out or the same settings."
        )

    def _place(self, record: Record) -> None:
        """Put one record where it belongs; runs inside the transaction of `add`."""
        found = self._db.execute(_TWINS, (record.cell,)).fetchall()
        twins = [(*row[1:4], self._db.execute(_METRICS_OF, (row[0],)).fetchall()) for row in found]
        reason = objection(record.result, self.registration)
        numbers = (record.losses, record.metrics)
        for (_, why, _, losses, *trained), twin in zip(found, twins, strict=True):
            if reason is None and why is None and twin[2:] != numbers:
                if tuple(trained) != record.way and alike(losses, record.losses):
                    return  # trained again in another way: the first one stays
                reason = DIFFERENT_BITS
        if (reason, record.result.source, *numbers) in twins:
            return
        row = (*record.columns, reason)
        id_ = self._db.execute(_INSERT, (*row, checksum(row, record.metrics))).lastrowid
        self._db.executemany("INSERT INTO metric VALUES (?, ?, ?, ?)", [(id_, *m) for m in record.metrics])

    def _load(self) -> list[tuple[Result, str | None]]:
        return [(decode(row, metrics), reason) for row, reason, metrics in self._verified()]

    def _verified(self) -> Iterator[tuple[list[Any], str | None, list[Metric]]]:
        """Read every record as of one moment and yield those that are what was written; raise at another."""
        with one_at_a_time, explained(self._path):
            self._db.execute("BEGIN")
            try:
                rows = self._db.execute(_ALL).fetchall()
                metrics = self._db.execute("SELECT * FROM metric ORDER BY result, name").fetchall()
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
        of: defaultdict[int, list[Metric]] = defaultdict(list)
        for id_, *metric in metrics:
            of[id_].append(tuple(metric))
        for id_, *row, kept in rows:
            mine = of.pop(id_, [])
            if checksum(row, mine) != kept:
                raise damaged(self._path, f"record {id_} is not what was written")
            reason = row.pop()
            yield row, reason, mine
        if of:
            raise damaged(self._path, "it has numbers that belong to no record")


def _registered(path: Path, db: sqlite3.Connection) -> tuple[dict[str, Any], str]:
    """Return the registration of an open file and the version that wrote it."""
    row = db.execute("SELECT registration, qkvlab, checksum FROM study").fetchone()
    if row is None or checksum(row[:2], []) != row[2]:
        raise damaged(path, "its registration is not what was written")
    return json.loads(row[0]), row[1]


def _is_there(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _canonical(registration: dict[str, Any]) -> str:
    """Write a registration in the one form in which equal ones are equal text."""
    missing = {"tasks", "designs", "seeds", "source"} - registration.keys()
    assert not missing, f"the registration says nothing about {missing}"
    try:
        return json.dumps(registration, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadInput(f"a registration must be plain JSON with finite numbers: {error}.") from error
