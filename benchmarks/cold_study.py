"""`qkvlab study` from a cold start: seconds, memory, and what was decided when.

    python benchmarks/cold_study.py [--minutes 3] [--json FILE]

The layout cache and the study's folder are fresh, so the measured trial is part of the time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

FIRST = ("same-word/fixed", "synonym/fixed", "directed/fixed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", default="3")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "XDG_CACHE_HOME": f"{folder}/cache"}
        command = ["qkvlab", "study", "--minutes", args.minutes, "--out", f"{folder}/study", "--json"]
        begun = time.perf_counter()
        peak = 0
        with Path(f"{folder}/out.json").open("wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL, env=environment)
            while process.poll() is None:
                peak = max(peak, _memory(process.pid))
                time.sleep(0.5)
        seconds = time.perf_counter() - begun
        rows = json.loads(Path(f"{folder}/out.json").read_text())["comparisons"]
    first = [row for row in rows if row["setting"] in FIRST]
    result = {
        "seconds": round(seconds, 1),
        "peak_memory_mb": round(peak / 2**20),
        "first_settings_decided": f"{sum(r['verdict'] != 'undecided' for r in first)} of {len(first)}",
        "all_decided": f"{sum(r['verdict'] != 'undecided' for r in rows)} of {len(rows)}",
    }
    print(json.dumps(result, indent=1))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


def _memory(pid: int) -> int:
    """Resident bytes of a process and its descendants, shared pages counted once (proportional set size)."""
    total = 0
    for child in _tree(pid):
        try:
            text = Path(f"/proc/{child}/smaps_rollup").read_text()
            total += int(text.split("Pss:")[1].split()[0]) * 1024
        except (OSError, IndexError):
            continue
    return total


def _tree(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        try:
            found += [int(c) for c in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
        except OSError:
            continue
    return found


if __name__ == "__main__":
    main()
