"""All verdicts at a glance: settings down, designs across, a symbol and a tint in each cell.

A design that does not run in a setting leaves its cell empty.
"""

from __future__ import annotations

from qkvlab.contracts import Words
from qkvlab.evidence import Word
from qkvlab.report.svg import Drawing, text_width, wrap
from qkvlab.report.view import Chapter, Setting, Study
from qkvlab.report.wording import STYLES, SYMBOLS, VERDICTS

TITLE = Words("各设置、各设计的结论", "Verdicts by setting and design")
_CELL, _ROW, _TOP = 96.0, 34.0, 84.0


def matrix(study: Study) -> Drawing:
    """Draw a matrix for each task with their key below; settings that nobody has reached are only counted."""
    blocks = [_block(study, chapter) for chapter in study.chapters]
    drawing = Drawing(max(each.width for each in blocks), sum(each.height for each in blocks) + 56)
    top = 0.0
    for block in blocks:
        drawing.place(block, 0, top)
        top += block.height
    _key(drawing, study, sum(len(chapter.settings) - len(_rows(chapter)) for chapter in study.chapters))
    return drawing


def _rows(chapter: Chapter) -> list[Setting]:
    return [setting for setting in chapter.settings if setting.reached or setting.barred] or list(chapter.settings)


def _block(study: Study, chapter: Chapter) -> Drawing:
    designs = [name for name in study.running_in(chapter.settings) if name != study.baseline]
    rows = _rows(chapter)
    titles = [setting.title.words for setting in rows]
    left = 34 + max((text_width(words.of(lang), 11) for words in titles for lang in ("zh", "en")), default=0)
    drawing = Drawing(left + _CELL * len(designs) + 12, _TOP + _ROW * len(rows) + 8)
    if len(study.chapters) > 1:
        drawing.text(12, 16, chapter.words.name, "head")
    for j, name in enumerate(designs):
        _head(drawing, left + _CELL * (j + 0.5), name, study.words(name))
    for i, setting in enumerate(rows):
        top = _TOP + _ROW * i
        drawing.text(left - 10, top + 21, titles[i], "small", anchor="end")
        for comparison in setting.comparisons:
            j, verdict = designs.index(comparison.arm.design), comparison.verdict
            style = STYLES[verdict.verdict]
            drawing.rect(left + _CELL * j + 2, top + 2, _CELL - 4, _ROW - 4, f"t-{style}", round_=4)
            seen = SYMBOLS[verdict.verdict] if verdict.n or verdict.decided else "·"
            drawing.text(left + _CELL * (j + 0.5), top + 22, seen, f"v-{style} sign", anchor="middle")
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
    words: list[Word] = list(dict.fromkeys(v.verdict for v in verdicts if v.n or v.decided))
    zh = [f"{SYMBOLS[word]} {VERDICTS[word].zh}" for word in words]
    en = [f"{SYMBOLS[word]} {VERDICTS[word].en}" for word in words]
    if not all(verdict.n or verdict.decided for verdict in verdicts):
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
