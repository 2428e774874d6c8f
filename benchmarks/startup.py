"""Whole commands from a cold process: `import qkvlab`, `ask`, `look`, `claims`, a refused name. Medians beside Python.

python benchmarks/startup.py [--repeats 9] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = {
    "python": [sys.executable, "-c", "pass"],
    "import qkvlab": [sys.executable, "-c", "import qkvlab, sys; assert 'torch' not in sys.modules"],
    "qkvlab ask": ["qkvlab", "ask", "怎么减肥？"],
    "qkvlab ask (English, directed)": ["qkvlab", "ask", "How do I lose weight?", "--setting", "directed/fixed"],
    "qkvlab look": ["qkvlab", "look", "我爱北京"],
    "qkvlab claims": ["qkvlab", "claims"],
    "qkvlab claims 4": ["qkvlab", "claims", "4"],
    "qkvlab study --designs QKW": ["qkvlab", "study", "--designs", "QKW"],
    "qkvlab designs": ["qkvlab", "designs"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(args.repeats):
        for name, command in COMMANDS.items():
            begun = time.perf_counter()
            subprocess.run(command, capture_output=True, check=False)
            times[name].append(time.perf_counter() - begun)
    rows = {name: round(statistics.median(values), 3) for name, values in times.items()}
    for name, seconds in rows.items():
        print(f"{seconds:7.3f} s  {name}")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
