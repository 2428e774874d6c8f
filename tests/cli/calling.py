"""The command line, called in this process for speed or as its users call it."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, "-c", "from qkvlab.cli import main; main()"]
"""What the installed script does, wherever it is installed."""


@dataclass(frozen=True)
class Said:
    """How a command ended.

    Attributes:
        code: exit code.
        out: standard output.
        err: standard error.
        seconds: of processor time, so that a busy machine makes nobody slow.
    """

    code: int
    out: str
    err: str
    seconds: float

    @property
    def json(self) -> Any:
        """The one JSON document that standard output is."""
        return json.loads(self.out, parse_constant=_refuse)

    def refusal(self, code: int = 2) -> str:
        """Hold this against what every refusal is: one line on stderr, nothing on stdout, at once."""
        assert len(self.err) < 1500, f"an error of {len(self.err)} characters"
        assert (self.code, self.out) == (code, ""), self
        assert self.err.startswith("qkvlab: ") and self.err.endswith("\n") and self.err.count("\n") == 1, self.err
        line = self.err[:-1]
        assert "Traceback" not in line and line.isprintable() and len(line) > 15, line
        assert self.seconds < 10, "a refusal does no work"  # some .01 s; quadratic work on a megabyte takes minutes
        return line


def _refuse(constant: str) -> Any:
    raise AssertionError(f"{constant} is no JSON")


Cli = Callable[..., Said]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C.UTF-8", "PYTHONWARNINGS": "error::RuntimeWarning", **more}


def spawn(*arguments: str, cwd: Path, **env: str) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        [*COMMAND, *arguments], **pipes, text=True, cwd=cwd, env=environment(**env), preexec_fn=_hear_ctrl_c
    )


def _hear_ctrl_c() -> None:
    # a test run that was started in the background ignores Ctrl-C, and so would its children
    signal.signal(signal.SIGINT, signal.default_int_handler)


def outside(*arguments: str, cwd: Path, **env: str) -> Said:
    """Call the command line in a process of its own."""
    begun = _children()
    process = spawn(*arguments, cwd=cwd, **env)
    out, err = process.communicate(timeout=120)
    return Said(process.returncode, out, err, _children() - begun)


def _children() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


HOSTILE = {
    "script": "<script>alert(1)</script>",
    "sql": "'; DROP TABLE result; --",
    "right to left": "\u202egnp.exe\u2066",
    "nul": "a\0b",
    "escape": "\x1b[31mred\x07",
    "newlines": "a\n\r\nb\u2028c",
    "surrogate": "\udcff\udcfe",
    "markup": "[bold red]x[/]",
    "format": "%s {x} {0}",
    "megabyte": "x" * 1_000_000,
    "wide megabyte": "界" * 333_333,
    "commas": "," * 1_000_000,
}
