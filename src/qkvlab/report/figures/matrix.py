"""All verdicts at a glance: settings down, designs across, a symbol and a tint in each cell."""

from __future__ import annotations

from qkvlab.contracts import Words
from qkvlab.evidence import Word
from qkvlab.report.svg import Drawing, text_width, wrap
from qkvlab.report.view import Study
from qkvlab.report.wording import STYLES, SYMBOLS, VERDICTS

TITLE = Words("各设置、各设计的结论", "Verdicts by setting and design")
_CELL, _ROW, _TOP = 96.0, 34.0, 84.0


def matrix(study: Study) -> Drawing:
    """Draw the matrix with its key below; settings that nobody has reached are only counted."""
    designs = [name for name in study.designs if name != study.baseline]
    rows = study.reached or list(study.settings)
    titles = [setting.title.words for setting in rows]
    left = 34 + max((text_width(words.of(lang), 11) for words in titles for lang in ("zh", "en")), default=0)
    drawing = Drawing(left + _CELL * len(designs) + 12, _TOP + _ROW * len(rows) + 64)
    for j, name in enumerate(designs):
        _head(drawing, left + _CELL * (j + 0.5), name, study.words(name))
    for i, setting in enumerate(rows):
        top = _TOP + _ROW * i
        drawing.text(left - 10, top + 21, titles[i], "small", anchor="end")
        for comparison in setting.comparisons:
            j, verdict = designs.index(comparison.arm.design), comparison.verdict
            style = STYLES[verdict.verdict]
            drawing.rect(left + _CELL * j + 2, top + 2, _CELL - 4, _ROW - 4, f"t-{style}", round_=4)
            seen = SYMBOLS[verdict.verdict] if verdict.n else "·"
            drawing.text(left + _CELL * (j + 0.5), top + 22, seen, f"v-{style} sign", anchor="middle")
    _key(drawing, study, len(study.settings) - len(rows))
    return drawing


def _head(drawing: Drawing, middle: float, name: str, words: Words) -> None:
    drawing.text(middle, _TOP - 10, name, "strong", anchor="middle")
    zh, en = (wrap(words.of(lang), _CELL - 8, 10, 4) for lang in ("zh", "en"))
    for k in range(max(len(zh), len(en))):
        # lines stand on the code: the last line is the lowest
        said = Words(_from_end(zh, k), _from_end(en, k))
        drawing.text(middle, _TOP - 25 - 12 * k, said, "tiny muted", anchor="middle")


def _key(drawing: Drawing, study: Study, waiting: int) -> None:
    verdicts = [each.verdict for _, each in study.comparisons()]
    words: list[Word] = list(dict.fromkeys(verdict.verdict for verdict in verdicts if verdict.n))
    zh = [f"{SYMBOLS[word]} {VERDICTS[word].zh}" for word in words]
    en = [f"{SYMBOLS[word]} {VERDICTS[word].en}" for word in words]
    if any(not verdict.n for verdict in verdicts):
        zh.append("· 还没开始")
        en.append("· not started")
    drawing.text(12, drawing.height - 34, Words("\u2003".join(zh), "\u2003".join(en)), "small")
    base = study.words(study.baseline)
    more = (
        Words(f"；另有 {waiting} 个设置还没开始", f"; {waiting} more settings not started")
        if waiting
        else Words("", "")
    )
    said = Words(
        f"都与 {study.baseline}（{base.zh}）相比{more.zh}", f"All against {study.baseline} ({base.en}){more.en}"
    )
    drawing.text(12, drawing.height - 14, said, "small muted")


def _from_end(lines: list[str], k: int) -> str:
    return lines[-1 - k] if k < len(lines) else ""
