"""``qkvlab ask``: a question, a shelf, and what each design finds there."""

from __future__ import annotations

import json
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from qkvlab import designs, record
from qkvlab.cli.shading import shade
from qkvlab.errors import BadInput, unknown
from qkvlab.reference.librarian import Librarian
from qkvlab.study.weights import load, path_of
from qkvlab.tasks import find
from qkvlab.tasks.library import Setting
from qkvlab.tasks.shelves import relevant, shelf_for
from qkvlab.tasks.vocabulary import Lang, Token, Vocabulary
from qkvlab.tasks.vocabulary import load as load_vocabulary

MOST_BOOKS = 16


def ask_library(text: str | None, *, shelf: str | None, setting: str, lang: Lang, as_json: bool) -> None:
    """Answer on stdout; without a question, list the vocabulary.

    Raises:
        BadInput: no word of the vocabulary, an unknown label, too many books, or a setting that does not ship.
    """
    vocabulary = load_vocabulary()
    if text is None:
        _list_words(vocabulary, lang, as_json)
        return
    question, rest = _question(vocabulary, text, lang)
    labels = shelf_for(question.id) if shelf is None else [t.id for t in _shelf(vocabulary, shelf, lang)]
    librarians = shipped(setting)
    marks = relevant(Setting.parse(setting).question, _array(question.id), _array(labels))
    answers = {name: librarian.answer(question.id, labels) for name, librarian in librarians.items()}
    document: dict[str, Any] = {
        "question": vars(question),
        "unknown": rest,
        "setting": setting,
        "shelf": [
            {**vars(vocabulary.tokens[label]), "relevant": bool(mark)}
            for label, mark in zip(labels, marks, strict=True)
        ],
        "designs": [
            {
                "design": name,
                **vars(designs.parse(name).words),
                "scores": [round(float(s), 4) for s in answer.scores],
                "weights": [round(float(w), 4) for w in answer.weights],
                "book": answer.book,
            }
            for name, answer in answers.items()
        ],
    }
    if as_json:
        print(json.dumps(document, ensure_ascii=False))
    else:
        _show(document, lang)


def shipped(setting: str) -> dict[str, Librarian]:
    """Return the shipped models of a setting by design, in the record's order.

    Raises:
        BadInput: none ship for this setting.
    """
    ready = [s for s in find("library").shown if path_of(record.folder(), "library", s, "QKV").is_file()]
    if setting not in ready:
        raise unknown("setting with trained models", setting, ready)
    names = [n for n in designs.catalogue() if path_of(record.folder(), "library", setting, n).is_file()]
    return {n: Librarian(n, load(path_of(record.folder(), "library", setting, n))[0]) for n in names}


def _question(vocabulary: Vocabulary, text: str, lang: Lang) -> tuple[Token, list[str]]:
    exact = vocabulary.find(text)
    tokens, rest = ([exact], []) if exact else vocabulary.understand(text)
    if not tokens:
        raise BadInput(f"{_short(text)!r} holds no word of the vocabulary.{_near(vocabulary, text, lang)}")
    others = [t.text(lang) for t in tokens[1:]]
    return tokens[0], [*others, *rest]


def _shelf(vocabulary: Vocabulary, text: str, lang: Lang) -> list[Token]:
    parts = [part.strip() for part in text.replace("，", ",").replace("、", ",").split(",") if part.strip()]
    if not 1 <= len(parts) <= MOST_BOOKS:
        raise BadInput(f"a shelf holds 1 to {MOST_BOOKS} books, separated by commas; got {len(parts)}.")
    found = []
    for part in parts:
        token = vocabulary.find(part)
        if token is None:
            raise BadInput(f"no label is spelled {_short(part)!r}.{_near(vocabulary, part, lang)}")
        found.append(token)
    return found


def _near(vocabulary: Vocabulary, text: str, lang: Lang) -> str:
    near = vocabulary.nearest(text) or [c.words[0] for c in vocabulary.concepts[:6]]
    return f" Words it knows: {', '.join(token.text(lang) for token in near)}, ...; `qkvlab ask` alone lists all."


def _list_words(vocabulary: Vocabulary, lang: Lang, as_json: bool) -> None:
    words = {
        theme.text(lang): [[t.text(lang) for t in c.tokens] for c in theme.concepts] for theme in vocabulary.themes
    }
    if as_json:
        print(json.dumps(words, ensure_ascii=False))
        return
    console = Console()
    for theme, concepts in words.items():
        console.print(Text(theme, style="bold"))
        for tokens in concepts:
            console.print(f"  {' · '.join(tokens)}", highlight=False, markup=False, soft_wrap=True)


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"


def _array(values: Any) -> Any:
    import numpy as np

    return np.asarray(values)


def _show(document: dict[str, Any], lang: Lang) -> None:
    zh = lang == "zh"
    console = Console()
    asked = document["question"][lang]
    console.print(Text(f"{'问' if zh else 'asked'}: {asked}", style="bold"))
    if document["unknown"]:
        rest = ", ".join(_short(piece) for piece in document["unknown"][:5])
        console.print(f"{'没有用到' if zh else 'not used'}: {rest}", style="yellow", highlight=False, markup=False)
    describe = find("library").describe(document["setting"]).of(lang)
    console.print(f"{document['setting']}: {describe}", style="dim", highlight=False)
    for row in document["designs"]:
        console.print(
            Text(f"  {row[lang]} ({row['design']}) → ").append(_returned(document, row, lang)), highlight=False
        )
    console.print(_table(document, lang))
    console.print(
        "→ 取回的是哪本书。每格：得分（上）与注意力（下）；绿色标签是该找到的书。"
        if zh
        else "→ whose content comes back. Each cell: score above, attention below; green labels are to be found.",
        style="dim",
        highlight=False,
    )


def _table(document: dict[str, Any], lang: Lang) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("标签" if lang == "zh" else "label", no_wrap=True)
    for row in document["designs"]:
        table.add_column(row["design"], justify="right", no_wrap=True, min_width=5)
    for i, book in enumerate(document["shelf"]):
        cells = [
            Text(f"{row['scores'][i]:+.1f}\n{row['weights'][i]:.0%}", style=shade(row["weights"][i]))
            for row in document["designs"]
        ]
        table.add_row(Text(book[lang], style="bold green" if book["relevant"] else ""), *cells)
    return table


def _returned(document: dict[str, Any], row: dict[str, Any], lang: Lang) -> Text:
    if row["book"] is None:
        return Text("都不是" if lang == "zh" else "no book", style="red")
    book = document["shelf"][row["book"]]
    return Text(f"{'✓' if book['relevant'] else '✗'} {book[lang]}", style="green" if book["relevant"] else "red")
