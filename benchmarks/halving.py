"""Would stopping hopeless rates have changed a chosen one? The registered rule, replayed on a study that stopped none.

    python benchmarks/halving.py results/2026-11-25-article --curves CURVES.json --json FILE
    python benchmarks/halving.py results/2026-11-25-article --curves CURVES.json --train

The folder has the registration and every training's metrics; the curves are the training losses of its tuning cells.
With --train the cells that have none are trained again first, whole, one design after the other; that takes hours and
may be interrupted. Rounds of the grid are replayed as a study plays them: a rate that stops is not chosen, an edge that
is chosen widens the grid. Beside the rule: halves, whatever their losses, at the same rungs.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

from qkvlab import designs, tasks
from qkvlab.study.cells import Cell, Result
from qkvlab.study.decisions import Findings, Key
from qkvlab.study.registration import FLOOR, HALVING
from qkvlab.training.halving import STOPPED, Contest, Halving, Rung

FLOORS = (FLOOR, "frozen")
GROUP = 12
Trained = dict[Cell, Result]


class Halves(Halving):
    """Half of the rates go on at each rung, whatever their losses."""

    def staying(self, curves: Any, point: int, rung: Rung, whole: int) -> set[float]:
        losses = self.losses(curves, point, whole)
        rates = {rate for _, rate in losses}
        mean = {rate: sum(loss for (_, each), loss in losses.items() if each == rate) for rate in rates}
        ranked = sorted(rates, key=lambda rate: mean[rate])
        return set(ranked[: math.ceil(len(ranked) / 2)])


def tuned(folder: Path, curves: dict[str, list[float]]) -> Trained:
    """Return the tuning cells of a published study, each with its curve where there is one."""
    metrics: defaultdict[Cell, dict[str, float]] = defaultdict(dict)
    rows: dict[Cell, dict[str, str]] = {}
    with (folder / "results.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["role"] == "tune":
                cell = Cell(row["task"], row["setting"], row["design"], "tune", int(row["seed"]), float(row["lr"]))
                metrics[cell][row["metric"]] = float(row["value"])
                rows[cell] = row
    return {
        cell: Result(
            cell=cell, metrics=metrics[cell], diverged=row["diverged"] == "true", steps=int(row["steps"]),
            losses=tuple(curves.get(named(cell), ())), seconds=float(row["seconds"]), group=0, device="cpu",
        )
        for cell, row in rows.items()
    }  # fmt: skip


def named(cell: Cell) -> str:
    return f"{cell.task} {cell.setting} {cell.design} {cell.seed} {cell.lr!r}"


def train(cells: Trained, curves: dict[str, list[float]], path: Path) -> None:
    """Train what has no curve, and write the curves after each design."""
    from qkvlab.training.recipe import Run
    from qkvlab.training.together import train_together

    arms: defaultdict[tuple[str, str, str], list[Cell]] = defaultdict(list)
    for cell, result in sorted(cells.items()):
        if not result.losses:
            arms[cell.task, cell.setting, cell.design].append(cell)
    for (task, setting, design), missing in arms.items():
        for begin in range(0, len(missing), GROUP):
            part = missing[begin : begin + GROUP]
            runs = [Run(cell.seed, cell.lr) for cell in part]
            found = train_together(tasks.find(task), setting, designs.parse(design), runs)
            curves |= {named(cell): list(one.losses) for cell, one in zip(part, found, strict=True)}
        write(curves, path)
        print(f"trained {task} {setting} {design}", flush=True)


def write(curves: dict[str, list[float]], path: Path) -> None:
    short = {name: [float(f"{loss:.5g}") for loss in curve] for name, curve in sorted(curves.items())}
    path.write_text(json.dumps(short, separators=(",", ":")).replace("],", "],\n") + "\n", "utf-8")


def replay(registration: dict[str, Any], key: Key, cells: Trained, halving: Halving | None) -> dict[str, Any] | None:
    """Tune a setting from what was trained; None where the grid grows to a rate that the study never tried."""
    told = {**registration, "tuning": {k: v for k, v in registration["tuning"].items() if k != "halving"}}
    findings = Findings(told)
    findings.halving = halving
    while missing := findings.tuning(key).missing:
        if any(cell not in cells for cell in missing):
            return None
        for name in findings.designs(key):
            group = [cell for cell in missing if cell.design == name]
            findings.add(played([cells[cell] for cell in group], findings.contest(group)))
    runs = findings.results.values()
    return {
        "chosen": findings.tuning(key).chosen,
        "steps": sum(run.steps for run in runs),
        "trainings": len(runs),
        "stopped": sum(run.stopped for run in runs),
        "metric": {name: findings.tuned(key, name) for name in findings.designs(key)},
    }


def played(results: list[Result], contest: Contest | None) -> list[Result]:
    """Return results as the rule would have left them."""
    live = {(one.cell.seed, one.cell.lr): one for one in results}
    found = dict(live)
    whole = len(results[0].losses)
    for point, rung in contest.halving.at(whole) if contest else ():
        curves = {run: one.losses[:point] for run, one in live.items()}
        staying = contest.staying(curves, point, rung, whole)
        losses = contest.halving.losses(curves, point, whole)
        for run in [run for run in live if run[1] not in staying]:
            one = live.pop(run)
            steps = one.steps * point // whole
            found[run] = replace(one, losses=curves[run], metrics={STOPPED: losses[run]}, steps=steps)
    return list(found.values())


def compared(registration: dict[str, Any], cells: Trained, halving: Halving) -> dict[str, Any]:
    """Hold a rule against no rule, over every setting whose curves are whole."""
    rows, unknown, left_out = [], [], []
    for setting in registration["tasks"]:
        key = setting["task"], setting["setting"]
        own = {cell: one for cell, one in cells.items() if (cell.task, cell.setting) == key}
        if not all(one.losses for one in own.values()):
            left_out.append(list(key))
            continue
        plain, ruled = (replay(registration, key, own, rule) for rule in (None, halving))
        assert plain is not None, "the study itself was played"
        if ruled is None:
            unknown.append(list(key))
            continue
        rows.append((setting, plain, ruled))
    changed = [
        {
            "task": setting["task"], "setting": setting["setting"], "design": name, "floor": name in FLOORS,
            "rate": plain["chosen"][name], "rate_with_rule": ruled["chosen"][name],
            "metric": plain["metric"][name], "metric_with_rule": ruled["metric"][name],
            "within_the_tie": ruled["metric"][name] <= plain["metric"][name] + tie(registration, setting),
        }
        for setting, plain, ruled in rows for name in plain["chosen"] if plain["chosen"][name] != ruled["chosen"][name]
    ]  # fmt: skip
    names = list(dict.fromkeys(setting["task"] for setting, _, _ in rows))
    return {
        "rule": halving.told(),
        "arms": sum(len(plain["chosen"]) for _, plain, _ in rows),
        "changed": len(changed),
        "changed_beyond_the_tie": sum(not each["within_the_tie"] for each in changed),
        "trainings": sum(ruled["trainings"] for _, _, ruled in rows),
        "stopped": sum(ruled["stopped"] for _, _, ruled in rows),
        "share_of_steps_saved": saved(rows),
        "share_by_task": {name: saved([row for row in rows if row[0]["task"] == name]) for name in names},
        "changes": changed,
        "grid_grows_beyond_what_was_tried": unknown,
        "without_curves": left_out,
    }


def tie(registration: dict[str, Any], setting: dict[str, Any]) -> float:
    return registration["tuning"]["tie"] * setting["delta"]


def saved(rows: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]) -> float:
    return 1 - sum(ruled["steps"] for _, _, ruled in rows) / max(1, sum(plain["steps"] for _, plain, _ in rows))


def show(name: str, found: dict[str, Any]) -> None:
    shares = ", ".join(f"{task} {share:.0%}" for task, share in found["share_by_task"].items())
    print(
        f"{name}: {found['share_of_steps_saved']:.1%} of the tuning steps saved ({shares}); {found['stopped']} of "
        f"{found['trainings']} trainings stop; {found['changed']} of {found['arms']} chosen rates change, "
        f"{found['changed_beyond_the_tie']} of them beyond the registered tie; in "
        f"{len(found['grid_grows_beyond_what_was_tried'])} settings the grid would grow beyond what was tried"
    )
    for each in found["changes"]:
        beyond = "" if each["within_the_tie"] else "  beyond the tie"
        print(
            f"  {each['task']} {each['setting']} {each['design']}: {each['rate']:g} -> {each['rate_with_rule']:g}, "
            f"{each['metric']:.4f} -> {each['metric_with_rule']:.4f}{beyond}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--curves", type=Path, required=True)
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    registration = json.loads((args.study / "registration.json").read_text("utf-8"))
    curves = json.loads(args.curves.read_text("utf-8")) if args.curves.exists() else {}
    cells = tuned(args.study, curves)
    if args.train:
        train(cells, curves, args.curves)
        cells = tuned(args.study, curves)
    halves = Halves(HALVING.rungs, HALVING.window, HALVING.enough)
    found = {name: compared(registration, cells, rule) for name, rule in (("rule", HALVING), ("halves", halves))}
    found["halves"]["rule"] = "the better half of the rates goes on at the same rungs"
    for name, each in found.items():
        show(name, each)
    if args.json:
        args.json.write_text(json.dumps({"study": args.study.name, **found}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
