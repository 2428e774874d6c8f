"""The task `sentence`: what a run learns from, how it is marked, and that marking can fail."""

import numpy as np
import pytest
import torch

from qkvlab import designs
from qkvlab.contracts import Dims
from qkvlab.designs import parse
from qkvlab.tasks import answers, find, probes
from qkvlab.tasks.grammar import NO_TARGET, TOKENS
from qkvlab.tasks.lexicon import PADDING, load
from qkvlab.tasks.sentence import TASK, Sentence, Setting
from qkvlab.training.one import train_one
from qkvlab.training.recipe import Run, start
from qkvlab.training.together import Together, train_together

SMALL = Sentence(d_model=16, heads=2, hidden=8, batch=4, exam=24, one_layer_steps=6, two_layer_steps=6, bag_steps=6)
NOUNS = len(load().nouns)


def given_answers(sentences, nouns=None):
    """Logits that name the right nouns, or those given."""
    wanted = sentences.nouns if nouns is None else nouns
    return np.eye(NOUNS)[np.where(wanted == NO_TARGET, 0, wanted)]


# The task's own words and numbers


def test_it_is_found_and_its_settings_are_named_apart():
    assert find("sentence") is TASK and TASK.shown == ("one-layer/positions", "two-layers/positions")
    for text in (TASK.describe, lambda s: TASK.title(s).words):
        for lang in ("zh", "en"):
            assert len({text(s).of(lang) for s in TASK.settings()}) == len(TASK.settings())


@pytest.mark.parametrize("setting", TASK.settings())
@pytest.mark.parametrize("name", ["QKV", "QQV", "XXX", "QKV/kv2", "QKV/h16", "QQV/noself", "uniform"])
def test_parameters_are_those_of_the_model(setting, name):
    model = TASK.model(setting, parse(name))
    assert TASK.parameters(setting, parse(name)) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", designs.catalogue())
def test_budgets_are_equal_where_they_are_matched(name):
    setting, design, one = "two-layers/positions", parse(name), Dims.of(TASK.d_model, TASK.heads)
    row = 2 * one.d_model * 2  # two layers, each with one more hidden channel
    gap = TASK.parameters(f"{setting}/params", design) - TASK.parameters(setting, parse("QKV"))
    assert abs(gap) <= row / 2
    hidden = TASK.model(f"{setting}/flops", design).blocks[0].widen.out_features

    def flops(which, width):
        return which.cost(one).flops_per_token + 4 * one.d_model * width

    assert abs(flops(design, hidden) - flops(parse("QKV"), TASK.hidden)) <= 2 * one.d_model
    assert (TASK.match(setting), TASK.match(f"{setting}/flops")) == ("none", "flops")


def test_settings_read_back():
    assert [Setting.parse(s) for s in TASK.settings()[:4]] == [
        *(Setting(1, True), Setting(2, True), Setting(1, False), Setting(2, False))
    ]


# What is drawn


@pytest.mark.parametrize(
    ("setting", "other"), [("one-layer/positions", "two-layers/positions"), ("two-layers/bag", "one-layer/bag")]
)
def test_seeds_settings_and_purposes_draw_anew_and_the_same_again(setting, other):
    first, again = TASK.held_out(setting, 5), TASK.held_out(setting, 5)
    assert all((a == b).all() for a, b in zip(vars(first).values(), vars(again).values(), strict=True))
    for another in (TASK.held_out(setting, 6), TASK.held_out(other, 5), TASK.held_out(setting, 5, new=True)):
        assert (another.tokens != first.tokens).any()
    drawn = TASK.batches(setting, 5)
    steps = TASK.steps(setting)
    assert [a.shape for a in drawn.inputs] == [(steps, TASK.batch, TOKENS), (steps, TASK.batch, 2)]
    assert drawn.targets.shape == (steps, TASK.batch, 2, 2)


def test_few_sentences_of_the_exam_were_trained():
    """Short sentences are few enough to come again; the rule, not the sentence, is what can be learned."""
    trained = {row.tobytes() for row in TASK.batches("one-layer/positions", 0).inputs[0].reshape(-1, TOKENS)}
    seen = np.mean([row.tobytes() in trained for row in TASK.held_out("one-layer/positions", 0).tokens])
    assert seen < 0.1


# How answers are marked


@pytest.fixture(name="exam", scope="module")
def _exam():
    return TASK.held_out("one-layer/positions", 0)


def test_errors_are_counted_where_something_is_asked(exam):
    assert answers.error(given_answers(exam), exam.nouns) == 0
    assert answers.error(given_answers(exam, exam.nouns[..., ::-1]), exam.nouns) == 1
    half = exam.nouns.copy()
    half[..., 1] = (half[..., 1] + 1) % NOUNS
    assert answers.error(given_answers(exam, half), exam.nouns) == 0.5


def test_guessing_is_chance(exam):
    guesses = np.random.default_rng(0).random((*exam.nouns.shape, NOUNS))
    assert abs(answers.error(guesses, exam.nouns) - TASK.chance("one-layer/positions")) < 0.03


def test_the_nearest_noun_is_not_enough(exam):
    """By hand on two sentences, and far from 0 on all."""
    zh = load().number
    row = [zh(w) for w in ("我", "把", "书", "丢", "了")]
    plain = [zh(w) for w in ("我", "爱", "北京")]
    tokens = np.array([each + [PADDING] * (TOKENS - len(each)) for each in (row, plain)])
    verbs = np.array([[3, 0], [1, 0]])
    places = np.array([[[0, 2], [0, 0]], [[0, 2], [0, 0]]])
    nouns = np.array([[[1, 2], [NO_TARGET] * 2]] * 2)
    assert answers.error_nearest(type(exam)(tokens, verbs, nouns, places)) == 0.5
    assert 0.3 < answers.error_nearest(exam) < 0.6


def test_an_exchange_is_one(exam):
    last = answers.last_verbs(exam)
    before = given_answers(last)
    assert answers.exchanged(before, given_answers(last, last.nouns[..., ::-1]), last.nouns) == 1
    assert answers.exchanged(before, before, last.nouns) == 0
    assert answers.exchanged(given_answers(last, last.nouns[..., ::-1]), before, last.nouns) == 0
    keys = answers.exchange(last)
    rows = np.arange(len(keys))[:, None]
    assert (keys[rows, keys] == np.arange(TOKENS)).all() and (keys != np.arange(TOKENS)).sum() == 2 * len(keys)
    assert (keys[rows, last.places[:, 0]] == last.places[:, 0, ::-1]).all()


def test_rows_that_look_at_themselves():
    real = np.array([[True, True, False]])
    own, other, equal = np.eye(3), np.roll(np.eye(3), 1, axis=1), np.full((3, 3), 1 / 3)
    for weights, share in ((own, 1), (other, 0), (equal, 0)):
        assert probes.own_share(weights[None, None], real) == share
    assert probes.own_share(np.stack([own, other])[None], real) == 0.5


def test_mass_is_what_the_verb_gives_its_nouns(exam):
    weights = np.zeros((len(exam.tokens), 2, TOKENS, TOKENS))
    rows = np.arange(len(weights))[:, None, None]
    weights[rows, 0, exam.verbs[..., None], exam.places] = 0.5
    two = exam.nouns[:, 1, 0] != NO_TARGET
    assert answers.mass(weights[two], exam.rows(two)) == pytest.approx(0.5), "one of two heads gives all"
    assert answers.mass(weights[two].swapaxes(-2, -1), exam.rows(two)) < 0.1


def test_probes_find_what_is_there_and_nothing_else(exam):
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((*exam.tokens.shape, 48))
    words = rng.standard_normal((len(load().words), 48))[exam.tokens]
    roles = noise.copy()
    asked = exam.nouns != NO_TARGET
    rows = np.broadcast_to(np.arange(len(asked))[:, None, None], asked.shape)[asked]
    roles[rows, exam.places[asked], 0] = np.broadcast_to([3, -3], asked.shape)[asked]
    found = answers.probed(roles, words, exam)
    assert found["k_role"] > 0.95 and found["v_word"] == 1
    assert found["k_word"] < 0.2 and found["v_role"] < 0.9
    nothing = answers.probed(noise, noise, exam)
    assert nothing["k_role"] < 0.6 and nothing["v_word"] < 0.2
    assert np.isfinite(list(answers.probed(0 * noise, 0 * noise, exam).values())).all()


# Models


def test_one_model_alone_equals_the_same_among_many():
    runs = [Run(0, 0.01), Run(1, 0.03)]
    for setting in ("two-layers/positions", "one-layer/bag"):
        many = train_together(SMALL, setting, parse("QQV"), runs)
        alone = train_one(SMALL, setting, parse("QQV"), runs[1])
        np.testing.assert_allclose(many[1].losses, alone.losses, rtol=1e-4)
        assert many[1].metrics.keys() == alone.metrics.keys()
        assert many[1].metrics["error"] == pytest.approx(alone.metrics["error"], abs=0.1)


@pytest.mark.parametrize("setting", ["one-layer/positions", "two-layers/bag"])
def test_what_is_measured(setting):
    group = Together(SMALL, setting, parse("QKV"), [Run(0, 0.01)])
    (before,), (after,) = group.before, SMALL.measure(setting, [0], group._call)
    layers = range(1, Setting.parse(setting).layers + 1)
    assert set(before) == {f"own_{i}_before" for i in layers}
    assert tuple(after) == SMALL.metrics(setting) and {f"own_{i}" for i in layers} <= set(after)
    assert all(0 <= value <= 1 for value in (*before.values(), *after.values()))


def test_a_model_that_is_not_finite_is_not_measured():
    group = Together(SMALL, "one-layer/positions", parse("QKV"), [Run(0, 0.01), Run(1, 0.01)])
    group.weights["words"][0] = torch.nan
    broken, whole = group.finish()
    assert broken.diverged and np.isnan([broken.metrics[name] for name in SMALL.metrics("one-layer/positions")]).all()
    assert not whole.diverged and np.isfinite(list(whole.metrics.values())).all()


def encoder(name="QKV", setting="two-layers/positions"):
    return start(SMALL, setting, parse(name), 0)


def inputs(n=8):
    exam = answers.last_verbs(SMALL.held_out("two-layers/positions", 0).rows(slice(n)))
    return exam, torch.from_numpy(exam.tokens), torch.from_numpy(exam.verbs)


@pytest.mark.parametrize("name", ["QKV", "QQV", "QKX", "XXX", "QKV/kv1", "QQV/noself"])
def test_padding_reaches_no_answer(name):
    model, (_, tokens, verbs) = encoder(name), inputs()
    with torch.no_grad():
        names = model(tokens, verbs)
        model.words[PADDING] = 50.0
        assert torch.equal(model(tokens, verbs), names)
        row = int((tokens != PADDING).sum(1).argmin())
        short = tokens[row, tokens[row] != PADDING][None]
        torch.testing.assert_close(model(short, verbs[row][None]), names[row][None])


def keys_by_hand(model, tokens, verbs, keys):
    """Exchange keys as the words say: k of one place is put at another, in every layer, before any score."""
    from qkvlab.attention import core
    from qkvlab.attention.scoring import Scoring
    from qkvlab.models.blocks import norm

    x, real = model._embed(tokens), tokens != PADDING
    for block in model.blocks:
        q, memory = block.attention.projections.project(norm(x))
        k, v = block.attention.projections.recall(memory)
        k = torch.take_along_dim(k, keys[:, None, :, None], dim=-2)
        visible = block.attention.visible((*q.shape[:-1], k.shape[-2]), x.device, own=True, padding=real)
        brought = core.attend(q, k, v, visible, Scoring(root=q.shape[-1] ** 0.5))
        x = x + block.attention.out(brought.swapaxes(-3, -2).flatten(-2))
        x = x + block.narrow(torch.nn.functional.gelu(block.widen(norm(x))))
    picked = torch.take_along_dim(x, verbs[..., None], dim=-2)
    return model.names(norm(picked)).unflatten(-1, (2, -1))


@pytest.mark.parametrize("name", ["QKV", "QQV", "QKK", "XXX"])
def test_exchanging_keys_is_exchanging_keys(name):
    model, (exam, tokens, verbs) = encoder(name), inputs()
    keys = torch.from_numpy(answers.exchange(exam))
    with torch.no_grad():
        got = model.exchanged(tokens, verbs, keys)
        torch.testing.assert_close(got, keys_by_hand(model, tokens, verbs, keys))
        stay = torch.arange(TOKENS).expand(len(tokens), -1)
        torch.testing.assert_close(model.exchanged(tokens, verbs, stay), model(tokens, verbs))
        assert (got - model(tokens, verbs)).abs().max() > 1e-3, "the exchange changes something"


def test_a_bag_does_not_know_order():
    model, (_, tokens, _) = encoder(setting="two-layers/bag"), inputs()
    turned = tokens.flip(1)
    places = torch.arange(TOKENS).expand(len(tokens), -1)
    with torch.no_grad():
        torch.testing.assert_close(model(turned, places).flip(1), model(tokens, places), atol=1e-5, rtol=1e-4)
        ordered = encoder()
        assert (ordered(turned, places).flip(1) - ordered(tokens, places)).abs().max() > 1e-2


def test_keys_and_values_are_those_of_the_layers():
    model, (_, tokens, _) = encoder("QKK"), inputs()
    with torch.no_grad():
        keys, values = model.keys_and_values(tokens)
    assert keys.shape == (2, len(tokens), TOKENS, SMALL.d_model)
    assert torch.equal(keys, values), "one matrix makes both"
