"""`look`: what small trained models find in a sentence, as their own module computes it, and what cannot be read."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from calling import HOSTILE, environment

from qkvlab import record
from qkvlab.designs import parse
from qkvlab.study.weights import _write, path_of
from qkvlab.tasks.lexicon import load
from qkvlab.tasks.segmenting import LONGEST, segment
from qkvlab.tasks.sentence import TASK
from qkvlab.training.recipe import start

LEXICON = load()
NAMES = ("QKV", "QQV", "XXV", "uniform")


@pytest.fixture(scope="module", name="folder")
def _folder(tmp_path_factory):
    """Untrained models, as a record would ship them."""
    folder = tmp_path_factory.mktemp("record")
    for setting in TASK.shown:
        for name in NAMES:
            state = start(TASK, setting, parse(name), 0).state_dict()
            half = {n: w.numpy().astype(np.float16) for n, w in state.items()}
            _write(path_of(folder, "sentence", setting, name), half, {})
    return folder


@pytest.fixture(autouse=True)
def _shipped(folder, monkeypatch):
    monkeypatch.setattr(record, "folder", lambda: folder)


def words(said):
    return [word["zh"] for word in said.json["words"]]


@pytest.mark.parametrize("setting", TASK.shown)
def test_it_says_what_the_module_computes(cli_here, setting):
    said = cli_here("look", "老师把小明批评了", "--setting", setting, "--json")
    assert (said.code, said.err) == (0, "")
    assert words(said) == ["老师", "把", "小明", "批评", "了"] and said.json["setting"] == setting
    (verb,) = said.json["verbs"]
    assert verb["place"] == 3 and verb["right"] == {"subject": 0, "object": 2}
    assert [row["design"] for row in verb["designs"]] == list(NAMES)
    tokens = torch.tensor([segment("老师把小明批评了")])
    for row in verb["designs"]:
        model = start(TASK, setting, parse(row["design"]), 0)
        with torch.no_grad():
            weights = model.half().float().weights(tokens)[:, 0, :, 3].numpy()
            names = model(tokens, torch.tensor([[3]]))[0, 0].argmax(-1).numpy()
        np.testing.assert_allclose([layer["weights"] for layer in row["layers"]], weights, atol=2e-4)
        np.testing.assert_allclose(row["weights"], weights[-1].mean(0), atol=2e-4)
        named = [LEXICON.words[n].zh for n in LEXICON.nouns[names]]
        assert [row["subject"]["zh"], row["object"]["zh"]] == named
        assert row["subject"]["right"] == (named[0] == "老师") and row["object"]["right"] == (named[1] == "小明")
        assert row["subject"]["in_sentence"] == (named[0] in words(said))
    uniform = verb["designs"][-1]
    assert uniform["looks_at"] is None and set(uniform["scores"]) == {0}
