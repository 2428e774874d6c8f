"""Opening a study's SQLite file: what it must be, and one sentence for everything else it can be.

Nothing here changes a file that is refused. Rollback journal, because SQLite's write-ahead log can lose pages
before 3.51.3; synchronous=EXTRA, because a commit must outlive a power cut, its deleted journal included.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

from qkvlab.errors import StoreError
from qkvlab.study.schema import APPLICATION_ID, VERSION, expected, found, making, renewing

_MAGIC = b"SQLite format 3\0"
_HEADER = 100  # bytes
_OPEN_WAITS, _COMMIT_WAITS = 5.0, 30.0  # seconds for another process to finish its transaction

# POSIX drops every lock a process has on a file when it closes any descriptor of it, SQLite's included.
# So within a process no one looks at a study file while another thread reads or commits.
one_at_a_time = threading.RLock()


def shown(path: Path) -> str:
    """Return a path for a message of one line."""
    text = str(path)
    return text if text.isprintable() else ascii(text)


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what SQLite says about the disk and the file into a StoreError; bugs of ours pass."""
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.IntegrityError):
        raise
    except sqlite3.Error as error:
        raise _explain(path, error) from error
    except UnicodeDecodeError as error:  # sqlite3 failing to say what SQLite said about damaged bytes
        raise damaged(path, "it has text that is not Unicode") from error
    except OSError as error:
        raise _unwritable(path, error.strerror or "no reason given") from error


def _explain(path: Path, error: sqlite3.Error) -> StoreError:
    name = shown(path)
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return StoreError(
            f"{name}: the disk is full; everything stored before is safe, free some space and run the "
            "same command again."
        )
    if code == sqlite3.SQLITE_IOERR:
        return StoreError(
            f"{name}: the disk refused to read or write ({error}); what was stored before is safe, check the "
            "disk and its quota and run the same command again."
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreError(
            f"{name} is locked by another program, perhaps a database browser; close it there and try again."
        )
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        if _size(_beside(path, "-journal")):
            return StoreError(
                f"{name} was interrupted in the middle of a write and cannot be mended in a read-only place; "
                "copy it together with its -journal file to a writable folder."
            )
        return _unwritable(path, str(error))
    return damaged(path, str(error))


def _unwritable(path: Path, why: str) -> StoreError:
    return StoreError(f"{shown(path)} cannot be written: {why}; make the file and its folder writable.")


def damaged(path: Path, what: str) -> StoreError:
    """Build the error for a file whose content is not what was written."""
    with one_at_a_time, contextlib.suppress(OSError):
        header = _read_header(path)
        page = int.from_bytes(header[16:18], "big")
        promised = int.from_bytes(header[28:32], "big") * (65536 if page == 1 else page)
        size = _size(path)
        if size < promised and not _size(_beside(path, "-journal")):
            return _truncated(path, size, f"{promised}")
    what = what[:120] if what.isprintable() else ascii(what[:120])
    return StoreError(f"{shown(path)} is damaged ({what}); it was left as it is: restore a copy, or use another --out.")


def _truncated(path: Path, size: int, promised: str) -> StoreError:
    return StoreError(
        f"{shown(path)} is truncated: it has {size} bytes of {promised}; it was left as it is: restore a "
        "copy, or use another --out."
    )


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _read_header(path: Path) -> bytes:
    """Read the first bytes of a regular file, and of nothing that could block or never end."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise StoreError(f"{shown(path)} is not a regular file; use another --out.")
        return os.read(descriptor, _HEADER)
    finally:
        os.close(descriptor)


def _judge_header(path: Path) -> None:
    """Refuse what is not a study file of this version or an older one, from the bytes that no transaction changes."""
    name = shown(path)
    try:
        header = _read_header(path)
    except OSError as error:
        raise StoreError(f"{name} cannot be read: {error.strerror}; make it readable.") from error
    if not header:
        raise StoreError(f"{name} is empty and no study; move it away or use another --out.")
    if not header.startswith(_MAGIC[: len(header)]):
        raise StoreError(f"{name} is not a SQLite file; move it away or use another --out.")
    if len(header) < _HEADER:
        raise _truncated(path, len(header), f"at least {_HEADER}")
    application, version = (int.from_bytes(header[at : at + 4], "big") for at in (68, 60))
    if application != APPLICATION_ID:
        raise StoreError(
            f"{name} belongs to another program (application_id {application:#010x}, a study has "
            f"{APPLICATION_ID:#010x}); move it away or use another --out."
        )
    if version > VERSION:
        raise StoreError(
            f"{name} was written by a newer qkvlab (format {version}, this one reads {VERSION}); "
            "upgrade qkvlab or use another --out."
        )
    if not version:
        raise damaged(path, f"format {version} never existed")
    log = _beside(path, "-wal")
    if log.exists():
        raise StoreError(
            f"{name} was put in WAL mode by another program, which qkvlab does not use; run in that folder: "
            f"sqlite3 {path.name} 'PRAGMA journal_mode=DELETE'"
        )
    if 2 in header[18:20]:
        raise StoreError(
            f"{name} is in WAL mode but its {log.name} is missing, perhaps with the newest results; put that "
            f"file back, or accept what is left: sqlite3 {path.name} 'PRAGMA journal_mode=DELETE'"
        )


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    # autocommit, so that every transaction is one that we wrote; threads are kept apart by one_at_a_time
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=_OPEN_WAITS,
        isolation_level=None,
        check_same_thread=False,
    )
    for setting in ("foreign_keys=ON", "trusted_schema=OFF", "cell_size_check=ON"):
        db.execute(f"PRAGMA {setting}")
    return db


def _make_durable(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA journal_mode=DELETE")
    db.execute("PRAGMA synchronous=EXTRA")
    db.execute("PRAGMA fullfsync=ON")  # macOS: fsync alone stops at the disk's own cache


def create(path: Path, registration: str, version: str, checksum: bytes) -> None:
    """Make the file complete under another name and then rename it, so that no kill leaves half a study."""
    for suffix in ("-journal", "-wal"):
        if _beside(path, suffix).exists():
            raise StoreError(
                f"{shown(path)} is missing but its {suffix} file is there; put {path.name} back beside it or "
                "use another --out."
            )
    fresh = _beside(path, ".new")
    with explained(path):
        for suffix in (".new", ".new-journal"):  # left by a process that died here
            _beside(path, suffix).unlink(missing_ok=True)
        with contextlib.closing(_connect(fresh, "rwc")) as db:
            _make_durable(db)
            db.executescript(f"BEGIN; {making()}")
            db.execute("INSERT INTO study VALUES (1, ?, ?, ?)", (registration, version, checksum))
            db.execute("COMMIT")
        fresh.rename(path)
        if os.name == "posix":  # the new name is durable once the folder is
            descriptor = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _may_write(path: Path) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def open_checked(path: Path, *, writer: bool) -> sqlite3.Connection:
    """Open a study file and refuse it unless header, schema and every page are sound."""
    with one_at_a_time:
        _judge_header(path)
        writable = _may_write(path) and _may_write(path.parent)
        if writer and not writable:
            raise StoreError(f"{shown(path)} is read-only; make it writable to continue, or use another --out.")
        # A reader that may write can finish what a killed writer left (SQLite rolls its journal back).
        with explained(path):
            db = _connect(path, "rw" if writable else "ro")
        try:
            with explained(path):
                version = _judge_content(path, db)
                if writer:
                    _make_durable(db)
                    db.executescript(f"BEGIN IMMEDIATE; {renewing(version)} COMMIT")  # it can be written, by us alone
                    db.execute(f"PRAGMA busy_timeout={_COMMIT_WAITS * 1000:.0f}")
                else:
                    db.execute("PRAGMA query_only=ON")
        except BaseException:
            db.close()
            raise
        return db


def _judge_content(path: Path, db: sqlite3.Connection) -> int:
    """Return the version of the tables, once they are what that version has and every page is sound."""
    db.execute("BEGIN")  # as of one moment: a writer may be bringing the tables up to date
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if found(db) != expected(version):
        raise damaged(path, "its tables are not those of a study")
    verdict = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if verdict != "ok":
        raise damaged(path, verdict)
    db.execute("ROLLBACK")
    return version
