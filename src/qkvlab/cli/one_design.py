"""One design in detail: what its parts do, what is made and kept, its matrices, and what a layer of it costs."""

from __future__ import annotations

from collections.abc import Callable

from rich import box
from rich.table import Table
from rich.text import Text

from qkvlab.cli.amounts import ratio, short, short_bytes
from qkvlab.cli.design_table import roomy
from qkvlab.cli.designs import Sizes, names_of, pieces
from qkvlab.cli.folding import folded
from qkvlab.contracts import Dims, LayerCost, Words
from qkvlab.designs import Design, Matrix
from qkvlab.tasks.vocabulary import Lang


def show_design(design: Design, sizes: Sizes, usual: LayerCost, lang: Lang) -> None:
    """Print everything that a design says of itself.

    Raises:
        Refusal: it cannot be at these sizes.
    """
    zh, console = lang == "zh", roomy()
    dims, found = design.sizes(sizes.dims), sizes.cost(design)
    console.print(Text(folded(design.words.of(lang), console.width), style="bold"))
    console.print(Text(" = ".join((design.name, *names_of(design)))), overflow="fold")
    said = pieces(design)
    if len(said) > 1:
        console.print()
        console.print(_pairs([(code, words.of(lang)) for code, words in said], console.width))
    console.print()
    console.print(_pairs(_made(design, dims, zh), console.width))
    console.print()
    console.print(_matrices(design, dims, zh))
    console.print()
    console.print(_costs(found, usual, sizes, lang))
    console.print()


def _pairs(lines: list[tuple[str, str]], width: int) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    first = max(Text(left).cell_len for left, _ in lines)
    table.add_column(width=min(first, width // 2))
    table.add_column()
    for left, right in lines:
        table.add_row(left, folded(right, width - min(first, width // 2) - 2))
    return table


def _made(design: Design, dims: Dims, zh: bool) -> list[tuple[str, str]]:
    heads, kept = design.head_sizes(dims), design.kept(dims)
    each = "{} 头 × {} 维" if zh else "{} heads of {}"
    numbers = " + ".join(f"{name} {count:,}" for name, count in kept.items())
    lines = [
        ("q", each.format(heads.queries, heads.channels)),
        ("k", each.format(heads.keys, heads.channels)),
        ("v", each.format(heads.values, heads.value_channels)),
        ("每词留下" if zh else "kept of a token", f"{numbers}{' 个数' if zh else ' numbers'}"),
        ("分数" if zh else "scores", f"q k^T / {design.root(dims):.4g}"),
    ]
    if design.window is not None:
        lines.append(("看多远" if zh else "sees", f"{design.window:,} {'个词' if zh else 'tokens back'}"))
    if not design.sees_itself:
        lines.append(("自己" if zh else "itself", "不看" if zh else "not seen"))
    return lines


def _matrices(design: Design, dims: Dims, zh: bool) -> Table:
    titles = ("matrix", "rows × columns", "entries", "use", "start", "trained")
    titles = ("矩阵", "行 × 列", "个数", "用法", "初值", "训练") if zh else titles
    table = _table()
    for at, title in enumerate(titles):
        table.add_column(title, justify="right" if at in (1, 2) else "left", overflow="fold")
    every = {**design.matrices(dims), "W_O": Matrix(dims.heads * dims.d_value, dims.d_model)}
    if design.out_bias:
        every["W_O_bias"] = Matrix(1, dims.d_model, start=0.0, multiplies=False)
    yes, no = ("是", "否") if zh else ("yes", "no")
    product, alone = ("矩阵乘", "逐元素") if zh else ("product", "by entry")
    noise = "随机" if zh else "noise"
    for name, matrix in every.items():
        table.add_row(
            name,
            f"{matrix.rows:,} × {matrix.columns:,}",
            f"{matrix.rows * matrix.columns:,}",
            product if matrix.multiplies else alone,
            noise if matrix.start is None else f"{matrix.start:g}",
            yes if matrix.trained else no,
        )
    return table


def _costs(found: LayerCost, usual: LayerCost, sizes: Sizes, lang: Lang) -> Table:
    dims, tokens = sizes.dims, f"{sizes.tokens:,}"

    def flops(number: int) -> str:
        return f"{short(number)} FLOPs"

    def of_all(number: int) -> str:
        return short_bytes(number * sizes.tokens)

    form = Words("（吸收形式）", ", absorbed") if found.absorbed else Words("", "")
    lines: list[tuple[Words, str, Callable[[int], str]]] = [
        (Words("参数", "parameters"), "parameters", short),
        (Words(f"{tokens} 个词一次前向", f"forward pass over {tokens} tokens"), "forward_flops", flops),
        (Words(f"生成第 {tokens} 个词{form.zh}", f"decoding token {tokens}{form.en}"), "decode_flops", flops),
        (Words("每词缓存", "cache of a token"), "cache_bytes", short_bytes),
        (Words(f"{tokens} 个词的缓存", f"cache of {tokens} tokens"), "cache_bytes", of_all),
        (Words("生成一词读的权重", "weights read to decode a token"), "read_weight_bytes", short_bytes),
        (Words("生成一词读的缓存", "cache read to decode a token"), "read_cache_bytes", short_bytes),
        (Words("一共读", "read in all"), "read_bytes", short_bytes),
    ]
    table = _table()
    size = Words(f"每数 {sizes.number} 字节", f"{sizes.number} byte{'s' if sizes.number > 1 else ''} a number").of(lang)
    of = f"d_model {dims.d_model:,}, heads {dims.heads:,}"
    table.add_column(Words(f"一层：{of}", f"one layer, {of}").of(lang), overflow="fold")
    table.add_column(size, justify="right", no_wrap=True)
    table.add_column("× QKV", justify="right", no_wrap=True)
    for said, name, written in lines:
        mine = getattr(found, name)
        table.add_row(said.of(lang), written(mine), ratio(mine, getattr(usual, name)))
    return table


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
