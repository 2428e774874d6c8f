"""The command line in this process: fast, and with its streams caught."""

from __future__ import annotations

import sys
import time

import pytest
from calling import Cli, Said

from qkvlab import cli
from qkvlab.cli import report, study

assert report and study  # imported here with all that they need, so that calls are timed and not Python's start


@pytest.fixture
def cli_here(monkeypatch, capsys, tmp_path) -> Cli:
    """Call the command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["qkvlab", *arguments])
        capsys.readouterr()
        begun = time.process_time()  # the machine may be busy with other things
        with pytest.raises(SystemExit) as ended:
            cli.main()
        seconds = time.process_time() - begun
        out, err = capsys.readouterr()
        code = ended.value.code
        return Said(code if isinstance(code, int) else 0, out, err, seconds)

    return call
