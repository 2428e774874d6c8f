"""``qkvlab report``: write what a study knows."""

from __future__ import annotations

from pathlib import Path

from qkvlab import report
from qkvlab.tasks.vocabulary import Lang


def write_report(folder: Path, *, lang: Lang, as_json: bool) -> None:
    """Write the report into the study's folder.

    Raises:
        StoreError: there is no study, or its folder cannot be written.
    """
    written = report.write(folder, lang)
    if as_json:
        print(written.verdicts.read_text("utf-8"), end="")
        return
    print(("报告：" if lang == "zh" else "report: ") + str(written.report))
