"""What goes into a paper: LaTeX that is balanced and escaped in both languages, and an entry that names the study."""

import os
import re
from datetime import date
from typing import get_args

import fabricated
import pytest

from qkvlab import report
from qkvlab.evidence import Word
from qkvlab.report.cite import bibtex
from qkvlab.report.gather import look
from qkvlab.report.latex import SIGNS, escaped, tables
from qkvlab.study.decisions import Findings

PLAN = fabricated.of_two_tasks()
STUDY = look(Findings(PLAN, fabricated.results_of_two_tasks(PLAN)))


def within_no_group(text):
    return "".join(c for i, c in enumerate(text) if c not in "{}" and text[:i].count("{") == text[:i].count("}"))


def check_structure(text):
    """Say whether LaTeX would read this: groups and environments close, rows have as many cells as columns."""
    bare = re.sub(r"\\[{}&%$#_]", "", text)
    depth = 0
    for char in bare:
        depth += (char == "{") - (char == "}")
        assert depth >= 0, "a group closes that was never opened"
    assert depth == 0, "a group stays open"
    assert len(re.findall(r"(?<!\\)\$", re.sub(r"%.*", "", bare))) % 2 == 0, "mathematics stays open"
    begun = re.findall(r"\\(begin|end)\{(\w+)\}", text)
    stack = []
    for what, name in begun:
        if what == "begin":
            stack.append(name)
        else:
            assert stack and stack.pop() == name, "environments cross"
    assert not stack
    for columns, body in re.findall(r"\\begin\{tabular\}\{([^\n]*)\}\n(.*?)\\end\{tabular\}", text, re.S):
        count = len(re.findall("[lcrp]", within_no_group(columns)))
        body = re.sub(r"\\(toprule|midrule|bottomrule)\n", "", body)
        rows = [row for row in body.split("\\\\\n") if row.strip()]
        assert rows
        for row in rows:
            assert len(re.findall(r"(?<!\\)&", row)) == count - 1, f"{row!r} does not have {count} cells"
            assert not row.lstrip().startswith(("[", "*")), "LaTeX takes this for an option of the row before"
    return len(re.findall(r"\\begin\{tabular\}", text))


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_there_is_a_table_for_each_task_and_one_of_claims(lang):
    text = tables(STUDY, lang)
    assert check_structure(text) == 3
    assert text.count(r"\toprule") == text.count(r"\midrule") == text.count(r"\bottomrule") == 3
    assert (r"原词·给定向量 & $=$ +0.01" if lang == "zh" else r"same word · given vectors & $=$ +0.01") in text
    assert r"a/b/params & $\blacktriangledown$ +0.099 &  & $\blacktriangledown$ +0.599 \\" in text
    assert "a-b & -- &  & --" in text
    assert ("人们说" if lang == "zh" else "People say") in text and ("ctex" in text) == (lang == "zh")
    assert len(set(re.findall(r"\\label\{(.*?)\}", text))) == 3
    assert not re.search("[−δα“”▲▼–]", text.split("\n\n", 1)[1])


def test_every_verdict_has_a_sign_that_latex_knows():
    assert set(SIGNS) == set(get_args(Word)) and len(set(SIGNS.values())) == len(SIGNS)


@pytest.mark.parametrize("name", [r"a\b{c}", "50% & $x_1^2$ #3 ~", "[h] *", "a\n\nb", "<|>", fabricated.EVIL, '"'])
def test_names_stand_for_themselves(name):
    plan = fabricated.renamed(PLAN, "QQV", name)
    plan["words"][name], plan["recipe"] = {"zh": name + "中", "en": name}, name
    plan = fabricated.renamed(plan, "same-word/fixed", name)
    for lang in ("zh", "en"):
        check_structure(tables(look(Findings(plan)), lang))
    assert "\n" not in escaped(name)
    entry = bibtex(look(Findings(plan)), date(2026, 11, 22))
    check_structure(entry)
    assert entry.count("\n") == bibtex(STUDY, date(2026, 11, 22)).count("\n")


@pytest.mark.parametrize(
    "broken",
    [
        r"\begin{tabular}{lc}" + "\na & b & c \\\\\n" + r"\end{tabular}",  # a cell too many
        r"\begin{tabular}{lc}" + "\na \\\\\n" + r"\end{tabular}",  # a cell too few
        r"\begin{tabular}{lc}" + "\n[a] & b \\\\\n" + r"\end{tabular}",
        r"\begin{table}\begin{tabular}\end{table}\end{tabular}",
        r"a {b",
        r"a} {b",
        r"$x",
    ],
)
def test_the_structure_test_can_fail(broken):
    with pytest.raises(AssertionError):
        check_structure(broken)


def test_the_entry_names_version_registration_and_day():
    entry = bibtex(STUDY, date(2026, 11, 5))
    origin = STUDY.origin
    fields = dict(re.findall(r"^  (\w+) = \{(.*)\},$", entry, re.M))
    assert entry.startswith(f"@software{{qkvlab-{origin['registration']},") and entry.endswith("}\n")
    assert fields["date"] == "2026-11-05" and fields["year"] == "2026" and fields["version"] == origin["qkvlab"]
    assert origin["registration"] in fields["note"] and origin["source"] in fields["note"]
    assert fields["title"].endswith("study small") and fields["author"] == "{The qkvlab developers}"


def test_the_files_lie_beside_the_page_and_on_it(written, page):
    assert [path.name for path in written.papers] == ["citation.bib", "table.tex", "table.zh.tex"]
    entry = written.papers[0].read_text("utf-8")
    assert entry.strip() in page and "How to cite" in page
    for path in written.papers[1:]:
        check_structure(path.read_text("utf-8"))


def test_the_day_is_that_of_the_last_result(tmp_path):
    fabricated.study(tmp_path, models=False)
    os.utime(tmp_path / "study.db", (86400 * 400, 86400 * 400))  # 400 days after 1970-01-01
    assert "date = {1971-02-05}" in report.write(tmp_path).papers[0].read_text("utf-8")
