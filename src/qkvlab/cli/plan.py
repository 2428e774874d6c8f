"""``qkvlab study --plan``: what a study will take, before anything is trained."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from qkvlab import record
from qkvlab.cli.amounts import ratio, short, short_bytes
from qkvlab.cli.folding import folded
from qkvlab.cli.study import Where
from qkvlab.errors import BadInput
from qkvlab.report.numbers import duration
from qkvlab.report.titles import task_words
from qkvlab.report.wording import capital
from qkvlab.study.plan import foresee
from qkvlab.study.plan_document import document
from qkvlab.study.run import seconds
from qkvlab.study.spec import Spec
from qkvlab.tasks.vocabulary import Lang
from qkvlab.training.effort import gpu

WIDE = 110
"""Columns from which the bounds of time and the record's time have columns of their own."""
NARROWEST = 78
SHORTEST = 12
"""Columns that the name of a setting has at least."""
_PARTS = {
    "base": ("解释器与 PyTorch", "interpreter and PyTorch"),
    "weights": ("权重", "weights"),
    "gradients": ("梯度", "gradients"),
    "moments": ("AdamW 的两个矩", "AdamW moments"),
    "data": ("数据", "data"),
    "activations": ("激活", "activations"),
    "exam": ("考试", "exam"),
}


def plan_study(
    spec: Spec, folder: Path, *, gpus: str | None, minutes: float, lang: Lang, where: Where, as_json: bool
) -> None:
    """Print what a study will take; trains nothing but trials of seconds, whose answers are kept.

    Raises:
        BadInput: an option that cannot be meant.
        StoreError: another study is in the folder.
    """
    limit = seconds(minutes)
    names = [] if gpus is None else [name.strip() for name in gpus.split(",") if name.strip()]
    if gpus is not None and not names:
        raise BadInput(f"--gpu needs at least one name; got {gpus!r}.")
    cards = [gpu(name) for name in names]

    def tell(text: str) -> None:
        print(f"{'试跑' if lang == 'zh' else 'trial'}: {text}", file=sys.stderr)

    plan = foresee(spec, folder, limit=limit, known=record.trained(), tell=tell, **where._asdict())
    found = document(plan, cards, minutes)
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    _show(found, lang)


def _show(found: dict[str, Any], lang: Lang) -> None:
    console = Console(highlight=False, width=max(Console().width, NARROWEST))
    zh = lang == "zh"

    def say(text: str, style: str = "") -> None:
        console.print(Text(folded(text, console.width), style=style))

    for task, table in _settings(found, lang, console.width).items():
        say(capital(task_words(task).name.of(lang)), "bold")
        console.print(table)
        console.print()
    total = found["total"]
    say(_cells(total, zh), "bold")
    if total["share_of_tuning_steps"] < 1:
        say(_budget(total["share_of_tuning_steps"], zh))
    say(_flops(total, zh))
    console.print()
    for line in (*_times(found, lang), *(_card(card, lang) for card in found["gpus"])):
        say(line)
    console.print()
    for line in _memory(found["memory"], zh):
        say(line)
    console.print()
    say("整个研究，每个模型都换成更大的：" if zh else "The whole study with every model larger:", "bold")
    console.print(_larger(found["larger"], lang))
    console.print()
    say(_legend(zh), "dim")


def _settings(found: dict[str, Any], lang: Lang, room: int) -> dict[str, Table]:
    """Return a table for each task, all with the same columns; names of settings give way where room is short."""
    zh, wide = lang == "zh", room >= WIDE
    heads = ["setting", "tune", "judge", "cells", "step", "all", "time"]
    if zh:
        heads = ["设置", "调参", "判定", "预计", "每步", "合计", "时间"]
    if wide:
        heads += ["最少–最多", "按记录", "方案"] if zh else ["least–most", "record", "designs"]
    lines = {(row["task"], row["setting"]): _line(row, lang, wide) for row in found["settings"]}
    widths = [max(map(cell_len, column)) for column in zip(heads, *lines.values(), strict=True)]
    gap = 2 if sum(widths) + 2 * len(widths) <= room else 1
    widths[0] = max(SHORTEST, min(widths[0], room - sum(widths[1:]) - gap * len(widths)))
    tables: dict[str, Table] = {}
    for (task, _), line in lines.items():
        if task not in tables:
            tables[task] = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap - 1, 0, 0))
            for at, (head, width) in enumerate(zip(heads, widths, strict=True)):
                tables[task].add_column(head, justify="right" if at else "left", width=width, overflow="fold")
        tables[task].add_row(*line)
    return tables


def _line(row: dict[str, Any], lang: Lang, wide: bool) -> list[str]:
    steps = [each["both"] for each in row["flops_per_step"].values()]
    line = [
        row["setting"],
        _span(row["tune"]),
        _span(row["judge"]),
        f"{row['tune']['expected'] + row['judge']['expected']:,}",
        short(round(sum(steps) / len(steps))),
        short(round(row["flops"]["expected"])),
        duration(row["seconds"]["expected"], lang),
    ]
    if wide:
        seconds, known = row["seconds"], row["recorded"]
        bounds = f"{duration(seconds['least'], lang)} – {duration(seconds['most'], lang)}"
        line += [bounds, duration(known["seconds"], lang) if known else "–", str(row["designs"])]
    return line


def _span(cells: dict[str, int]) -> str:
    least, most = cells["least"], cells["most"]
    return f"{least:,}" if least == most else f"{least:,}–{most:,}"


def _cells(total: dict[str, Any], zh: bool) -> str:
    cells, tune = total["cells"], total["tune"]
    if zh:
        return (
            f"还要训练：预计 {cells['expected']:,} 次（最少 {cells['least']:,}，最多 {cells['most']:,}），"
            f"其中调学习率 {tune['expected']:,} 次；已有 {cells['done']:,} 次。"
        )
    return (
        f"Trainings still to run: {cells['expected']:,} expected ({cells['least']:,} at least, {cells['most']:,} at "
        f"most), {tune['expected']:,} of them to tune rates; {cells['done']:,} are done."
    )


def _budget(share: float, zh: bool) -> str:
    if zh:
        return f"判定的训练都跑满登记的步数；调学习率时没有希望的会提前停，预计只走 {share:.0%} 的步数，已算在内。"
    return (
        "Judged trainings all run to their end. While rates are tuned, hopeless ones stop early, which is expected to "
        f"leave {share:.0%} of the tuning steps and is counted below."
    )


def _flops(total: dict[str, Any], zh: bool) -> str:
    least, expected, most = (short(round(total["flops"][bound])) for bound in ("least", "expected", "most"))
    if zh:
        return f"FLOPs（前向与反向的矩阵乘法）：预计 {expected}，最少 {least}，最多 {most}。"
    return f"FLOPs (matrix products, forward and backward): {expected} expected, {least} at least, {most} at most."


def _times(found: dict[str, Any], lang: Lang) -> list[str]:
    zh, seconds = lang == "zh", found["total"]["seconds"]
    least, expected, most = (duration(seconds[bound], lang) for bound in ("least", "expected", "most"))
    places = "; ".join(
        f"{task} {here['processes']} x {here['threads']} x {here['group']}" for task, here in found["here"].items()
    )
    lines = [
        f"本机：预计 {expected}（最少 {least}，最多 {most}）；进程 x 线程 x 同时训练的模型：{places}。"
        if zh
        else f"Here: {expected} expected ({least} at least, {most} at most); processes x threads x models: {places}."
    ]
    lines += _compiled(found, lang)
    known = found["total"]["recorded"]
    if known is not None:
        time, share = duration(known["seconds"], lang), f"{known['share_of_cells']:.0%}"
        slower = ratio(known["here_over_record"], 1)
        lines.append(
            f"按随包记录的速度：{time}（记录过其中 {share} 的训练）；按本机试跑，同样的训练是它的 {slower} 倍。"
            if zh
            else f"At the pace of the shipped record: {time} for the {share} of these trainings that it knows; by the "
            f"trial here the same ones take {slower} times as long."
        )
    given, share = found["minutes"]["given"], f"{max(found['minutes']['share'], 0.01):.0%}"
    lines.append(
        f"--minutes {given:g} 约完成预计的 {share}。"
        if zh
        else f"--minutes {given:g} does about {share} of what is expected."
    )
    return lines


def _compiled(found: dict[str, Any], lang: Lang) -> list[str]:
    """Say where steps are compiled, and what that was measured to give; nothing where none are."""
    lines = []
    for task, here in found["here"].items():
        rows = [row for row in found["settings"] if row["task"] == task]
        many, of = sum(row["compiled"] for row in rows), sum(row["designs"] for row in rows)
        if many:
            gain, cost = f"{here['compiled']['gain']:.2f}", duration(here["compiled"]["seconds"], lang)
            lines.append(
                f"{task}：{of} 组模型（设置 x 方案）中有 {many} 组编译训练步，实测是原来的 {gain} 倍快；"
                f"每次编译约 {cost}。都已算在内。"
                if lang == "zh"
                else f"{task}: steps of {many} of {of} settings x designs are compiled, measured to be {gain} times as "
                f"fast; compiling takes about {cost} a program. Both are counted."
            )
    return lines


def _card(card: dict[str, Any], lang: Lang) -> str:
    zh, seconds = lang == "zh", card["seconds"]
    least, expected, most = (duration(seconds[bound], lang) for bound in ("least", "expected", "most"))
    needed, assumed = short_bytes(card["device_bytes"]), card["assumed"]
    shares = f"{assumed['share_of_flops']:.0%}", f"{assumed['share_of_bandwidth']:.0%}"
    kernel = f"{assumed['seconds_per_kernel'] * 1e6:g}"
    if zh:
        fits = "" if card["fits"] else "，放不下"
        return (
            f"{card['name']}（外推，未测量）：预计 {expected}（最少 {least}，最多 {most}），"
            f"{card['group']} 个模型一组，显存 {needed}{fits}。"
            f"假设达到公布的 float32 峰值的 {shares[0]}、带宽的 {shares[1]}，启动一个核要 {kernel} 微秒；"
            "取数据和考试按本机的时间算。"
        )
    fits = "" if card["fits"] else ", which it has not"
    return (
        f"{card['name']} (extrapolated, not measured): {expected} expected ({least} at least, {most} at most), "
        f"groups of {card['group']}, {needed} on the card{fits}. Assumes {shares[0]} of the published float32 peak, "
        f"{shares[1]} of the bandwidth and {kernel} us to start a kernel; drawing data and examining take as long as "
        "here."
    )


def _memory(memory: dict[str, Any], zh: bool) -> list[str]:
    worker, largest = memory["worker"], memory["largest"]
    parts = (", " if not zh else "，").join(
        f"{words[0 if zh else 1]} {short_bytes(worker[name])}" for name, words in _PARTS.items()
    )
    where = f"{largest['task']} {largest['setting']} {largest['design']}"
    whole, machine = short_bytes(memory["whole"]), memory["machine"]
    of = "" if machine is None else f" / {short_bytes(machine)}"
    if zh:
        warn = "！超过本机内存" if machine is not None and memory["whole"] > machine else ""
        return [
            f"内存峰值：每个进程 {short_bytes(worker['total'])}（{where}，{largest['group']} 个一组）：{parts}。",
            f"{memory['processes']} 个进程加主进程共 {whole}{of}{warn}。",
        ]
    warn = ": more than this machine has" if machine is not None and memory["whole"] > machine else ""
    return [
        f"Peak memory: {short_bytes(worker['total'])} a worker ({where}, {largest['group']} at once): {parts}.",
        f"{memory['processes']} workers and the process that leads them: {whole}{of}{warn}.",
    ]


def _larger(rows: list[dict[str, Any]], lang: Lang) -> Table:
    zh = lang == "zh"
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("尺寸" if zh else "size", no_wrap=True)
    heads = (
        ("FLOPs ×", "时间 ×", "时间", "内存 ×", "每进程") if zh else ("FLOPs ×", "time ×", "time", "memory ×", "worker")
    )
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        numbers = ratio(row["flops"], 1), ratio(row["time"], 1), duration(row["seconds"], lang)
        table.add_row(f"{row['what']} × {row['times']}", *numbers, ratio(row["memory"], 1), short_bytes(row["worker"]))
    return table


def _legend(zh: bool) -> str:
    if zh:
        return (
            "调参、判定：最少–最多几次训练；预计：按记录、已有结果或最清楚的相当；每步、合计：FLOPs，各方案平均的一步、预计的全部。"
            "时间由本机试跑的速度按工作量推算，试跑时别的程序占了机器就偏慢；没有算进程启动。放大的各行同样是推算。"
        )
    return (
        "tune, judge: trainings, at least–at most; cells: expected from the record, from what is stored, or from the "
        "clearest equivalence; step, all: FLOPs of a mean step and of all expected. Time is this machine's measured "
        "rate carried over by work, too slow if other programs ran during the trial, and without starting processes; "
        "so are larger sizes."
    )
