"""The sentences of the answer at length follow from the verdicts, for every verdict, in both languages."""

import dataclasses
from typing import get_args

import fabricated
import pytest

from qkvlab import report
from qkvlab.evidence import Reason, Word
from qkvlab.report.answer import sentences
from qkvlab.report.clauses import clause, kind
from qkvlab.report.gather import look
from qkvlab.report.titles import listed, title
from qkvlab.report.wording import STYLES, explain
from qkvlab.study.decisions import Findings
from qkvlab.study.registration import register
from qkvlab.study.spec import make

PLAN = fabricated.registration()
STUDY = look(Findings(PLAN, fabricated.results(PLAN)))
SAID = {
    "better": ("更好", "better than QKV"),
    "better, by less than delta": ("略好，差距小于 0.05", "better than QKV on “same word” with given vectors, by less"),
    "equivalent": ("相差不超过 0.05", "no difference larger than 0.05 from QKV"),
    "worse, by less than delta": ("略差，差距小于 0.05", "by less than 0.05"),
    "worse": ("更差", "worse than QKV"),
    "undecided": ("还没有定论", "still undecided"),
    "nothing to compare": ("无从比较", "nothing to compare"),
    "inconsistent": ("自相矛盾", "contradict"),
}
WHY = {
    "": ("区间整个落在 ±0.05 以内", "lies within ±0.05"),
    "too few seeds": ("不到 8 个", "fewer than 8"),
    "interval still wide": ("还太宽", "still wide"),
    "waiting for the floor": ("0.1 以上", "more than 0.1"),
    "floor not beaten": ("没学会", "nothing was learned"),
    "no floor": ("没有平均注意力", "without the control"),
    "too many diverged": ("10% 的训练发散", "10% of the runs"),
    "interval empty": ("违背", "break the assumptions"),
    "below the bar": ("没达到这项任务的门槛", "missed the bar"),
}


def with_verdict(word, **changes):
    """Return the study in which QQV has this verdict in every setting."""
    settings = []
    for setting in STUDY.settings:
        compared = [
            dataclasses.replace(c, verdict=dataclasses.replace(c.verdict, verdict=word, n=40, **changes))
            if c.arm.design == "QQV"
            else c
            for c in setting.comparisons
        ]
        settings.append(dataclasses.replace(setting, comparisons=tuple(compared)))
    chapter = dataclasses.replace(STUDY.chapters[0], settings=tuple(settings))
    return dataclasses.replace(STUDY, chapters=(chapter,))


def at_length(findings, lang):
    return [sentence.whole.of(lang) for sentence in sentences(look(findings))]


def of_design(study, name):
    return [(s, c) for s, c in study.comparisons() if c.arm.design == name]


@pytest.mark.parametrize("word", get_args(Word))
def test_every_verdict_has_a_clause_a_word_a_symbol_and_a_colour(word):
    found = of_design(with_verdict(word), "QQV")[:1]
    said = clause(STUDY, kind(found[0]), found, first=False)
    assert SAID[word][0] in said.zh and SAID[word][1] in said.en
    assert "原词" in said.zh and "same word" in said.en
    assert report.VERDICTS[word].zh and report.VERDICTS[word].en
    assert len({report.SYMBOLS[w] for w in get_args(Word)}) == len(get_args(Word))
    assert STYLES[word]


@pytest.mark.parametrize("reason", get_args(Reason))
def test_every_reason_has_a_sentence(reason):
    base = STUDY.comparisons()[0][1].verdict
    verdict = dataclasses.replace(base, verdict="equivalent" if not reason else "undecided", reason=reason, n=5)
    said = explain(verdict, "QKV", 0.05, "error")
    assert WHY[reason][0] in said.zh and WHY[reason][1] in said.en
    assert said.zh.endswith("。") and said.en.endswith(".")


def test_better_and_worse_are_not_mixed_up():
    base = STUDY.comparisons()[0][1].verdict
    for word, zh, en in (("better", "低", "lower"), ("worse", "高", "higher")):
        for small in ("", ", by less than delta"):
            said = explain(dataclasses.replace(base, verdict=word + small, reason=""), "QKV", 0.05, "error")
            assert zh in said.zh and en in said.en


def test_the_sentences_of_a_real_mixture():
    zh, en = (at_length(Findings(PLAN, fabricated.results(PLAN)), lang) for lang in ("zh", "en"))
    assert en[0].startswith("One matrix for Q and K (QQV): no difference larger than 0.05 from")
    assert "still undecided on “synonym”" in en[0]
    assert "no better than guessing (error rate 0.87, guessing 0.88)" in en[1] and "XXV" in en[1]
    assert en[2].startswith("The controls lose, as they should")
    assert "undecided" in en[-2] and "not started" in en[-2]
    assert "settles nothing for large" in en[-1] and "width 96" in en[-1]
    assert zh[0].startswith("Q、K 同一矩阵（QQV）：") and "对大模型下不了定论" in zh[-1]
    assert len(zh) == len(en) <= 7


def test_words_come_before_codes():
    for sentence in sentences(STUDY)[:2]:
        for text in (sentence.lead.zh, sentence.lead.en):
            code = next(name for name in ("QQV", "XXV") if name in text)
            assert text.index(code) > 5


def test_designs_that_fared_alike_share_a_sentence():
    plan = fabricated.renamed(PLAN, "frozen", "QQQ")
    said = at_length(Findings(plan, fabricated.results(plan)), "en")
    assert sum("QQQ" in sentence for sentence in said) == 1
    assert "QQV" in next(sentence for sentence in said if "QQQ" in sentence)


def test_many_designs_that_fared_alike_are_counted():
    names = ("QKV", "QQV", "QKK", "QKQ", "QQQ", "XKV", "uniform")
    plan = register(make(recipe="many", designs=names, settings=("synonym/fixed",), rates=(0.003,), tune_seeds=(0,)))
    first = sentences(look(Findings(plan, fabricated.results(plan, settings=1))))[0]
    assert first.lead.en == "5 designs (QQV, QKK, QKQ, QQQ, XKV):"
    assert first.lead.zh == "5 种设计（QQV、QKK、QKQ、QQQ、XKV）："


def test_a_name_with_a_colon_stays_in_the_lead():
    plan = fabricated.registration()
    plan["words"]["QQV"] = {"zh": "甲：乙", "en": "this: that"}
    first = sentences(look(Findings(plan, fabricated.results(plan))))[0]
    assert first.lead.en == "This: that (QQV):" and first.lead.zh == "甲：乙（QQV）："


def test_a_control_that_does_not_lose_is_a_warning():
    plan = fabricated.registration()
    good = [
        dataclasses.replace(r, metrics={"error": 0.02}, diverged=False) if r.cell.design == "frozen" else r
        for r in fabricated.results(plan, settings=1)
    ]
    said = at_length(Findings(plan, good), "en")
    assert any(sentence.startswith("Careful:") and "frozen" in sentence for sentence in said)
    assert not any("as they should" in sentence for sentence in said)


def test_an_empty_study_says_that_nothing_is_decided():
    said = sentences(look(Findings(PLAN)))
    assert len(said) == 2
    assert "12 are undecided (12 not started)" in said[0].rest.en and "12 个未定（12 个还没开始）" in said[0].rest.zh


def test_settings_are_listed_in_few_words():
    every = [
        title("library", f"{q}/{v}") for q in ("synonym", "directed", "directed-long") for v in ("fixed", "learned")
    ]
    assert listed(every, every).en == "“synonym” and “next book”"
    fixed = [t for t in every if t.vectors.en == "given vectors"]
    assert listed(fixed, every).en == "“synonym” and “next book” with given vectors"
    assert listed(fixed[:2], every).zh == "给定向量的“同义词”、“下一本书（三本一圈）”"
    assert listed([title("other", "a/b")], every).en == "“a/b”"
