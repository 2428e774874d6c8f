"""``qkvlab designs``: every design with what a layer of it costs at your sizes, or some of them in detail."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from qkvlab.contracts import Dims, LayerCost, Words
from qkvlab.designs import Design, Way, catalogue, parse
from qkvlab.designs.around import Around
from qkvlab.designs.costing import cost
from qkvlab.designs.grammar import famous, shown
from qkvlab.errors import BadInput
from qkvlab.tasks.vocabulary import Lang

WIDEST = 32768
"""Of d_model and of all heads together; no published model is wider."""

MOST_TOKENS, MOST_BYTES = 10**12, 16

GROUPS = {
    "ways": Words(
        "十五种方式：Q、K、V 与 x 之间共用哪些矩阵", "the fifteen ways: which of Q, K, V and x share a matrix"
    ),
    "forms": Words("对照，以及介于其间的形式", "controls, and forms between"),
    "bases": Words("隐向量（数字可改：MLA512/rope64）", "latents (choose the numbers: MLA512/rope64)"),
    "grouped": Words("分组的头（数字可改）", "grouped heads (choose the number)"),
    "parts": Words(
        "部件：写在任何方案后面，按先后起作用（数字可改）",
        "parts, behind any design, at work in the order in which they stand (choose the numbers)",
    ),
    "famous": Words("有名字的其他方案", "other designs that have a name"),
}


@dataclass(frozen=True)
class Sizes:
    """For which layer costs are counted.

    Attributes:
        dims: of the layer.
        tokens: see `cost`.
        number: bytes of a number.
    """

    dims: Dims
    tokens: int
    number: int

    def cost(self, design: Design) -> LayerCost:
        """Count what a layer of the design costs."""
        return cost(design, self.dims, self.tokens, bytes_per_number=self.number)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        group: one of `GROUPS`.
        design: what is listed.
        names: under which it is famous.
        cost: None where the design cannot be at these sizes.
        refusal: why not.
    """

    group: str
    design: Design
    names: tuple[str, ...]
    cost: LayerCost | None
    refusal: str = ""

    @property
    def words(self) -> Words:
        """What people read: of a part what it does, of anything else the whole."""
        alone = self.group == "parts" and isinstance(self.design, Around) and self.design.inner == Way("QKV")
        return self.design.adds if alone and isinstance(self.design, Around) else self.design.words


def names_of(design: Design) -> tuple[str, ...]:
    """Return the names under which a design is famous."""
    return tuple(name for name, known in famous().items() if known == design.name)


def rows(sizes: Sizes) -> list[Row]:
    """Return what the catalogue shows, in the order of `GROUPS`, then what is famous and not yet there."""
    found = {name: (_group(design), design) for name, design in shown().items()}
    for name in famous().values():
        found.setdefault(name, ("famous", parse(name)))
    lines = []
    for group, design in sorted(found.values(), key=lambda each: list(GROUPS).index(each[0])):
        try:
            lines.append(Row(group, design, names_of(design), sizes.cost(design)))
        except BadInput as refusal:
            lines.append(Row(group, design, names_of(design), None, str(refusal)))
    return lines


def _group(design: Design) -> str:
    if isinstance(design, Way):
        return "ways" if design.groups is None else "grouped"
    if isinstance(design, Around):
        return "parts"
    return "forms" if design.name in catalogue() else "bases"


def list_designs(names: Sequence[str], dims: Dims, tokens: int, number: int, *, lang: Lang, as_json: bool) -> None:
    """Print the table, or the named designs in detail."""
    if max(dims.d_model, dims.heads * max(dims.d_head, dims.d_value)) > WIDEST:
        raise BadInput(
            f"d_model and heads x d_head can be at most {WIDEST:,} here; got d_model={dims.d_model}, "
            f"heads x d_head = {dims.heads * dims.d_head}."
        )
    for name, size, most in (("tokens", tokens, MOST_TOKENS), ("bytes", number, MOST_BYTES)):
        if not 1 <= size <= most:
            raise BadInput(f"{name} must be a whole number from 1 to {most:,}; got {size}.")
    sizes = Sizes(dims, tokens, number)
    usual = sizes.cost(Way("QKV"))
    chosen = [parse(name) for name in names]
    if as_json:
        if chosen:
            found = [_detail(design, sizes, usual) for design in chosen]
        else:
            found = [{"group": row.group, **_line(row.design, row.cost, usual, row.refusal)} for row in rows(sizes)]
        of = {"dims": asdict(dims), "tokens": tokens, "bytes_per_number": number}
        print(json.dumps({**of, "designs": found}, ensure_ascii=False))
        return
    if chosen:
        from qkvlab.cli.one_design import show_design

        for design in chosen:
            show_design(design, sizes, usual, lang)
        return
    from qkvlab.cli.design_table import show_table

    show_table(rows(sizes), sizes, usual, lang)


def _line(design: Design, found: LayerCost | None, usual: LayerCost, refusal: str = "") -> dict[str, Any]:
    said = {"design": design.name, "names": list(names_of(design)), **asdict(design.words)}
    if found is None:
        return {**said, "refused": refusal}
    costs = {**asdict(found), "read_bytes": found.read_bytes}
    compared = ("parameters", "forward_flops", "decode_flops", "cache_numbers", "read_bytes")
    return {**said, **costs, "over_qkv": {name: costs[name] / getattr(usual, name) for name in compared}}


def _detail(design: Design, sizes: Sizes, usual: LayerCost) -> dict[str, Any]:
    dims = design.sizes(sizes.dims)
    return {
        **_line(design, sizes.cost(design), usual),
        "heads": asdict(design.head_sizes(dims)),
        "matrices": {name: asdict(matrix) for name, matrix in design.matrices(dims).items()},
        "kept": design.kept(dims),
        "parts": [asdict(said) for _, said in pieces(design)],
    }


def pieces(design: Design) -> list[tuple[str, Words]]:
    """Return what stands before the first slash and then each part, with what it says."""
    if not isinstance(design, Around):
        return [(design.name, design.words)]
    return [*pieces(design.inner), (design.name.removeprefix(design.inner.name), design.adds)]
