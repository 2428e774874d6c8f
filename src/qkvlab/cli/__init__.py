"""The command line: one file per command; errors are one line and an exit code."""

from __future__ import annotations

import os
import sys
from typing import Any

LONGEST = 1200
"""Characters of an error; what came from the user may be a megabyte, or steer the terminal."""


def main() -> None:
    """Run ``qkvlab``; see `qkvlab.errors` for the exit codes."""
    from typer import Abort, BadParameter

    from qkvlab.cli.app import app
    from qkvlab.errors import QkvlabError

    # an unknown command, option or value; Typer has this class from click, or from its own copy of it
    usage: Any = BadParameter.__base__
    try:
        code = app(standalone_mode=False)
        if code == 130:  # newer Typers return what older ones raise
            _fail("interrupted.", 130)
    except QkvlabError as error:
        code = _fail(str(error), error.exit_code)
    except usage as error:
        code = _fail(f"{error.format_message()} See `qkvlab --help`.", 2)
    except (Abort, KeyboardInterrupt):
        code = _fail("interrupted.", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left; that is its right
        code = 0
    except OSError as error:  # a full disk or a folder that may not be written, outside the store
        code = _fail(f"{error.filename or 'the system'}: {error.strerror or error}.", 3)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(text: str, code: int) -> int:
    one_line = " ".join(text[: 2 * LONGEST].split())
    shown = "".join(char if char.isprintable() else "\ufffd" for char in one_line)
    print(f"qkvlab: {shown if len(shown) <= LONGEST else shown[:LONGEST] + '…'}", file=sys.stderr)
    return code
