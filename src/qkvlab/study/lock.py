"""One writer per study: a lock that the kernel lets go when its process dies, however it dies."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import weakref
from pathlib import Path

from qkvlab.errors import StoreError

LOCK_NAME = "study.lock"
_PATIENCE = 0.4  # seconds for a process that just took the lock to write its number
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)

if sys.platform == "win32":
    import msvcrt

    def _take(fd: int) -> None:
        os.lseek(fd, 1 << 30, os.SEEK_SET)  # Windows forbids reading a locked byte, so not the number's own
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            raise BlockingIOError from error

    def _alive(pid: int) -> bool:
        return True  # asking with signal 0, as below, would stop the process here

else:
    import fcntl

    def _take(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _alive(pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
        except PermissionError:
            return True
        return True


class WriterLock:
    """The right to write one study, held from construction until `release` or the end of the process.

    The file stays when the lock is released: deleting it would let two processes lock two files of one name.
    """

    def __init__(self, folder: Path, shown: str) -> None:
        """Take the lock of `folder` at once or raise; `shown` is how messages call the folder."""
        try:
            self._fd = os.open(folder / LOCK_NAME, _FLAGS, 0o666)
        except OSError as error:
            raise StoreError(
                f"cannot write in {shown}: {error.strerror}; make the folder writable or use another --out."
            ) from error
        try:
            _take(self._fd)
        except BlockingIOError as error:
            holder = self._holder()
            os.close(self._fd)
            raise StoreError(f"study in {shown} is being run by {holder}; wait for it or stop it.") from error
        except OSError as error:
            os.close(self._fd)
            raise StoreError(
                f"the file system of {shown} does not lock files ({error.strerror}), as some network disks "
                "do not, so two processes could write at once; use an --out on a local disk."
            ) from error
        self._sign(f"{os.getpid()}\n")
        _held.add(self)

    @property
    def held(self) -> bool:
        """Whether this process, not its parent, holds the lock."""
        return self._fd >= 0

    def release(self) -> None:
        """Let the next writer in."""
        if self.held:
            self._sign("")
            self._close()

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        os.close(fd)

    def _sign(self, text: str) -> None:
        """Write whose lock it is; on a full disk the lock holds all the same, without a number."""
        with contextlib.suppress(OSError):
            os.lseek(self._fd, 0, os.SEEK_SET)
            os.write(self._fd, text.encode())
            os.ftruncate(self._fd, len(text))

    def _holder(self) -> str:
        """Name the process that has the lock; the number of a dead one is about to be overwritten."""
        until = time.monotonic() + _PATIENCE
        while True:
            os.lseek(self._fd, 0, os.SEEK_SET)
            first = os.read(self._fd, 32).split(b"\n")[0]
            pid = int(first) if first.isdigit() else 0
            late = time.monotonic() > until
            if pid and (late or _alive(pid)):
                return f"process {pid}"
            if late:
                return "another process"
            time.sleep(0.01)


_held: weakref.WeakSet[WriterLock] = weakref.WeakSet()


def _forget_after_fork() -> None:
    """Close the lock in a forked worker, which would otherwise keep it after its parent was killed."""
    for lock in list(_held):
        if lock.held:
            lock._close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
