"""One process makes a thing while the others wait; who dies gives its turn away, and where no locks are all go on."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from qkvlab.training import turns
from qkvlab.training.turns import turn

HOLDS = """
import sys, time
from qkvlab.training.turns import turn
with turn(sys.argv[1]):
    print("holds", flush=True)
    time.sleep(float(sys.argv[2]))
    open(sys.argv[3], "w").close()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def holder(folder):
    """Another process that holds a turn; returns it once it does."""
    begun = []

    def hold(what: str, seconds: float) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLDS, what, str(seconds), str(folder / "made")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        begun.append(process)
        assert process.stdout is not None and process.stdout.readline() == "holds\n"
        return process

    yield hold
    for process in begun:
        process.kill()
        process.communicate()


@pytest.fixture
def waited():
    """Whether less than half of the patience has passed, however busy the machine is."""
    begun = time.monotonic()
    return lambda: time.monotonic() - begun < turns.PATIENCE / 2


def test_others_wait_for_the_same_thing(holder, folder):
    holder("a program", 1.0)
    with turn("a program"):
        assert (folder / "made").exists()


def test_a_process_that_is_killed_gives_its_turn_away(holder, folder, waited):
    holder("a program", 600).kill()
    with turn("a program"):
        assert waited() and not (folder / "made").exists()


def test_patience_ends(holder, monkeypatch):
    monkeypatch.setattr(turns, "PATIENCE", 0.05)
    other = holder("a program", 600)
    with turn("a program"):
        assert other.poll() is None


def test_other_things_are_made_at_the_same_time(holder, waited):
    holder("a program", 600)
    with turn("another"):
        assert waited()


def test_what_fails_gives_its_turn_away(waited):
    with pytest.raises(KeyError), turn("a program"):
        raise KeyError
    with turn("a program"):
        assert waited()


def test_machines_that_share_a_home_do_not_wait_for_each_other(holder, waited, monkeypatch):
    holder("a program", 600)
    monkeypatch.setattr(turns.platform, "node", lambda: "elsewhere")
    with turn("a program"):
        assert waited()


def test_files_are_few(folder):
    for i in range(200):
        with turn(f"program {i}"):
            pass
    assert len(list(folder.rglob("*.lock"))) <= turns.LOCKS


def test_where_no_folder_can_be_made_everybody_has_the_turn(monkeypatch, tmp_path):
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "taken"))
    with turn("a program"):
        assert not list(tmp_path.rglob("*.lock"))
