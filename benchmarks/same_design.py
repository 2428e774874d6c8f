"""A/A: every design of a recorded study against itself on disjoint seeds. No verdict may be "better" or "worse".

    python benchmarks/same_design.py results/2026-11-25-article [--json FILE]

The judged runs of one design on one setting are cut into two halves that share no seed and paired in order. Each pair
of halves is decided at alpha .05 by itself, so at most about one in twenty may claim a difference; at the study's own
share of alpha none should. No training happens here: the runs are those of results.csv.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import Counter, defaultdict
from pathlib import Path

from qkvlab.evidence import Outcome, Rule, decide


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    registration = json.loads((args.results / "registration.json").read_text("utf-8"))
    found = {}
    for name, alpha in (("alpha .05 each", 0.05), ("alpha of the study", registration["alpha_each"])):
        verdicts = Counter()
        for setting in registration["tasks"]:
            for runs in _judged(args.results / "results.csv", setting).values():
                half = len(runs) // 2
                rule = Rule(delta=setting["delta"], alpha=alpha)
                verdicts[decide(runs[:half], runs[half : 2 * half], None, rule).verdict] += 1
        found[name] = dict(verdicts)
        print(name, dict(verdicts))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


def _judged(path: Path, setting: dict) -> dict[str, list[Outcome]]:
    """Return the judged outcomes of each design in a setting, in the order of the seeds."""
    by_design: dict[str, dict[int, Outcome]] = defaultdict(dict)
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            here = row["task"] == setting["task"] and row["setting"] == setting["setting"]
            if here and row["role"] == "judge" and row["metric"] == setting["metric"]:
                outcome = Outcome(float(row["value"]), row["diverged"] in ("1", "true", "True"))
                by_design[row["design"]][int(row["seed"])] = outcome
    return {name: [runs[seed] for seed in sorted(runs)] for name, runs in by_design.items()}


if __name__ == "__main__":
    main()
