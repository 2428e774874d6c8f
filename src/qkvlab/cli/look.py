"""``qkvlab look``: a sentence, its verbs, and under each design whom they look at and whom they name."""

from __future__ import annotations

import json
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from qkvlab import designs
from qkvlab.cli.shading import shade
from qkvlab.record.sentence import Named, look, shipped
from qkvlab.tasks import parsing
from qkvlab.tasks.lexicon import SORTS, load
from qkvlab.tasks.segmenting import segment
from qkvlab.tasks.sentence import TASK
from qkvlab.tasks.vocabulary import Lang

_CELL = 5
"""Width of a score, such as -12.3."""
_ROLES = ("subject", "object")
_HEADS = {
    "person": ("人", "people"),
    "place": ("地方", "places"),
    "food": ("食物", "food"),
    "thing": ("东西", "things"),
    "verb": ("动词", "verbs"),
    "adverb": ("副词", "adverbs"),
    "aspect": ("动态助词", "aspect"),
    "marker": ("标记", "markers"),
    "joiner": ("连词", "conjunctions"),
    "final": ("语气词", "particles"),
}


def look_at(text: str | None, *, setting: str, lang: Lang, as_json: bool) -> None:
    """Show a sentence on stdout; without one, list the words.

    Raises:
        BadInput: a text that cannot be read, or a setting whose models do not ship.
    """
    if text is None:
        _list_words(lang, as_json)
        return
    tokens = segment(text)
    document = describe(tokens, setting)
    if as_json:
        print(json.dumps(document, ensure_ascii=False))
    else:
        _show(document, lang)


def describe(tokens: list[int], setting: str) -> dict[str, Any]:
    """Say everything that `look` shows, as plain data."""
    words = load().words
    found = {name: look(encoder, tokens) for name, encoder in shipped(setting).items()}
    truth = {clause.verb: clause for clause in parsing.parse(tokens) or []}
    verbs = [place for place, token in enumerate(tokens) if words[token].kind == "verb"]
    return {
        "words": [{"zh": words[t].zh, "en": words[t].en, "kind": words[t].kind} for t in tokens],
        "setting": setting,
        **vars(TASK.describe(setting)),
        "verbs": [
            {
                "place": place,
                "right": {"subject": truth[place].subject, "object": truth[place].object} if place in truth else None,
                "designs": [_row(name, named[i], tokens, truth.get(place)) for name, named in found.items()],
            }
            for i, place in enumerate(verbs)
        ],
    }


def _row(name: str, named: Named, tokens: list[int], truth: parsing.Clause | None) -> dict[str, Any]:
    words = load().words
    right = None if truth is None else (tokens[truth.subject], tokens[truth.object])
    return {
        "design": name,
        **vars(designs.parse(name).words),
        **{
            role: {
                "zh": words[noun].zh,
                "en": words[noun].en,
                "in_sentence": noun in tokens,
                "right": None if right is None else noun == right[i],
            }
            for i, (role, noun) in enumerate(zip(_ROLES, named.nouns, strict=True))
        },
        "looks_at": named.looks_at,
        "scores": _rounded(named.scores[-1].mean(0)),
        "weights": _rounded(named.attention),
        "layers": [
            {"scores": _rounded(scores), "weights": _rounded(weights)}
            for scores, weights in zip(named.scores, named.weights, strict=True)
        ],
    }


def _rounded(array: Any) -> Any:
    return array.round(4).astype(float).round(4).tolist()


def _list_words(lang: Lang, as_json: bool) -> None:
    lists: dict[str, list[str]] = {}
    for word in load().words[1:]:
        lists.setdefault(word.sort or word.kind, []).append(word.words.of(lang))
    if as_json:
        print(json.dumps(lists, ensure_ascii=False))
        return
    console = Console()
    for kind in (*SORTS, *(k for k in lists if k not in SORTS)):
        console.print(Text(_HEADS[kind][lang == "en"], style="bold"))
        console.print(f"  {' '.join(lists[kind]) if lang == 'zh' else ' · '.join(lists[kind])}", highlight=False)
    example = "试试：qkvlab look 老师把小明批评了" if lang == "zh" else 'try: qkvlab look "I love Beijing"'
    console.print(example, style="dim", highlight=False)


def _show(document: dict[str, Any], lang: Lang) -> None:
    console = Console()
    said = (" " if lang == "zh" else " · ").join(word[lang] for word in document["words"])
    console.print(Text(said, style="bold"))
    console.print(f"{document['setting']}: {document[lang]}", style="dim", highlight=False)
    for verb in document["verbs"]:
        console.print()
        console.print(_asked(document, verb, lang), highlight=False)
        console.print(_answers(document, verb, lang))
        words = max(cell_len(word[lang]) for word in document["words"])
        for chunk in _chunks(verb["designs"], console.width - words - 1):
            console.print()
            console.print(_attention(document, verb, chunk, lang))
    console.print()
    console.print(
        "每格：得分（上）与注意力（下），末层各头平均；绿色的词是该找到的主语和宾语。"
        if lang == "zh"
        else "Each cell: score above, attention below, last layer, mean of its heads; green words are to be found.",
        style="dim",
        highlight=False,
    )


def _asked(document: dict[str, Any], verb: dict[str, Any], lang: Lang) -> Text:
    words = document["words"]
    name = words[verb["place"]][lang]
    asked = Text(f"{name}：谁？对谁？" if lang == "zh" else f"{name}: who? whom?", style="bold")
    if verb["right"] is None:
        none = (
            "  这句话不在语法之内，没有标准答案" if lang == "zh" else "  not a sentence of the grammar: no right answer"
        )
        return asked.append(none, style="yellow not bold")
    subject, thing = (words[verb["right"][role]][lang] for role in _ROLES)
    return asked.append(f"  {subject} → {thing}", style="green")


def _answers(document: dict[str, Any], verb: dict[str, Any], lang: Lang) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 2, 0, 0))
    zh = lang == "zh"
    table.add_column("设计" if zh else "design", overflow="fold", ratio=1)
    for title in ("主语", "宾语", "最看") if zh else ("subject", "object", "looks at most"):
        table.add_column(title, no_wrap=True)
    for row in verb["designs"]:
        words = Text(f"{row['design']} ", style="bold").append(row[lang], style="dim not bold")
        table.add_row(words, *(_named(row[role], lang) for role in _ROLES), _looks(document, verb, row, lang))
    return table


def _named(noun: dict[str, Any], lang: Lang) -> Text:
    if noun["right"] is None:
        return Text(noun[lang])
    return Text(f"{'✓' if noun['right'] else '✗'} {noun[lang]}", style="green" if noun["right"] else "red")


def _looks(document: dict[str, Any], verb: dict[str, Any], row: dict[str, Any], lang: Lang) -> Text:
    place = row["looks_at"]
    if place is None:
        return Text("都一样" if lang == "zh" else "all alike", style="dim")
    self = ("（自己）" if lang == "zh" else " (itself)") if place == verb["place"] else ""
    return Text(f"{document['words'][place][lang]}{self} {row['weights'][place]:.0%}")


def _chunks(rows: list[dict[str, Any]], room: int) -> list[list[dict[str, Any]]]:
    # as many designs side by side as the terminal holds beside the words
    chunks, left = [], 0
    for row in rows:
        need = max(_CELL, len(row["design"])) + 2  # a space of its own, and one between columns
        if need > left:
            chunks.append([])
            left = room
        chunks[-1].append(row)
        left -= need
    return chunks


def _attention(document: dict[str, Any], verb: dict[str, Any], rows: list[dict[str, Any]], lang: Lang) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("词" if lang == "zh" else "word", no_wrap=True)
    for row in rows:
        table.add_column(row["design"], justify="right", no_wrap=True, min_width=_CELL)
    right = (verb["right"] or {}).values()
    for place, word in enumerate(document["words"]):
        cells = [
            Text(f"{row['scores'][place]:+.1f}\n{row['weights'][place]:.0%}", style=shade(row["weights"][place]))
            for row in rows
        ]
        style = "bold green" if place in right else "bold" if place == verb["place"] else ""
        table.add_row(Text(word[lang], style=style), *cells)
    return table
