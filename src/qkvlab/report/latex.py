"""Tables for papers: verdicts and claims in LaTeX with booktabs, one fragment to ``\\input`` per language."""

from __future__ import annotations

import re

from qkvlab.claims import Told
from qkvlab.contracts import Words
from qkvlab.evidence import Word
from qkvlab.report.numbers import digits, short, signed
from qkvlab.report.rulings import tried, verdict_words
from qkvlab.report.svg import printable
from qkvlab.report.view import Chapter, Comparison, Setting, Study
from qkvlab.report.wording import VERDICTS, capital, metric_words
from qkvlab.tasks.vocabulary import Lang

_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "''", "[": "{[}", "]": "{]}", "*": "{*}", "−": "$-$",
    "δ": r"$\delta$", "α": r"$\alpha$", "±": r"$\pm$",
    "“": "``", "”": "''", "–": "--", "…": r"\ldots{}", "≤": r"$\le$", "≥": r"$\ge$", "√": r"$\surd$", "→": r"$\to$",
}  # fmt: skip
_ESCAPE = re.compile("|".join(map(re.escape, _SPECIAL)))

SIGNS: dict[Word, str] = {
    "better": r"$\blacktriangle$",
    "better, by less than delta": r"$\vartriangle$",
    "equivalent": "$=$",
    "worse, by less than delta": r"$\triangledown$",
    "worse": r"$\blacktriangledown$",
    "undecided": "?",
    "nothing to compare": "--",
    "inconsistent": "!",
}


def escaped(text: str) -> str:
    r"""Make a text stand for itself in LaTeX.

    >>> escaped("50% of W_Q & {x}")
    '50\\% of W\\_Q \\& \\{x\\}'
    """
    plain = " ".join(printable(text).split())  # a blank line would end the paragraph, and with it the cell
    return _ESCAPE.sub(lambda found: _SPECIAL[found[0]], plain)


def tables(study: Study, lang: Lang) -> str:
    """Return the fragment: for each task a table of verdicts, then one of the claims."""
    origin = study.origin
    fonts = "; Chinese needs ctex with XeLaTeX or LuaLaTeX" if lang == "zh" else ""
    head = (
        f"% qkvlab {escaped(origin['qkvlab'])}, study {escaped(origin['recipe'])}, "
        f"registration {origin['registration']}\n% needs \\usepackage{{array,booktabs,amssymb}}{fonts}\n"
    )
    found = [_verdicts(study, chapter, lang) for chapter in study.chapters]
    told = tried(study.claims)
    return "\n".join([head, *found, *([_claims(study, told, lang)] if told else [])])


def table(columns: str, head: list[str], rows: list[list[str]], caption: str, label: str) -> str:
    """Set a table; everything that comes in is LaTeX already."""
    lines = [
        r"\begin{table}",
        r"\centering\small",
        rf"\caption{{{caption}}}",
        rf"\label{{tab:{label}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        f"{' & '.join(head)} \\\\",
        r"\midrule",
        *(f"{' & '.join(row)} \\\\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _verdicts(study: Study, chapter: Chapter, lang: Lang) -> str:
    names = [name for name in study.running_in(chapter.settings) if name != study.baseline]
    rows = [
        [escaped(setting.title.words.of(lang)), *(_cell(setting, setting.against(name)) for name in names)]
        for setting in chapter.settings
    ]
    head = [Words("设置", "setting").of(lang), *map(escaped, names)]
    return table("l" + "c" * len(names), head, rows, _caption(study, chapter, lang), _label(study, chapter.task))


def _claims(study: Study, told: list[Told], lang: Lang) -> str:
    head = [Words("号", "No.").of(lang), Words("人们说", "People say").of(lang), Words("结论", "Verdict").of(lang)]
    rows = [
        [str(each.number), escaped(each.sentence.of(lang)), escaped(capital(verdict_words(each).of(lang)))]
        for each in told
    ]
    alpha = short(study.registration["claims"]["alpha"])
    said = Words(
        f"人们关于 Q、K、V 说的话，由登记的比较判定；所有问题合起来 α = {alpha}。",
        "Sentences people say about Q, K and V, decided by registered comparisons; "
        f"α = {alpha} for all questions together.",
    )
    columns = r"r>{\raggedright\arraybackslash}p{.5\linewidth}>{\raggedright\arraybackslash}p{.35\linewidth}"
    return table(columns, head, rows, escaped(said.of(lang)), _label(study, "claims"))


def _label(study: Study, name: str) -> str:
    return re.sub("[^A-Za-z0-9-]", "-", f"qkvlab-{study.origin['recipe']}-{name}")


def _caption(study: Study, chapter: Chapter, lang: Lang) -> str:
    first, alpha = chapter.settings[0], short(study.registration["alpha"])
    found = {each.verdict.verdict for setting in chapter.settings for each in setting.comparisons}
    signs = [(sign, escaped(VERDICTS[word].of(lang))) for word, sign in SIGNS.items() if word in found]
    what, gap = metric_words(first.metric), short(first.delta)
    name = chapter.words.name
    said = Words(
        f"{name.zh}：各设计的{what.zh}减去 {study.baseline} 的（平均差），δ = {gap}，整个研究 α = {alpha}",
        f"{capital(name.en)}: {what.en} of each design minus that of {study.baseline} (mean difference); δ = {gap}, "
        f"α = {alpha} for the whole study",
    )
    key = ("；" if lang == "zh" else "; ").join(f"{sign} {word}" for sign, word in signs)
    return f"{escaped(said.of(lang))}{'。' if lang == 'zh' else '. '}{key}{'。' if lang == 'zh' else '.'}"


def _cell(setting: Setting, comparison: Comparison | None) -> str:
    if comparison is None:  # this design does not run there
        return ""
    sign, verdict = SIGNS[comparison.verdict.verdict], comparison.verdict
    mean = signed(verdict.unclipped_mean, digits(setting.delta)) if verdict.n and verdict.decided else ""
    return f"{sign} {escaped(mean)}".strip() if mean != "–" else sign
