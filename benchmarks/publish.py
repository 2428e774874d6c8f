"""Make a finished study the record: into the package, into results/, into the READMEs.

    python benchmarks/publish.py qkvlab-runs/article --results results/2026-11-25-article

Refuses a study with undecided comparisons, unless --allow-undecided: then the record lists what each of them waits
for. The READMEs change only between their markers.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from qkvlab import record, report, tasks
from qkvlab.report import markdown
from qkvlab.report.numbers import NOTHING
from qkvlab.report.obstacles import Obstacle, obstacles
from qkvlab.report.took import took
from qkvlab.study.decisions import Findings
from qkvlab.study.store import Store
from qkvlab.study.weights import path_of, ship_model

ROOT = Path(__file__).parent.parent
READMES = {"en": ROOT / "README.md", "zh": ROOT / "README.zh.md"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--wall", help="how long it took and on what, where its store does not say so")
    parser.add_argument("--minutes", default=60, type=int, help="what to give --minutes when it is repeated")
    parser.add_argument("--note", help="what else the reader of the results must know, a paragraph")
    parser.add_argument("--allow-undecided", action="store_true", help="list what is open, with its obstacle")
    args = parser.parse_args()
    written = report.write(args.study)
    with Store.read(args.study) as store:
        findings = Findings(store.registration, store.results())
    document = json.loads(written.verdicts.read_text("utf-8"))
    wall = args.wall or took(document["origin"]).en
    if wall == NOTHING:
        raise SystemExit("the store does not say how long the study took; give --wall, such as '11 min on 2 cores'.")
    waiting = obstacles(findings)
    if waiting and not args.allow_undecided:
        raise SystemExit(f"{len(waiting)} comparisons are undecided; run the study on first, or --allow-undecided.")
    answer = {lang: report.short_answer(findings, lang) for lang in READMES}
    _ship(args.study, findings, {**document, "answer": answer})
    _results(args.results, written, findings)
    text = origin(args.results.name, document, answer["en"], wall, args.minutes, waiting)
    if args.note:
        text += f"\n{args.note}\n"
    (args.results / "README.md").write_text(text, "utf-8")
    for lang, path in READMES.items():
        path.write_text(filled(path.read_text("utf-8"), document, answer[lang], lang), "utf-8")


def filled(text: str, document: dict, answer: list[str], lang: str) -> str:
    """Put the record's answer, claims, table and legend between a README's markers."""
    blocks = {
        "answer": "\n".join(f"- {sentence}" for sentence in answer),
        "table": markdown.table(document, lang),
        "legend": markdown.legend(document, lang),
        "claims": markdown.claims(document, lang),
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
        names = findings.designs((task, setting)) if setting in tasks.find(task).shown else []
        if all(path_of(study, task, setting, name).is_file() for name in names):  # designs are shown side by side
            for name in names:
                ship_model(path_of(study, task, setting, name), path_of(into, task, setting, name))


def _results(folder: Path, written: report.Written, findings: Findings) -> None:
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for path in (written.report, written.results, written.verdicts, *written.papers):
        shutil.copyfile(path, folder / path.name)
    for path in written.figures:
        shutil.copyfile(path, folder / "figures" / path.name)
    (folder / "registration.json").write_text(
        json.dumps(findings.registration, ensure_ascii=False, indent=1) + "\n", "utf-8"
    )


def origin(name: str, document: dict, answer: list[str], wall: str, minutes: int, waiting: list[Obstacle]) -> str:
    """Return the README of a folder of results."""
    from_ = document["origin"]
    versions = ", ".join(f"{k} {' '.join(v)}" for k, v in from_["versions"].items())
    claims = markdown.claims(document, "en")
    half = any(row.get("products") == "bf16" for row in document["comparisons"])
    again = f"qkvlab study {from_['recipe']} --minutes {minutes} --products {'bf16' if half else 'fp32'}"
    still_open = [f"- {each.where.en}: {each.words.en}" for each in waiting]
    return "\n".join(
        [
            f"# {name}",
            "",
            *(f"- {sentence}" for sentence in answer),
            "",
            *([claims, ""] if claims else []),
            markdown.table(document, "en"),
            "",
            *(["Undecided, with what each would take if its next seeds are like the last:", ""] if waiting else []),
            *([*still_open, ""] if waiting else []),
            f"Repeat it: `{again}`. It took {wall}: {from_['cells']:,} trainings, {from_['model_seconds']:,} seconds "
            "summed over models.",
            "",
            f"Machine: {from_['machine']}; device: {' '.join(from_['devices'])}; {versions}.",
            f"Registration {from_['registration']}, source {from_['source']}.",
            "",
            "`registration.json` was written before the first run; `results.csv` has every training; `verdicts.json`",
            "has every interval; `report.html` shows all of it, in Chinese and English; `figures/` has its pictures;",
            "`table.tex` and `table.zh.tex` are for papers, `citation.bib` cites the study.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
