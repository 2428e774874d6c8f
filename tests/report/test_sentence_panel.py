"""The panel of 我爱北京 shows what the saved models do: their own scores, weights and names, right or wrong."""

import re

import fabricated
import numpy as np
import pytest

from qkvlab import report
from qkvlab.reference.encoder import Encoder
from qkvlab.report.figures.sentence import reading
from qkvlab.report.gather import look
from qkvlab.report.sentence import SENTENCE, read_all, word
from qkvlab.study import weights
from qkvlab.study.cells import Cell
from qkvlab.study.decisions import Findings
from qkvlab.study.registration import register
from qkvlab.study.spec import make
from qkvlab.study.store import Store
from qkvlab.tasks import grammar, lexicon

SETTING = "two-layers/positions"
DESIGNS = ("QKV", "QQV", "uniform")
PLAN = register(
    make(recipe="small", designs=DESIGNS, tasks=("sentence",), settings=(SETTING,), rates=(0.003,), tune_seeds=(0,))
)
WIDTH = PLAN["tasks"][0]["facts"]["d_model"]
HEADS = PLAN["tasks"][0]["facts"]["heads"]


def state(name, *, seed=0, layers=2):
    """Return parameters by the names of the trained encoder, drawn at random."""
    rng, words = np.random.default_rng(seed), lexicon.load()
    shapes = {"words": (len(words.words), WIDTH), "positions": (grammar.TOKENS, WIDTH)}
    shapes["names.weight"] = (grammar.ROLES * len(words.nouns), WIDTH)
    for i in range(layers):
        letters = {"uniform": "v"}.get(name, name.lower())
        shapes |= {f"blocks.{i}.attention.projections.{letter}": (WIDTH, WIDTH) for letter in set(letters)}
        shapes[f"blocks.{i}.attention.out.weight"] = (WIDTH, WIDTH)
        shapes[f"blocks.{i}.widen.weight"], shapes[f"blocks.{i}.narrow.weight"] = (64, WIDTH), (WIDTH, 64)
    return {key: rng.standard_normal(shape).astype(np.float32) / 4 for key, shape in sorted(shapes.items())}


def save(folder, name, parameters, **changes):
    cell = Cell("sentence", SETTING, name, "judge", 1000, 0.003)
    weights.save(folder, fabricated.run({**PLAN, **changes}, cell, 0.1), parameters)


@pytest.fixture
def folder(tmp_path):
    with Store.create_or_continue(tmp_path, PLAN):
        pass
    for name in DESIGNS:
        save(tmp_path, name, state(name))
    return tmp_path


def the_reading(folder):
    (found,) = read_all(folder, look(Findings(PLAN)))
    return found


def test_it_shows_what_the_models_do(folder):
    read = the_reading(folder)
    assert [each.arm.design for each in read.looks.replies] == list(DESIGNS) and not read.looks.left_out
    tokens = [lexicon.load().number(zh) for zh in SENTENCE]
    for each in read.looks.replies:
        twin = Encoder(each.arm.design, state(each.arm.design), heads=HEADS, roles=2).understand(tokens)
        assert each.reply.weights.shape == (2, 3)
        for layer, steps in enumerate(twin.layers):
            np.testing.assert_allclose(each.reply.weights[layer], steps.weights[:, 1].mean(0))
            np.testing.assert_allclose(each.reply.scores[layer], steps.scores[:, 1].mean(0))
        best = twin.logits[1].argmax(-1)
        assert each.reply.named == tuple(lexicon.load().nouns[i] for i in best)


def test_the_panel_says_who_wins_and_what_comes_out(folder):
    read = the_reading(folder)
    replied = read.looks.replies[0]
    won = read.words[replied.reply.most(-1)]
    drawn = re.sub(r"<[^>]+>", "|", reading(read, replied).inside("zh"))
    assert f"“爱”看得最多的是“{won.zh}”" in drawn and "第 2 层" in drawn
    shown = [f"{100 * share:.0f}%" for share in replied.reply.weights.ravel()]
    assert re.findall(r"\d+%", drawn) == shown
    for role, number, right in zip(("主语", "宾语"), replied.reply.named, read.right, strict=True):
        assert f"{'✓' if number == right else '✗'} {role}：{word(number).zh}" in drawn


def test_equal_attention_has_no_winner(folder):
    read = the_reading(folder)
    drawn = reading(read, read.looks.replies[2]).inside("en")
    assert "looks at all words alike" in drawn and "looks most" not in drawn


@pytest.mark.parametrize("plant", ["subject and object", "another word", "nothing"])
def test_right_and_wrong_are_told_apart(folder, plant):
    """A model whose answers are set by hand: only the right ones in the right roles get their marks."""
    nouns = [int(n) for n in lexicon.load().nouns]
    me, beijing, you = (nouns.index(lexicon.load().number(zh)) for zh in ("我", "北京", "你"))
    named = {"subject and object": (beijing, me), "another word": (me, you), "nothing": (me, beijing)}[plant]
    parameters = {name: np.zeros_like(w) for name, w in state("QKV").items()}
    parameters["words"][:, 0] = 1  # every word is the same vector, so what is named is what the last matrix says
    for role, place in enumerate(named):
        parameters["names.weight"][role * len(nouns) + place, 0] = 1
    save(folder, "QKV", parameters)
    read = the_reading(folder)
    drawn = reading(read, read.looks.replies[0]).inside("en")
    marks = {"subject and object": "✗✗", "another word": "✓✗", "nothing": "✓✓"}[plant]
    assert "".join(re.findall("[✓✗]", drawn)) == marks
    assert ("v-equivalent" in drawn) == (plant == "nothing")


def test_models_that_do_not_fit_are_left_out_and_named(folder):
    save(folder, "QQV", state("QQV"), source="another")
    broken = state("uniform")
    del broken["blocks.1.attention.out.weight"]
    save(folder, "uniform", broken)
    page = report.write(folder).report.read_text("utf-8")
    assert "Saved models that cannot be read or belong to another study: QQV and uniform." in page
    assert page.count("looks most at") == 1


def test_it_is_on_the_page_and_among_the_figures(folder):
    written = report.write(folder)
    page = written.report.read_text("utf-8")
    panel = page[page.index('<h2 id="sentence"') : page.index('<h2 id="coverage"')]
    assert panel.count("<svg") == len(DESIGNS) and "seed of the models" in panel
    assert {"sentence-two-layers-positions.zh.svg", "sentence-two-layers-positions.en.svg"} <= {
        path.name for path in written.figures
    }


def test_without_models_it_says_so(tmp_path):
    with Store.create_or_continue(tmp_path, PLAN):
        pass
    assert "no models that read sentences" in report.write(tmp_path).report.read_text("utf-8")
