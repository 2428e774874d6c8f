"""How long a study took, in words."""

from __future__ import annotations

from typing import Any

from qkvlab.contracts import Words
from qkvlab.report.numbers import NOTHING, duration, span


def took(origin: dict[str, Any]) -> Words:
    """Say how long the calls of a study took on the wall, and on how many cores and workers.

    Args:
        origin: see `qkvlab.study.verdicts.origin`; one of an older version says nothing of it.

    >>> took({"wall": {"seconds": 9000, "calls": 2, "cores": [2], "workers": [1, 2], "before": 0}}).en
    '2.5 h in 2 calls, 2 cores, 1–2 workers'
    """
    wall = origin.get("wall")
    if wall is None:
        return Words(NOTHING, NOTHING)
    cores, workers = span(wall["cores"], 0), span(wall["workers"], 0)
    zh = [f"{wall['calls']} 次运行共 {duration(wall['seconds'], 'zh')}"]
    en = [f"{duration(wall['seconds'], 'en')} in {counted(wall['calls'], 'call')}"]
    if wall["cores"]:
        zh.append(f"{cores} 个核")
        en.append(counted(cores, "core"))
    if wall["workers"]:
        zh.append(f"{workers} 个训练进程")
        en.append(counted(workers, "worker"))
    if wall["before"]:
        zh.append(f"不含之前未计时的 {wall['before']:,} 次训练")
        en.append(f"without the {wall['before']:,} trainings before it was noted")
    return Words("，".join(zh), ", ".join(en))


def counted(count: int | str, name: str) -> str:
    """Write a count with its noun.

    >>> counted(1, "call"), counted("1–2", "worker")
    ('1 call', '1–2 workers')
    """
    return f"{count} {name}" + ("" if str(count) == "1" else "s")
