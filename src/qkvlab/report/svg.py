"""Pictures as text: a few shapes, escaped, without ids, so that many fit on one page.

A text may be `Words`. On the page both languages are drawn in one place and the page shows one of them; a
file of its own is drawn in one language.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from markupsafe import Markup, escape

from qkvlab.contracts import Words
from qkvlab.report.colours import LIGHT, rules
from qkvlab.tasks.vocabulary import Lang

Point = tuple[float, float]

FONT = (
    'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Noto Sans CJK SC", "PingFang SC", '
    '"Microsoft YaHei", sans-serif'
)
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


class Drawing:
    """A picture of a fixed size that shapes are added to; y grows downward."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self._parts: list[str | _Text | _Placed] = []

    def shape(self, tag: str, cls: str = "", **attributes: float | str) -> None:
        """Add any element without content."""
        said = "".join(f' {name.replace("_", "-")}="{_value(v)}"' for name, v in attributes.items())
        self._parts.append(f"<{tag}{_class(cls)}{said}/>")

    def line(self, x1: float, y1: float, x2: float, y2: float, cls: str = "grid") -> None:
        """Add a straight line."""
        self.shape("line", cls, x1=x1, y1=y1, x2=x2, y2=y2)

    def rect(self, x: float, y: float, width: float, height: float, cls: str, *, round_: float = 0) -> None:
        """Add a box."""
        self.shape("rect", cls, x=x, y=y, width=max(width, 0), height=height, **({"rx": round_} if round_ else {}))

    def path(self, points: Iterable[Point], cls: str, *, closed: bool = False) -> None:
        """Add a line through points."""
        said = "L".join(f"{_value(x)} {_value(y)}" for x, y in points)
        if said:
            self.shape("path", cls, d=f"M{said}{'Z' * closed}")

    def text(self, x: float, y: float, said: str | Words, cls: str = "", *, anchor: str = "start") -> None:
        """Add a line of text that stands on y."""
        self._parts.append(_Text(x, y, said, cls, anchor))

    def place(self, other: Drawing, x: float, y: float) -> None:
        """Add a whole picture."""
        self._parts.append(_Placed(other, x, y))

    def inside(self, lang: Lang | None = None) -> str:
        """Return the shapes; both languages when none is chosen."""
        return "".join(part if isinstance(part, str) else part.markup(lang) for part in self._parts)

    def inline(self, labelled_by: str = "") -> Markup:
        """Return the picture for the page, named by the element of that id, or as decoration."""
        role = f'role="img" aria-labelledby="{escape(labelled_by)}"' if labelled_by else 'aria-hidden="true"'
        return Markup(
            f'<svg class="fig" {role} width="{_value(self.width)}" height="{_value(self.height)}" '
            f'viewBox="0 0 {_value(self.width)} {_value(self.height)}">{self.inside()}</svg>'
        )

    def standalone(self, lang: Lang, title: Words) -> str:
        """Return a file of its own: one language, light colours, its styles inside."""
        width, height = _value(self.width), _value(self.height)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="fig" xml:lang="{lang}" role="img" width="{width}" '
            f'height="{height}" viewBox="0 0 {width} {height}"><title>{clean(title.of(lang))}</title>'
            f"<style>{escape(_BASE + rules(LIGHT))}</style>"
            f'<rect class="paper" width="{width}" height="{height}"/>{self.inside(lang)}</svg>\n'
        )


class _Text:
    def __init__(self, x: float, y: float, said: str | Words, cls: str, anchor: str) -> None:
        self.said, self.cls = said, cls
        self.where = f'x="{_value(x)}" y="{_value(y)}"' + (f' text-anchor="{anchor}"' if anchor != "start" else "")

    def markup(self, lang: Lang | None) -> str:
        said = self.said
        if isinstance(said, str) or lang or said.zh == said.en:
            text = said if isinstance(said, str) else said.of(lang or "en")
            return f"<text{_class(self.cls)} {self.where}>{clean(text)}</text>"
        return "".join(
            f'<text lang="{each}"{_class(self.cls)} {self.where}>{clean(said.of(each))}</text>' for each in ("zh", "en")
        )


class _Placed:
    def __init__(self, drawing: Drawing, x: float, y: float) -> None:
        self.drawing, self.x, self.y = drawing, x, y

    def markup(self, lang: Lang | None) -> str:
        where = f"translate({_value(self.x)} {_value(self.y)})"
        return f'<g transform="{where}">{self.drawing.inside(lang)}</g>'


def grid(drawings: Sequence[Drawing], columns: int, gap: float = 16) -> Drawing:
    """Lay pictures out in rows, all cells as large as the largest."""
    columns = max(1, min(columns, len(drawings)))
    width = max((d.width for d in drawings), default=0)
    height = max((d.height for d in drawings), default=0)
    rows = -(-len(drawings) // columns)
    sheet = Drawing(columns * width + (columns + 1) * gap, rows * height + (rows + 1) * gap)
    for i, drawing in enumerate(drawings):
        row, column = divmod(i, columns)
        sheet.place(drawing, gap + column * (width + gap), gap + row * (height + gap))
    return sheet


def wrap(text: str, width: float, size: float, lines: int = 2) -> list[str]:
    """Break a text into at most `lines` lines of a width; what does not fit ends in an ellipsis."""
    found = [""]
    for piece in re.findall(r"[\u2e80-\uffef]|[^\s\u2e80-\uffef]+\s*|\s+", text):
        if found[-1] and text_width(found[-1] + piece.rstrip(), size) > width:
            found.append("")
        found[-1] += piece
    found = [line.strip() for line in found]
    if len(found) > lines:
        found = [*found[: lines - 1], found[lines - 1] + "…"]
    return [_cut(line, width, size) for line in found]


def text_width(text: str, size: float) -> float:
    """Estimate how wide a text is drawn: a Chinese character is as wide as high, others about half."""
    return size * sum(_advance(c) for c in text)


def _advance(char: str) -> float:
    if unicodedata.east_asian_width(char) in "WF":
        return 1.0
    return 0.72 if char.isupper() else 0.57


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move positions apart until neighbours are `gap` away, as little as possible, inside [low, high].

    >>> spread([10, 11, 50], gap=10, low=0, high=100)
    [5.5, 15.5, 50]
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    gap = min(gap, (high - low) / max(len(wanted) - 1, 1))
    blocks: list[tuple[float, list[int]]] = []  # (place of the first, members), each block tightly packed
    for i in order:
        start, members = wanted[i], [i]
        while blocks and blocks[-1][0] + gap * len(blocks[-1][1]) > start:
            members = blocks.pop()[1] + members
            start = sum(wanted[m] - gap * k for k, m in enumerate(members)) / len(members)
            start = min(max(start, low), high - gap * (len(members) - 1))
        blocks.append((min(max(start, low), high - gap * (len(members) - 1)), members))
    found = list(wanted)
    for start, members in blocks:
        for k, member in enumerate(members):
            found[member] = start + gap * k if len(members) > 1 else start
    return found


def clean(text: str) -> str:
    """Make a text fit to stand between tags."""
    return str(escape(printable(text)))


def printable(value: Any) -> Any:
    """Drop from a text the characters that neither XML nor HTML knows; leave anything else as it is."""
    if not isinstance(value, str) or not _CONTROLS.search(value):
        return value
    return type(value)(_CONTROLS.sub("", value))


def _cut(line: str, width: float, size: float) -> str:
    while text_width(line, size) > width and len(line) > 2:
        line = line.rstrip("…")[:-1] + "…"
    return line


def _class(cls: str) -> str:
    return f' class="{escape(cls)}"' if cls else ""


def _value(value: float | str) -> str:
    if isinstance(value, str):
        return str(escape(value))
    return (
        f"{value:.1f}".removesuffix(".0").replace("-0", "0") if abs(value) < 0.05 else f"{value:.1f}".removesuffix(".0")
    )


_BASE = f".fig text{{font-family:{FONT}}}"
