"""What can befall a worker, by what to do about it; all else that it raises is passed on as it is."""

from __future__ import annotations


class Lost(Exception):
    """A worker died, hung, or did not start: what it trained is trained again by another."""


class OutOfMemory(Exception):
    """A group does not fit into the memory of its worker: fewer models at once may."""


_SAYINGS = (
    *("can't allocate memory", "not enough memory", "out of memory", "bad_alloc", "could not create a memory"),
    "alloc_failed",  # of a library on a GPU
)


def is_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory was not enough; PyTorch's has no class of its own on a CPU.

    >>> is_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory")), is_of_memory(RuntimeError("shape"))
    (True, False)
    """
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(saying in str(error).lower() for saying in _SAYINGS)
