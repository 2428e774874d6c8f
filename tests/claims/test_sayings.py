"""What every claim must keep: one file each, two languages, sources that can be looked up, settings that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from qkvlab import claims, designs, tasks
from qkvlab.claims import sayings
from qkvlab.claims.claim import Claim
from qkvlab.claims.names import METRICS, NAMES, SETTINGS
from qkvlab.claims.recorded import is_recorded
from qkvlab.claims.wording import OPENINGS
from qkvlab.contracts import Words
from qkvlab.errors import BadInput
from qkvlab.study.recipes import find as recipe
from qkvlab.study.registration import register

ALL = list(claims.catalogue().values())
FILES = sorted(path for path in Path(sayings.__path__[0]).glob("*.py") if path.stem != "__init__")
ROOT = Path(__file__).parents[2]
SOURCE = re.compile(r"arXiv \d{4}\.\d{4,5}\b|\(\d{4}\)|Findings \d{4}|Gemma 4|DeepSeek-V2")
CHINESE = re.compile(r"[\u4e00-\u9fff]")


def texts(claim: Claim) -> list[Words]:
    """Every text that a claim holds."""
    found = [claim.sentence, claim.axis, claim.why]
    for place in claim.places:
        found += [place.words, place.holds, place.fails, *(check.words for check in place.checks)]
    return found + [source.words for source in claim.literature]


def test_one_file_is_one_claim():
    assert len(FILES) == len(ALL) == 11
    assert [claim.number for claim in ALL] == list(range(1, 12))
    for path in FILES:
        text = path.read_text("utf-8")
        assert text.count("CLAIM = Claim(") == 1
        assert sum(f'id="{claim.id}"' in text for claim in ALL) == 1, path


@pytest.mark.parametrize("claim", ALL, ids=lambda c: c.id)
def test_names_are_unique_and_plain(claim):
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", claim.id)
    places = [place.id for place in claim.places]
    assert len(set(places)) == len(places) >= 3
    for place in claim.places:
        ids = [check.id for check in place.checks]
        assert ids and len(set(ids)) == len(ids)


@pytest.mark.parametrize("claim", ALL, ids=lambda c: c.id)
def test_people_read_both_languages(claim):
    for words in texts(claim):
        assert words.zh.strip() and words.en.strip()
        assert not CHINESE.search(words.en), words
        assert "—" not in words.zh + words.en and words.zh != words.en
    for words in (claim.sentence, claim.why, *(w for p in claim.places for w in (p.words, p.holds, p.fails))):
        assert CHINESE.search(words.zh), words
        assert words.en.endswith(".") == (words is claim.why)


@pytest.mark.parametrize("claim", ALL, ids=lambda c: c.id)
def test_literature_stands_on_both_sides(claim):
    assert len({source.side for source in claim.literature}) >= 2
    for source in claim.literature:
        assert re.search(r"arXiv \d{4}\.\d{4,5}\b|\(\d{4}\)|Findings \d{4}|Gemma 4|DeepSeek-V2", source.where), (
            source.where
        )


@pytest.mark.parametrize("claim", ALL, ids=lambda c: c.id)
def test_checks_ask_what_tasks_can_answer(claim):
    for check in claim.checks():
        for term in (*check.terms, *check.of):
            assert term.metric in METRICS
            designs.parse(term.design)
            assert term.design in NAMES
            if not is_recorded(term.key):
                assert term.setting in tasks.find(term.task).settings()
        if check.floor:
            assert check.asks == "below" and check.is_loss and check.floor == check.terms[-1].key
        low, high = check.centre - check.clip, check.centre + check.clip
        assert check.of or low < check.threshold < high


def test_a_cost_below_delta_always_asks_for_something_to_lose():
    """Two designs that learned nothing are alike; no claim of "no cost" may rest on that."""
    for claim in ALL:
        for check in claim.checks():
            if check.asks == "below" and check.threshold > 0 and check.in_deltas and not check.of:
                assert check.floor or check.terms[0].design == "uniform", (claim.id, check.id)


def test_no_name_is_idle():
    used = [term for claim in ALL for check in claim.checks() for term in (*check.terms, *check.of)]
    assert set(NAMES) == {term.design for term in used}
    assert set(METRICS) == {term.metric for term in used}
    assert set(SETTINGS) <= {term.setting for term in used}


def test_the_article_study_decides_every_claim():
    """Every place is registered, but for the settings that the recipe leaves aside, and all share one alpha."""
    study = register(recipe("article"))
    settings = {row["setting"] for row in study["tasks"]}
    rows = study["claims"]["checks"]
    got = {(row["claim"], row["place"]) for row in rows}
    for claim in ALL:
        for place in claim.places:
            left_out = any(t.setting not in settings and not is_recorded(t.key) for c in place.checks for t in c.terms)
            assert ((claim.id, place.id) in got) != left_out
        assert 2 * sum((claim.id, place.id) in got for place in claim.places) > len(claim.places)
    assert study["claims"]["alpha_each"] * len(rows) == pytest.approx(study["alpha"])
    assert json.loads(json.dumps(study["claims"])) == study["claims"]


def test_a_registration_is_read_back():
    study = register(recipe("article"))
    deltas = {(row["task"], row["setting"]): row["delta"] for row in study["tasks"]}
    for asked in claims.registered(study):
        place = next(p for p in claims.find(asked.claim).places if p.id == asked.place)
        written = next(check for check in place.checks if check.id == asked.check.id)
        assert asked.check == written.at(deltas.get(written.terms[0].key, 1.0))
    assert claims.registered({}) == []


def test_small_studies_register_no_half_claims():
    settings = [
        {"task": "library", "setting": "same-word/fixed", "delta": 0.05, "arms": {"QKV": 0, "XXV": 0, "uniform": 0}}
    ]
    assert claims.register(settings, 0.05) == {"alpha": 0.05, "alpha_each": 0.05, "checks": []}


def test_the_benchmark_is_the_recorded_one():
    shipped = (ROOT / "src/qkvlab/claims/measured/narrow_head.json").read_text("utf-8")
    assert shipped == (ROOT / "results/2026-11-22-benchmarks/narrow_head.json").read_text("utf-8")
    found = json.loads(shipped)
    assert (found["d_head"], found["d_model"]) == (64, 768) and len(found["ratios"]) >= 40


def test_every_ruling_opens_an_answer():
    assert set(OPENINGS) == set(claims.RULINGS)


@pytest.mark.parametrize("name", ["3", "self-attention", " Self-Attention "])
def test_a_claim_is_found_by_number_or_id(name):
    assert claims.find(name).number == 3


@pytest.mark.parametrize(
    ("name", "near"), [("self-atention", "self-attention"), ("synonyms", "no-synonyms"), ("12", "1")]
)
def test_an_unknown_claim_offers_the_nearest(name, near):
    with pytest.raises(BadInput, match=f"did you mean '{near}"):
        claims.find(name)
