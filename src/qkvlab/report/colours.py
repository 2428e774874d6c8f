"""Colours of pictures, by day and by night, as CSS rules that need no variables.

Every colour has at least 4.5 : 1 contrast with its paper where it is used for text. Nothing is told by
colour alone: verdicts have symbols, lines have labels and, from the tenth on, dashes.
"""

from __future__ import annotations

from dataclasses import dataclass

SERIES = 9


@dataclass(frozen=True)
class Theme:
    """One set of colours."""

    paper: str
    ink: str
    muted: str
    grid: str
    band: str
    verdicts: dict[str, tuple[str, str]]
    """Name of a verdict's style -> (ink, tint)."""
    series: tuple[str, ...]


LIGHT = Theme(
    paper="#ffffff",
    ink="#1c2330",
    muted="#566072",
    grid="#d5dae3",
    band="#e7edf6",
    verdicts={
        "better": ("#1a4fb4", "#dfe9fb"),
        "equivalent": ("#0b6b5d", "#d9f0ea"),
        "worse": ("#a63c06", "#fbe5d6"),
        "undecided": ("#566072", "#edeff3"),
        "nothing": ("#5b5570", "#eceaf2"),
        "inconsistent": ("#a3123f", "#fbdfe7"),
    },
    series=(
        "#1c2330",
        "#1a5fb4",
        "#b8430a",
        "#0b7261",
        "#7a2fb0",
        "#b3195e",
        "#7a5600",
        "#456b12",
        "#5f6877",
    ),
)

DARK = Theme(
    paper="#161a22",
    ink="#e7eaf0",
    muted="#a2adbf",
    grid="#384152",
    band="#242c3a",
    verdicts={
        "better": ("#8fb8ff", "#1d2f52"),
        "equivalent": ("#6fd6c0", "#143a35"),
        "worse": ("#ffab7a", "#47270f"),
        "undecided": ("#a9b3c4", "#2a303b"),
        "nothing": ("#b9b2d3", "#2e2a3c"),
        "inconsistent": ("#ff9db8", "#4a1a2a"),
    },
    series=(
        "#f2f4f8",
        "#7db4ff",
        "#ff9d66",
        "#55cdb9",
        "#c79bff",
        "#ff8fc0",
        "#e0b84e",
        "#a5d36a",
        "#a9b3c4",
    ),
)


def rules(theme: Theme) -> str:
    """Return the rules of all classes that pictures use."""
    t = theme
    found = [
        f".fig text{{fill:{t.ink};font-size:12px}}.fig .muted{{fill:{t.muted}}}"
        ".fig .head{font-size:13px;font-weight:600}.fig .strong{font-weight:600}",
        ".fig .tiny{font-size:10px}.fig .small{font-size:11px}.fig .sign{font-size:16px}",
        f".fig .paper{{fill:{t.paper}}}.fig .band{{fill:{t.band}}}",
        f".fig .grid{{stroke:{t.grid};fill:none}}.fig .axis{{stroke:{t.muted};fill:none}}",
        f".fig .dash{{stroke:{t.muted};fill:none;stroke-dasharray:3 3}}",
        f".fig .mean{{stroke:{t.ink};fill:none;stroke-width:1.5}}.fig .inkfill{{fill:{t.ink}}}",
        f".fig .over{{paint-order:stroke;stroke:{t.paper};stroke-width:3px;stroke-linejoin:round}}",
        f".fig .halo{{stroke:{t.paper};stroke-width:1.5}}",
        ".fig .curve{fill:none;stroke-width:1.8;stroke-linejoin:round}.fig .area{stroke:none;fill-opacity:.13}",
        ".fig .lead{stroke-width:.7;fill:none;stroke-opacity:.6}.fig .later{stroke-dasharray:5 3}",
    ]
    for name, (ink, tint) in t.verdicts.items():
        found.append(
            f".fig .v-{name}{{fill:{ink}}}.fig .t-{name}{{fill:{tint}}}"
            f".fig .l-{name}{{stroke:{ink};fill:none;stroke-width:2}}"
        )
    for i, colour in enumerate(t.series):
        found.append(f".fig .s{i}{{stroke:{colour}}}.fig .f{i}{{fill:{colour}}}")
    return "".join(found)


def page_rules(theme: Theme) -> str:
    """Return the colours of the page around the pictures."""
    t = theme
    root = f"--paper:{t.paper};--ink:{t.ink};--muted:{t.muted};--grid:{t.grid};--band:{t.band}"
    verdicts = "".join(
        f".v.{name}{{color:{ink}}}.cell.{name}{{background:{tint}}}" for name, (ink, tint) in t.verdicts.items()
    )
    return f":root{{{root}}}{verdicts}{rules(theme)}"
