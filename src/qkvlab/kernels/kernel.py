"""The compiled kernels of this folder, made by the C++ compiler that is there when needed, and kept on disk."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import platformdirs
import torch

_FOLDER = Path(__file__).parent
_SHARED = _FOLDER / "vectors.h"
"""What kernels have in common."""
_CALLED_BY_PROGRAMS = ("product",)
"""Kernels that PyTorch's compiled programs call by name, so that names must be seen by all that is loaded later."""
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-shared", "-fPIC", "-w")


class NoCompiler(Exception):
    """The kernel cannot be compiled on this machine; the message says why, in one line."""


def is_known() -> bool:
    """Whether the kernels were measured on processors like this one; on others they may be slower than PyTorch's."""
    return torch.backends.cpu.get_cpu_capability() in ("AVX512", "AVX2")


@functools.cache
def is_intel() -> bool:
    """Whether the processor is one that PyTorch's products (MKL's) were written for."""
    return "GenuineIntel" in _processor() and torch.backends.mkl.is_available()


def has_units(dtype: torch.dtype) -> bool:
    """Whether the processor has units for whole tiles of such numbers (AMX), which PyTorch's kernels take."""
    return dtype == torch.bfloat16 and torch.cpu._is_amx_tile_supported()


def compiler() -> str | None:
    """Return the C++ compiler that CXX names, or that is there; None without one."""
    return shutil.which(os.environ.get("CXX") or "c++") or shutil.which("g++") or shutil.which("clang++")


@functools.cache
def compiled(name: str, **kind: int) -> ctypes.CDLL:
    """Return the kernel of this name, compiled for what its source says that it is compiled for.

    Raises:
        NoCompiler: there is no C++ compiler, or it refuses.
    """
    found = compiler()
    if found is None:
        raise NoCompiler("there is no C++ compiler (the one that CXX names, c++, g++ or clang++)")
    source = _FOLDER / f"{name}.cpp"
    said = [f"-D{name}={int(value)}" for name, value in kind.items()]
    made = f"{_mark(source, found, said)}.so"
    mode = ctypes.RTLD_GLOBAL if name in _CALLED_BY_PROGRAMS else ctypes.DEFAULT_MODE
    folder = platformdirs.user_cache_path("qkvlab", appauthor=False) / "kernels"
    try:
        if (folder / made).exists():
            return ctypes.CDLL(str(folder / made), mode)
    except OSError:  # written half, or for another machine after all
        pass
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as other:
        _compile(source, found, said, Path(other) / made)
        library = ctypes.CDLL(str(Path(other) / made), mode)  # what is loaded stays, wherever its file goes
        with contextlib.suppress(OSError):  # the next process compiles it again
            _keep(Path(other) / made, folder / made)
        return library


def _keep(made: Path, kept: Path) -> None:
    """Copy a file to where it is kept, all of it or nothing."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    part = kept.with_name(f".{kept.name}.{os.getpid()}.part")
    try:
        shutil.copyfile(made, part)
        part.replace(kept)
    finally:
        part.unlink(missing_ok=True)


def _compile(source: Path, found: str, said: list[str], made: Path) -> None:
    error = ""
    for threads in (["-fopenmp"], []):  # a compiler may come without OpenMP: then one thread works
        try:
            command = [found, *_FLAGS, *threads, *said, f"-I{_SHARED.parent}", source, "-o", made]
            subprocess.run(command, check=True, capture_output=True, text=True)
            return
        except subprocess.CalledProcessError as refused:
            error = next(iter(refused.stderr.splitlines()), "refused")
        except OSError as failed:
            error = str(failed)
    raise NoCompiler(f"{found}: {error}")


def _mark(source: Path, found: str, said: list[str]) -> str:
    """Tell kernels apart by all that makes one: sources, flags, compiler and processor."""
    told = _processor().splitlines()
    processor = next((line for line in told if line.startswith("flags")), platform.processor())
    sources = (each.read_text() for each in (source, _SHARED))
    parts = [*sources, *_FLAGS, *said, found, os.stat(found).st_mtime_ns, platform.machine(), processor]
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:24]


def _processor() -> str:
    """Return what the system tells of the processor."""
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()


@functools.cache
def works(name: str, **kind: int) -> bool:
    """Whether `compiled` has such a kernel."""
    try:
        compiled(name, **kind)
    except NoCompiler:
        return False
    return True
