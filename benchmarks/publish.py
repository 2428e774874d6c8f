"""Make a finished study the record: into the package, into results/, into the READMEs.

    python benchmarks/publish.py qkvlab-runs/article --results results/2026-11-22-article

Refuses a study with undecided comparisons. The READMEs change only between their markers.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from qkvlab import record, report, tasks
from qkvlab.report import markdown
from qkvlab.study.decisions import Findings
from qkvlab.study.store import Store
from qkvlab.study.weights import path_of, ship_model

ROOT = Path(__file__).parent.parent
READMES = {"en": ROOT / "README.md", "zh": ROOT / "README.zh.md"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--wall", required=True, help="how long it took and on what, such as '11 min on 2 cores'")
    args = parser.parse_args()
    written = report.write(args.study)
    with Store.read(args.study) as store:
        findings = Findings(store.registration, store.results())
    document = json.loads(written.verdicts.read_text("utf-8"))
    open_ones = [row for row in document["comparisons"] if row["verdict"] == "undecided"]
    if open_ones:
        raise SystemExit(f"{len(open_ones)} comparisons are undecided; run the study on first.")
    answer = {lang: report.short_answer(findings, lang) for lang in READMES}
    _ship(args.study, findings, {**document, "answer": answer})
    _results(args.results, written, findings)
    (args.results / "README.md").write_text(_origin(args.results.name, document, answer["en"], args.wall), "utf-8")
    for lang, path in READMES.items():
        path.write_text(filled(path.read_text("utf-8"), document, answer[lang], lang), "utf-8")


def filled(text: str, document: dict, answer: list[str], lang: str) -> str:
    """Put the record's answer, table and legend between a README's markers."""
    blocks = {
        "answer": "\n".join(f"- {sentence}" for sentence in answer),
        "table": markdown.table(document, lang),
        "legend": markdown.legend(document, lang),
    }
    for name, block in blocks.items():
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        head, rest = text.split(begin)
        text = f"{head}{begin}\n{block}\n{end}{rest.split(end)[1]}"
    return text


def _ship(study: Path, findings: Findings, document: dict) -> None:
    into = record.folder()
    name = f"{findings.registration['recipe']}.json"
    (into / name).write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", "utf-8")
    shutil.rmtree(into / "models", ignore_errors=True)
    for task, setting in findings.settings:
        if setting in tasks.find(task).shown:
            for design in findings.registration["designs"]:
                ship_model(path_of(study, task, setting, design), path_of(into, task, setting, design))


def _results(folder: Path, written: report.Written, findings: Findings) -> None:
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for path in (written.report, written.results, written.verdicts):
        shutil.copyfile(path, folder / path.name)
    for path in written.figures:
        shutil.copyfile(path, folder / "figures" / path.name)
    (folder / "registration.json").write_text(
        json.dumps(findings.registration, ensure_ascii=False, indent=1) + "\n", "utf-8"
    )


def _origin(name: str, document: dict, answer: list[str], wall: str) -> str:
    origin = document["origin"]
    versions = ", ".join(f"{k} {' '.join(v)}" for k, v in origin["versions"].items())
    return "\n".join(
        [
            f"# {name}",
            "",
            *(f"- {sentence}" for sentence in answer),
            "",
            markdown.table(document, "en"),
            "",
            f"Repeat it: `qkvlab study {origin['recipe']} --minutes 60`. It took {wall}: {origin['cells']:,} "
            f"trainings, {origin['model_seconds']:,} seconds summed over models.",
            "",
            f"Machine: {origin['machine']}; device: {' '.join(origin['devices'])}; {versions}.",
            f"Registration {origin['registration']}, source {origin['source']}.",
            "",
            "`registration.json` was written before the first run; `results.csv` has every training; `verdicts.json`",
            "has every interval; `report.html` shows all of it, in Chinese and English; `figures/` has its pictures.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
