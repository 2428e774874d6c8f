"""``qkvlab designs`` and ``qkvlab tasks``: what there is, with numbers."""

from __future__ import annotations

import json
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from qkvlab import designs, tasks
from qkvlab.contracts import Dims
from qkvlab.errors import BadInput, Refusal
from qkvlab.tasks.vocabulary import Lang

WIDEST = 32768
"""Of d_model and of all heads together; costs are counted on real matrices, and no published model is wider."""


def list_designs(d_model: int, heads: int, d_head: int | None, *, lang: Lang, as_json: bool) -> None:
    """Print every design: words, code, parameters, FLOPs and cache, or why it cannot be at these sizes."""
    dims = Dims.of(d_model, heads, d_head)
    if max(dims.d_model, dims.heads * dims.d_head) > WIDEST:
        raise BadInput(
            f"d_model and heads x d_head can be at most {WIDEST:,} here; got d_model={d_model}, "
            f"heads x d_head = {dims.heads * dims.d_head}."
        )
    rows: list[dict[str, Any]] = []
    for name, design in designs.examples().items():
        row: dict[str, Any] = {"design": name, **vars(design.words)}
        try:
            rows.append({**row, **vars(design.cost(dims))})
        except Refusal as refusal:
            rows.append({**row, "refused": str(refusal)})
    if as_json:
        print(json.dumps({"dims": vars(dims), "designs": rows}, ensure_ascii=False))
        return
    zh = lang == "zh"
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column("设计" if zh else "design", max_width=56)
    table.add_column("代号" if zh else "code", no_wrap=True)
    for title in ("参数", "每词 FLOPs", "每词缓存") if zh else ("parameters", "FLOPs/token", "cached/token"):
        table.add_column(title, justify="right", no_wrap=True)
    refused = []
    for row in rows:
        if "refused" in row:
            refused.append(f"{row['design']}: {row['refused']}")
            continue
        cost = (row["parameters"], row["flops_per_token"], row["cache_per_token"])
        table.add_row(row[lang], row["design"], *(f"{n:,}" for n in cost))
    console = Console()
    console.print(
        f"d_model {dims.d_model}, heads {dims.heads}, d_head {dims.d_head}; "
        + ("只算 q、k、v 的矩阵" if zh else "matrices of q, k and v only")
    )
    console.print(table)
    for line in refused:
        console.print(line, style="dim", highlight=False)


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
