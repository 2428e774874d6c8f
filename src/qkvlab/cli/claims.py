"""``qkvlab claims``: the sentences with their verdicts, and one of them with all that decides it."""

from __future__ import annotations

import json
from pathlib import Path

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from qkvlab import claims, record
from qkvlab.claims import RULINGS, SAYS, SIDES, STATES, Evidence, Told, ToldPlace
from qkvlab.cli.folding import folded
from qkvlab.contracts import Words
from qkvlab.tasks.vocabulary import Lang

RECIPE = "article"
_STYLES = {"supported": "bold green", "refuted": "bold red", "depends": "bold yellow", "undecided": "dim"}
_STATES = {"holds": "green", "fails": "red", "open": "dim", "absent": "dim"}
_SIGNS = {"yes": ("✓", "green"), "no": ("✗", "red"), "open": ("?", "dim")}
_NO_RECORD = Words(
    "还没有带说法裁决的记录；先运行 `qkvlab study --minutes 60`，再看 `qkvlab claims --out qkvlab-runs/article`。",
    "No record with decided claims is here yet; run `qkvlab study --minutes 60`, then "
    "`qkvlab claims --out qkvlab-runs/article`.",
)


def show_claims(name: str | None, *, folder: Path | None, lang: Lang, as_json: bool) -> None:
    """Print all claims, or one.

    Raises:
        BadInput: there is no such claim.
        StoreError: there is no study in the folder, or it cannot be read.
    """
    only = claims.find(name).id if name is not None else None
    known = _of_study(folder) if folder is not None else _of_record()
    untried = [claims.tell(claim, {}) for claim in claims.catalogue().values()]
    told = [each for each in known or untried if only in (None, each.id)]
    note = _NO_RECORD if known is None else None
    if as_json:
        rows = [claims.to_row(each) for each in told]
        print(json.dumps({"claims": rows, "note": vars(note) if note else None}, ensure_ascii=False, allow_nan=False))
        return
    console = Console()
    if only is None:
        _list(console, told, lang)
    else:
        _one(console, told[0], lang)
    if note:
        console.print(Text(note.of(lang), style="yellow"))


def _of_record() -> list[Told] | None:
    """Return the claims of the shipped record; None where it has none."""
    rows = (record.recorded(RECIPE) or {}).get("claims")
    return [claims.from_row(row) for row in rows] if rows else None


def _of_study(folder: Path) -> list[Told]:
    from qkvlab.study.decisions import Findings
    from qkvlab.study.store import Store

    with Store.read(folder) as store:
        return claims.told(Findings(store.registration, store.results()))


def _list(console: Console, told: list[Told], lang: Lang) -> None:
    zh = lang == "zh"
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("人们说" if zh else "people say", ratio=1)
    table.add_column("裁决" if zh else "verdict", no_wrap=True)
    for each in told:
        said = each.sentence.of(lang)
        sentence = Text(folded(said, console.width - 18) if zh else said).append(f"\n{each.id}", style="dim")
        table.add_row(str(each.number), sentence, _verdict(each, lang))
    console.print(table)
    console.print(
        Text("看一条：qkvlab claims 3" if zh else "one of them with its evidence: qkvlab claims 3", style="dim")
    )


def _verdict(each: Told, lang: Lang) -> Text:
    text = Text(RULINGS[each.verdict].of(lang), style=_STYLES[each.verdict])
    states = [place.state for place in each.places]
    counts = [(sign, states.count(state)) for sign, state in (("✓", "holds"), ("✗", "fails"), ("?", "open"))]
    shown = " ".join(f"{sign}{n}" for sign, n in counts if n)
    return text.append(f"\n{shown}", style="dim") if shown else text


def _one(console: Console, each: Told, lang: Lang) -> None:
    zh = lang == "zh"
    _indented(console, f"{each.number}. {each.sentence.of(lang)}", lang, by=0, style="bold")
    verdict = Text(RULINGS[each.verdict].of(lang), style=_STYLES[each.verdict])
    if each.on.of(lang):
        verdict.append(f"：{each.on.zh}" if zh else f": {each.on.en}")
    console.print(verdict)
    _head(console, "面试时这样答" if zh else "How to answer")
    _indented(console, each.answer.of(lang), lang)
    _head(console, "证据" if zh else "Evidence")
    for place in each.places:
        _place(console, place, lang)
    missing = [(place.words, e.obstacle) for place in each.places for e in place.evidence if e.answer.says == "open"]
    if missing:
        _head(console, "还差什么" if zh else "What is missing")
    for where, obstacle in dict.fromkeys(missing):
        _indented(console, f"{where.zh}：{obstacle.zh}" if zh else f"{where.en}: {obstacle.en}", lang, style="dim")
    _head(console, "文献" if zh else "Literature")
    for source in each.literature:
        side = Text(f"  {SIDES[source.side].of(lang)} ", style="bold").append(source.where, style="not bold cyan")
        console.print(side)
        _indented(console, source.words.of(lang), lang, by=4)


def _place(console: Console, place: ToldPlace, lang: Lang) -> None:
    line = Text(f"  {place.words.of(lang)}  ").append(STATES[place.state].of(lang), style=_STATES[place.state])
    console.print(line)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(width=max(20, console.width - 54))
    table.add_column(no_wrap=True, width=6, justify="right")
    table.add_column(no_wrap=True, width=16)
    table.add_column(no_wrap=True)
    for each in place.evidence:
        table.add_row(*_row(each, lang))
    if place.evidence:
        console.print(Padding(table, (0, 0, 0, 4)))


def _row(each: Evidence, lang: Lang) -> tuple[Text, ...]:
    sign, style = _SIGNS[each.answer.says]
    return (
        Text(sign, style=style),
        Text(each.check.words.of(lang)),
        Text(claims.quantity(each.check, each.answer.estimate)),
        Text(claims.span(each.check, each.answer), style="dim"),
        Text(f"{claims.threshold(each.check)} {SAYS[each.answer.says].of(lang)}", style=style)
        + Text(f" n={each.answer.n}", style="dim"),
    )


def _indented(console: Console, text: str, lang: Lang, by: int = 2, style: str = "") -> None:
    shown = folded(text, console.width - by) if lang == "zh" else text
    console.print(Padding(Text(shown, style=style), (0, 0, 0, by)))


def _head(console: Console, text: str) -> None:
    console.print()
    console.print(Text(text, style="bold underline"))
