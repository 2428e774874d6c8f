"""`report.html`: one file in two languages that loads nothing."""

from __future__ import annotations

from datetime import date
from functools import cache
from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from qkvlab import claims
from qkvlab.contracts import Words
from qkvlab.report import budget, numbers, rulings, wording
from qkvlab.report.answer import Sentence, sentences
from qkvlab.report.cite import bibtex, citation
from qkvlab.report.clauses import missed, where
from qkvlab.report.colours import DARK, LIGHT, page_rules
from qkvlab.report.figures.bars import bar
from qkvlab.report.figures.cost import by_cache, by_params
from qkvlab.report.figures.curves import curves
from qkvlab.report.figures.evidence import evidence_bar
from qkvlab.report.figures.growing import growing
from qkvlab.report.figures.sentence import reading
from qkvlab.report.figures.shelf import panel
from qkvlab.report.gist import gist
from qkvlab.report.repeat import command
from qkvlab.report.sentence import Read
from qkvlab.report.shelf import Shelf
from qkvlab.report.svg import clean, printable
from qkvlab.report.titles import joined
from qkvlab.report.took import took
from qkvlab.report.view import Comparison, Setting, Study
from qkvlab.tasks.vocabulary import Lang


def page(study: Study, shelves: list[Shelf], readings: list[Read], day: date, lang: Lang | None = None) -> str:
    """Return the whole page.

    Args:
        study: what is told.
        shelves: what the saved models found.
        readings: how the saved models read the sentence.
        day: when the last result came in.
        lang: the language it starts in; None for the reader's own.
    """
    return _template().render(
        study=study,
        shelves=shelves,
        readings=readings,
        lang=lang or "",
        gist=gist(study),
        answer=sentences(study),
        command=command(study.registration),
        citation=citation(study),
        bibtex=bibtex(study, day),
        styles=Markup(
            f"{page_rules(LIGHT)}@media screen and (prefers-color-scheme:dark){{{page_rules(DARK)}}}"
            + _file("report.css")
        ),
        script=Markup(_file("report.js")),
    )


def explained(study: Study, setting: Setting, comparison: Comparison) -> Words:
    """Say why a comparison has its verdict."""
    return wording.explain(comparison.verdict, study.baseline, setting.delta, setting.metric)


def capital(words: Words) -> Words:
    """Begin with a capital letter where there are any."""
    return Words(words.zh, wording.capital(words.en))


def both(words: Words) -> Markup:
    """Put both languages on the page; one of them is shown."""
    return Markup(f'<span lang="zh">{clean(words.zh)}</span><span lang="en">{clean(words.en)}</span>')


def told(sentence: Sentence) -> Markup:
    """Put a sentence of the short answer on the page, its lead first."""
    if not sentence.lead.en:
        return both(sentence.rest)
    zh = f"<strong>{clean(sentence.lead.zh)}</strong>{clean(sentence.rest.zh)}"
    en = f"<strong>{clean(sentence.lead.en)}</strong> {clean(sentence.rest.en)}"
    return Markup(f'<span lang="zh">{zh}</span><span lang="en">{en}</span>')


@cache
def _template():  # noqa: ANN202  (jinja2.Template)
    environment = Environment(
        loader=FunctionLoader(_file),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "both": both,
        "told": told,
        "plain": numbers.plain,
        "signed": numbers.signed,
        "short": numbers.short,
        "whole": numbers.whole,
        "percent": numbers.percent,
        "joined": joined,
        "capital": capital,
    }
    environment.globals |= {
        "t": lambda zh, en: both(Words(zh, en)),
        "VERDICTS": wording.VERDICTS,
        "SYMBOLS": wording.SYMBOLS,
        "STYLES": wording.STYLES,
        "MATCHES": wording.MATCHES,
        "RULINGS": claims.RULINGS,
        "RULING_SIGNS": rulings.RULING_SIGNS,
        "RULING_STYLES": rulings.RULING_STYLES,
        "STATES": claims.STATES,
        "SAYS": claims.SAYS,
        "SAYS_STYLES": rulings.SAYS_STYLES,
        "SIDES": claims.SIDES,
        "took": took,
        "tried": rulings.tried,
        "threshold": claims.threshold,
        "quantity": claims.quantity,
        "span": claims.span,
        "evidence_bar": evidence_bar,
        "metric_words": wording.metric_words,
        "facts": wording.facts,
        "explained": explained,
        "bar": bar,
        "growing": growing,
        "curves": curves,
        "panel": panel,
        "reading": reading,
        "missed": missed,
        "where": where,
        "by_params": by_params,
        "by_cache": by_cache,
        "budget_rule": budget.rule,
        "budgets": budget.of_settings,
    }
    return environment.get_template("report.html.j2")


@cache
def _file(name: str) -> str:
    return resources.files("qkvlab.report").joinpath(name).read_text("utf-8")
