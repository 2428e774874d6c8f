"""``qkvlab tasks``: what there is, with numbers."""

from __future__ import annotations

import json

from rich import box
from rich.console import Console
from rich.table import Table

from qkvlab import tasks
from qkvlab.tasks.vocabulary import Lang


def list_tasks(*, lang: Lang, as_json: bool) -> None:
    """Print every task and setting."""
    found = [
        {
            "task": task.name,
            "setting": setting,
            **vars(task.describe(setting)),
            "metric": task.metric,
            "chance": task.chance(setting),
            "delta": task.delta,
            **task.facts(setting),
        }
        for task in tasks.catalogue().values()
        for setting in task.settings()
    ]
    if as_json:
        print(json.dumps({"tasks": found}, ensure_ascii=False))
        return
    zh = lang == "zh"
    console = Console()
    for task in tasks.catalogue().values():
        console.print(f"[bold]{task.words.of(lang)}[/] ({task.name})")
        table = Table(box=box.SIMPLE_HEAD, show_edge=False)
        table.add_column("设置" if zh else "setting", no_wrap=True)
        table.add_column("要做什么" if zh else "what is asked")
        for title in ("指标", "瞎猜", "δ") if zh else ("metric", "chance", "delta"):
            table.add_column(title, justify="right", no_wrap=True)
        for row in found:
            if row["task"] == task.name:
                table.add_row(row["setting"], row[lang], row["metric"], f"{row['chance']:g}", f"{row['delta']:g}")
        console.print(table)
