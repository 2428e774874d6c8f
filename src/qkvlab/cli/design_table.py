"""The table of designs, as wide as the terminal: words first, then the code and the numbers."""

from __future__ import annotations

import re

from rich import box
from rich.cells import cell_len
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from qkvlab.cli.amounts import ratio, short, short_bytes
from qkvlab.cli.designs import GROUPS, Row, Sizes
from qkvlab.cli.folding import folded
from qkvlab.contracts import LayerCost
from qkvlab.tasks.vocabulary import Lang

WIDE = 110
"""Columns of a terminal from which words and code stand side by side and every number has its ratio."""
CODE = 23
"""Longest code that stands beside the words."""
NARROWEST = 60
"""Columns below which lines are left to the terminal to break."""
_GAP = 2


def roomy() -> Console:
    """Return the terminal, taken for wide enough to hold the numbers."""
    return Console(highlight=False, width=max(Console().width, NARROWEST))


def show_table(rows: list[Row], sizes: Sizes, usual: LayerCost, lang: Lang) -> None:
    """Print the designs by group, and on one line those that cannot be at these sizes."""
    console = roomy()
    wide, zh = console.width >= WIDE, lang == "zh"
    titles = ["参数", "FLOPs", "缓存", "字节"] if zh else ["params", "FLOPs", "cached", "bytes"]
    titles = [titles[0], "×", titles[1], "×", *titles[2:], "×"] if wide else [*titles, "×"]
    lines = {row: _numbers(row.cost, usual, wide) for row in rows if row.cost is not None}
    widths = [max(cell_len(title), *(len(line[at]) for line in lines.values())) for at, title in enumerate(titles)]
    left = console.width - sum(widths) - _GAP * len(widths)
    room = left - CODE - _GAP if wide else left

    def table(heads: bool) -> Table:
        made = Table(box=box.SIMPLE_HEAD if heads else None, show_header=heads, show_edge=False, pad_edge=False)
        made.padding = (0, _GAP - 1 if heads else _GAP, 0, 0)  # beside what the box puts between columns
        made.add_column("方案" if zh else "design", width=room, overflow="fold")
        if wide:
            made.add_column("代号" if zh else "code", width=CODE, overflow="fold")
        for title, width in zip(titles, widths, strict=True):
            made.add_column(title, justify="right", width=width, no_wrap=True)
        return made

    console.print(Text(folded(_legend(sizes, lang, wide), console.width)))
    console.print()
    console.print(table(heads=True))
    for group, title in GROUPS.items():
        found = [row for row in lines if row.group == group]
        if found:
            console.print(Text(folded(title.of(lang), console.width), style="bold"))
            of_group = table(heads=False)
            for row in found:
                words = folded(row.words.of(lang), room)
                if wide:
                    of_group.add_row(words, _code(row, CODE), *lines[row])
                else:
                    code = Padding(_code(row, room - _GAP), (0, 0, 0, _GAP))
                    of_group.add_row(Group(Text(words), code), *lines[row])
            console.print(of_group)
            console.print()
    refused = [_called(row) for row in rows if row.cost is None]
    if refused:
        said = "这些尺寸下不存在：" if zh else "not at these sizes: "
        how = "（qkvlab designs 代号 说明原因）" if zh else " (qkvlab designs CODE says why)"
        console.print(Text(folded(said + ("、" if zh else ", ").join(refused) + how, console.width), style="dim"))


def _legend(sizes: Sizes, lang: Lang, wide: bool) -> str:
    dims, tokens, number = sizes.dims, sizes.tokens, sizes.number
    value = "" if dims.d_value == dims.d_head else f", d_value {dims.d_value}"
    of = f"d_model {dims.d_model:,}, heads {dims.heads:,}, d_head {dims.d_head:,}{value}"
    if lang == "zh":
        return (
            f"一层，含 W_O；{of}。FLOPs：生成第 {tokens:,} 个词；缓存：每词留下的数，"
            f"字节按每数 {number} 算；×：{'' if wide else '缓存'}与 QKV 之比。"
        )
    return (
        f"One layer, W_O included; {of}. FLOPs: to decode token {tokens:,}; cached: numbers kept of "
        f"each token, at {number} byte{'s' if number > 1 else ''} each; ×: {'' if wide else 'cache '}by QKV."
    )


def _numbers(found: LayerCost, usual: LayerCost, wide: bool) -> list[str]:
    parameters, flops = short(found.parameters), short(found.decode_flops)
    cached = f"{found.cache_numbers:,}", short_bytes(found.cache_bytes)
    kept = ratio(found.cache_numbers, usual.cache_numbers)
    if not wide:
        return [parameters, flops, *cached, kept]
    return [
        parameters, ratio(found.parameters, usual.parameters),
        flops, ratio(found.decode_flops, usual.decode_flops), *cached, kept,
    ]  # fmt: skip


def _called(row: Row) -> str:
    return row.names[0] if row.group == "famous" else " = ".join((row.design.name, *row.names))


def _code(row: Row, width: int) -> Text:
    # the famous name beside the code where both fit, else above it
    names, code = " = ".join(row.names), row.design.name
    if not names:
        return Text(_broken(code, width), style="bold")
    if len(code) + len(names) + 3 <= width:
        return Text.assemble((code, "bold"), f" = {names}")
    return Text.assemble((names, "bold"), "\n", _broken(code, width))


def _broken(code: str, width: int) -> str:
    """Break a long code before its slashes and dashes.

    >>> _broken("QQV/rope-interleaved-first4", 23)
    'QQV/rope-interleaved\\n-first4'
    """
    lines = [""]
    for piece in re.findall(r"[/-]?[^/-]+", code):
        if lines[-1] and len(lines[-1] + piece) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(lines)
