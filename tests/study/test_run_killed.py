"""kill -9 at twenty random times: what was acknowledged stays, nothing is partial, and the verdicts are the same."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made_up import result, rows, rows_of, spec
from runner import WORLD, killed
from safetensors import SafetensorError

from qkvlab.study import weights
from qkvlab.study.decisions import Findings
from qkvlab.study.run import run
from qkvlab.study.spec import Spec
from qkvlab.study.store import Store
from qkvlab.training.halving import STOPPED

RUNNER = Path(__file__).with_name("runner.py")
KILLS = 20


def start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, str(RUNNER), str(folder)], stdout=subprocess.PIPE, text=True)


def check(folder: Path, acknowledged: int, before: set) -> set:
    """Hold the folder against what its process had said; return the stored cells."""
    with Store.read(folder) as store:
        found = store.results()
        assert store.aside() == []
    cells = {one.cell for one in found}
    assert len(cells) == len(found) and before <= cells
    assert len(found) >= acknowledged
    for one in found:
        if STOPPED in one.metrics:  # which depends on the other rates of its design
            assert one.cell.role == "tune"
            continue
        expected = result(one.cell, WORLD)
        assert (
            repr(sorted(one.metrics.items())) == repr(sorted(expected.metrics.items()))
            and one.diverged == expected.diverged
        )
    for path in folder.rglob("*.safetensors"):
        try:
            state, origin = weights.load(path)
        except SafetensorError as error:
            pytest.fail(f"{path} is not whole: {error}")
        assert state["words"].shape == (3, 2) and origin["role"] == "judge"
    return cells


def test_twenty_kills_change_no_verdict(tmp_path):
    """Where a study ends (a fast machine gets there) it is held against the made-up truth, and the next begins."""
    rng, kills = random.Random(45), 0
    for attempt in range(KILLS):
        folder, acknowledged, cells, finished = tmp_path / str(attempt), 0, set(), False
        while not finished:
            process = start(folder)
            assert process.stdout is not None
            said = ""
            if kills < KILLS:
                said = process.stdout.readline() if rng.random() < 0.9 else ""  # now and then in its first moments
                time.sleep(rng.uniform(0, 0.12))
                process.send_signal(signal.SIGKILL)
            said += process.communicate(timeout=60)[0]
            assert process.returncode in (0, -signal.SIGKILL)
            kills += process.returncode != 0
            finished = "finished" in said
            if (folder / "study.db").exists():
                acknowledged += sum(int(n) for n in re.findall(r"^stored (\d+)$", said, re.MULTILINE))
                cells = check(folder, acknowledged, cells)
                acknowledged = len(cells)
        with Store.read(folder) as store:
            findings = Findings(store.registration, store.results())
        assert cells == set(findings.results)
        assert rows(findings) == rows_of(WORLD, killed())
        if kills == KILLS:
            return
    pytest.fail(f"only {kills} of {KILLS} kills hit a running study: let it do more")


def small() -> Spec:
    return spec(
        designs=("XXV", "uniform"), baseline="XXV", rates=(0.01,), tune_seeds=(0,), judge_seeds=10, alpha=0.9
    )  # fmt: skip


def test_a_real_study_killed_while_it_trains(tmp_path, quick_layout):
    study = small()
    quick_layout(study)
    code = (
        "import sys\nsys.path.insert(0, sys.argv[2])\nfrom pathlib import Path\nfrom qkvlab.study.run import run\n"
        "from test_run_killed import small\n"
        "if __name__ == '__main__':\n"
        "    run(small(), Path(sys.argv[1]), tell=lambda p: p.finished and print(p.finished, flush=True))\n"
    )
    script = tmp_path / "study.py"
    script.write_text(code)
    command = [sys.executable, str(script), str(tmp_path / "out"), str(Path(__file__).parent)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    done = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    said, _ = process.communicate(timeout=20)
    done = max([done, *map(int, said.split())])
    over = time.time()
    with Store.read(tmp_path / "out") as store:
        kept, (session,) = store.results(), store.sessions()
    assert len(kept) >= done > 0
    assert session.seconds > 0 and session.begun + session.seconds < over
    assert (session.number, session.workers, session.before) == (1, 1, 0)
    findings = run(study, tmp_path / "out")
    with Store.read(tmp_path / "out") as store:
        assert [(each.number, each.before) for each in store.sessions()] == [(1, 0), (2, len(kept))]
        assert store.sessions()[0] == session
    assert {r.cell: r for r in kept}.items() <= findings.results.items()
    assert {row["design"]: row["verdict"] for row in rows(findings)} == {"uniform": "worse"}
