"""From the store in a folder to the report beside it: page, table, verdicts and figures, each whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from qkvlab.contracts import Words
from qkvlab.errors import StoreError, unknown
from qkvlab.report.cite import bibtex
from qkvlab.report.figures.cost import by_cache, by_params
from qkvlab.report.figures.curves import curves
from qkvlab.report.figures.growing import growing
from qkvlab.report.figures.matrix import TITLE, matrix
from qkvlab.report.figures.sentence import reading
from qkvlab.report.figures.shelf import panel
from qkvlab.report.gather import look
from qkvlab.report.latex import tables
from qkvlab.report.page import page
from qkvlab.report.sentence import Read, read_all
from qkvlab.report.shelf import Shelf, ask_all
from qkvlab.report.svg import Drawing, Lang, grid
from qkvlab.report.table import results_csv
from qkvlab.report.view import Setting, Study
from qkvlab.study.decisions import Findings
from qkvlab.study.store import STORE_NAME, Store
from qkvlab.study.verdicts import document

LANGS: tuple[Lang, ...] = ("zh", "en")
_NEEDED = {
    "recipe", "designs", "baseline", "tasks", "seeds", "alpha", "comparisons", "alpha_each", "bets", "tuning", "source",
}  # fmt: skip


@dataclass(frozen=True)
class Written:
    """Where the report lies; papers are the files to cite it and to put it into a paper."""

    report: Path
    results: Path
    verdicts: Path
    figures: tuple[Path, ...]
    papers: tuple[Path, ...]


def write(folder: Path, lang: str | None = None) -> Written:
    """Write the report of the study in `folder`; a study that is still running may be reported too.

    Args:
        folder: holds ``study.db`` and, where models were saved, ``models/``.
        lang: language in which the page starts, ``zh`` or ``en``; None for the reader's own.

    Raises:
        BadInput: another language.
        StoreError: there is no study, it cannot be read, or the folder cannot be written.
    """
    start = _language(lang)
    with Store.read(folder) as store:
        missing = _NEEDED - store.registration.keys()
        if missing:
            raise StoreError(
                f"the study in {folder} was registered by another version of qkvlab (it has no "
                f"{', '.join(sorted(missing))}); report it with that version."
            )
        findings = Findings(store.registration, store.results())
        sessions = store.sessions()
        study = look(findings, store.aside(), sessions)
    shelves, readings = ask_all(folder, study), read_all(folder, study)
    day = datetime.fromtimestamp((folder / STORE_NAME).stat().st_mtime, UTC).date()
    texts = {
        "results.csv": results_csv(findings),
        "verdicts.json": json.dumps(document(findings, sessions), ensure_ascii=False, allow_nan=False, indent=1) + "\n",
        "report.html": page(study, shelves, readings, day, start),
    }
    papers = {"citation.bib": bibtex(study, day), "table.tex": tables(study, "en"), "table.zh.tex": tables(study, "zh")}
    drawn = {
        f"{name}.{each}.svg": drawing.standalone(each, title)
        for name, (drawing, title) in drawings(study, shelves, readings).items()
        for each in LANGS
    }
    for name, text in (texts | papers).items():
        _whole(folder / name, text)
    for name, text in drawn.items():
        _whole(folder / "figures" / name, text)
    return Written(
        folder / "report.html",
        folder / "results.csv",
        folder / "verdicts.json",
        tuple(folder / "figures" / name for name in drawn),
        tuple(folder / name for name in papers),
    )


def drawings(study: Study, shelves: list[Shelf], readings: list[Read]) -> dict[str, tuple[Drawing, Words]]:
    """Return the figures that become files, with their titles; what has no data yet is left out."""
    found: dict[str, tuple[Drawing, Words]] = {"verdicts": (matrix(study), TITLE)}
    if study.main:
        grown = [_titled(s, grid([growing(s, c) for c in s.comparisons if c.verdict.n], 4)) for s in study.main]
        found["intervals"] = (grid(grown, 1), Words("区间随种子数收窄", "Intervals over seeds"))
        found["curves"] = (grid([curves(s) for s in study.main], 2), Words("训练损失", "Training losses"))
        pairs = [_titled(s, grid([by_params(s), by_cache(s)], 2)) for s in study.main]
        found["cost"] = (grid(pairs, 1), Words("代价与质量", "Cost beside quality"))
    for shelf in shelves:
        name = "shelf-" + "".join(c if c.isalnum() else "-" for c in shelf.setting.key[1])
        title = Words(f"{shelf.question.zh}各设计找到了什么", f"{shelf.question.en} What each design finds")
        found[name] = (_titled(shelf.setting, grid([panel(shelf, a) for a in shelf.asked.replies], 3, gap=28)), title)
    for read in readings:
        name = "sentence-" + "".join(c if c.isalnum() else "-" for c in read.setting.key[1])
        title = Words("我爱北京：各设计的“爱”看谁", "I love Beijing: whom the verb looks at under each design")
        found[name] = (_titled(read.setting, grid([reading(read, a) for a in read.looks.replies], 3, gap=28)), title)
    return found


def _language(lang: str | None) -> Lang | None:
    for known in LANGS:
        if lang == known:
            return known
    if lang is not None:
        raise unknown("language", lang, LANGS)
    return None


def _titled(setting: Setting, drawing: Drawing) -> Drawing:
    sheet = Drawing(drawing.width, drawing.height + 22)
    sheet.text(16, 18, setting.full.words, "strong")
    sheet.place(drawing, 0, 22)
    return sheet


def _whole(path: Path, text: str) -> None:
    """Replace a file at once, so that a reader never sees half of it."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(exist_ok=True)
        part.write_text(text, "utf-8", newline="\n")
        os.replace(part, path)
    except OSError as error:
        _forget(part)
        why = error.strerror or error
        raise StoreError(f"cannot write {path}: {why}; free space or make the folder writable.") from None
    except BaseException:
        _forget(part)
        raise


def _forget(part: Path) -> None:
    with contextlib.suppress(OSError):  # a folder that takes nothing has nothing to forget
        part.unlink(missing_ok=True)
