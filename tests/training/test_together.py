"""Many models at once are the same models as one by one, and none of them feels its neighbours."""

from __future__ import annotations

import math

import pytest
import torch

from qkvlab import designs
from qkvlab.study import recipes
from qkvlab.tasks.library import TASK
from qkvlab.training import recipe, together
from qkvlab.training.one import train_one_by_one
from qkvlab.training.recipe import Run, Trained
from qkvlab.training.together import Together, train_together

ARTICLE = recipes.find("article").designs
RUNS = [Run(0, 0.003), Run(1, 0.01), Run(0, 0.01)]
STEPS = 20


def gap(a: Trained, b: Trained) -> float:
    """Return the largest difference between two trained models, in losses and in every parameter."""
    assert a.state.keys() == b.state.keys() and len(a.losses) == len(b.losses) > 0
    losses = max(abs(x - y) for x, y in zip(a.losses, b.losses, strict=True))
    return max(losses, *(float((a.state[n] - b.state[n]).abs().max()) for n in a.state))


def same_bits(a: Trained, b: Trained) -> bool:
    return a.losses == b.losses and all(torch.equal(a.state[n], b.state[n]) for n in a.state)


@pytest.mark.parametrize("vectors", ["fixed", "learned"])
@pytest.mark.parametrize("name", ARTICLE)
def test_batched_is_one_by_one(name, vectors):
    setting, design = f"synonym/{vectors}", designs.parse(name)
    many = train_together(TASK, setting, design, RUNS, steps=STEPS)
    single = train_one_by_one(TASK, setting, design, RUNS, steps=STEPS)
    assert len(many) == len(single) == len(RUNS)
    for a, b in zip(many, single, strict=True):
        assert gap(a, b) < 1e-5
        assert a.diverged is b.diverged is False
        assert a.metrics == pytest.approx(b.metrics, abs=2e-3)  # an answer on the edge may fall either way
        assert len(a.losses) == STEPS and a.losses[-1] < a.losses[0]


@pytest.mark.parametrize("setting", ["directed-long/fixed", "directed-acyclic/learned", "synonym/fixed/d64"])
def test_batched_is_one_by_one_in_other_settings(setting):
    design = designs.parse("QKV")
    many = train_together(TASK, setting, design, RUNS[:2], steps=5)
    single = train_one_by_one(TASK, setting, design, RUNS[:2], steps=5)
    assert all(gap(a, b) < 1e-5 for a, b in zip(many, single, strict=True))


def test_one_alone_is_itself_among_many():
    design = designs.parse("QQV")
    (alone,) = train_together(TASK, "synonym/learned", design, RUNS[1:2], steps=STEPS)
    among = [Run(seed, lr) for seed in range(4, 8) for lr in (0.001, 0.03)]
    group = [*among[:3], RUNS[1], *among[3:]]
    found = train_together(TASK, "synonym/learned", design, group, steps=STEPS)[3]
    assert gap(alone, found) < 1e-5 and alone.metrics == pytest.approx(found.metrics, abs=2e-3)


def test_the_same_group_again_gives_the_same_bits():
    first, again = (train_together(TASK, "synonym/fixed", designs.parse("QKV"), RUNS, steps=5) for _ in range(2))
    assert all(same_bits(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("rate", [1e6, 1e38])
def test_a_model_that_diverges_disturbs_nobody(rate):
    design, calm = designs.parse("QKV"), [Run(1, 0.003), Run(2, 0.003)]
    steps = 40
    with_it = train_together(TASK, "synonym/learned", design, [calm[0], Run(0, rate), calm[1]], steps=steps)
    healthy = train_together(TASK, "synonym/learned", design, [calm[0], Run(0, 0.003), calm[1]], steps=steps)
    without = train_together(TASK, "synonym/learned", design, calm, steps=steps)
    wild = with_it[1]
    assert wild.diverged and [t.diverged for t in (*with_it[::2], *healthy, *without)] == [False] * 7
    assert all(math.isnan(value) for value in wild.metrics.values())
    assert not all(math.isfinite(loss) for loss in wild.losses)
    for neighbour, beside_healthy, alone in zip(with_it[::2], healthy[::2], without, strict=True):
        assert same_bits(neighbour, beside_healthy), "its number entered another model"
        assert gap(neighbour, alone) < 1e-5  # a group of another size may sum in another order
        assert all(math.isfinite(value) for value in neighbour.metrics.values())


def test_a_diverged_model_is_recorded_alike_by_both_routes():
    for train in (train_together, train_one_by_one):
        (found,) = train(TASK, "synonym/fixed", designs.parse("QKV"), [Run(0, 1e6)], steps=30)
        assert found.diverged and math.isnan(found.metrics["error"]) and math.isnan(found.metrics["coverage"])


def test_planted_clipping_by_the_norm_of_the_group_is_caught(monkeypatch):
    """The plausible mistake: one norm over stacked gradients, so that a neighbour's gradient shortens mine."""
    step = together.StackedAdamW.step

    def shared(self, gradients):
        norm = sum(float(g.square().sum()) for g in gradients.values()) ** 0.5
        step(self, {n: g / max(1.0, norm) for n, g in gradients.items()})

    monkeypatch.setattr(together.StackedAdamW, "step", shared)
    with pytest.raises(AssertionError):
        test_one_alone_is_itself_among_many()
    with pytest.raises(AssertionError):
        test_a_model_that_diverges_disturbs_nobody(1e6)


def test_planted_one_rate_for_all_is_caught(monkeypatch):
    begin = together.StackedAdamW.__init__
    monkeypatch.setattr(
        together.StackedAdamW, "__init__", lambda self, weights, rates: begin(self, weights, [rates[0]] * len(rates))
    )
    with pytest.raises(AssertionError):
        test_batched_is_one_by_one("QKV", "fixed")


def test_no_step_at_all_is_a_run_without_losses():
    (found,) = train_together(TASK, "synonym/fixed", designs.parse("QKV"), [Run(0, 0.003)], steps=0)
    assert found.losses == () and not found.diverged and 0.5 < found.metrics["error"] <= 1


# Where models start and what moves


def test_equal_names_start_equal_across_designs():
    for setting in ("synonym/fixed", "synonym/learned"):
        starts = {name: dict(recipe.start(TASK, setting, designs.parse(name), 7).state_dict()) for name in ARTICLE}
        seen: dict[str, torch.Tensor] = {}
        for state in starts.values():
            for name, value in state.items():
                assert torch.equal(seen.setdefault(name, value), value), name
        assert {"words", "contents", "attention.out.weight"} <= set.intersection(*map(set, starts.values()))
        other = recipe.start(TASK, setting, designs.parse("QKV"), 8).state_dict()
        assert all((other[n] != starts["QKV"][n]).float().mean() > 0.99 for n in other)


def test_a_start_depends_on_nothing_else():
    torch.manual_seed(1)
    first = recipe.start(TASK, "synonym/fixed", designs.parse("QKV"), 3).state_dict()
    before = torch.random.get_rng_state()
    again = recipe.start(TASK, "synonym/fixed", designs.parse("QKV"), 3).state_dict()
    assert torch.equal(before, torch.random.get_rng_state()), "global noise was used up"
    assert all(torch.equal(first[n], again[n]) for n in first)


def test_learned_vectors_start_where_fixed_ones_stay():
    fixed, learned = (
        recipe.start(TASK, f"synonym/{v}", designs.parse("QKV"), 2).state_dict() for v in ("fixed", "learned")
    )
    assert all(torch.equal(fixed[n], learned[n]) for n in fixed)
    assert torch.equal(fixed["words"], torch.from_numpy(TASK.given("synonym/fixed", 2)["words"]))


@pytest.mark.parametrize("vectors", ["fixed", "learned"])
@pytest.mark.parametrize("name", ["QKV", "QQV", "XXX", "uniform", "frozen"])
def test_only_what_is_trained_moves(name, vectors):
    setting, design = f"synonym/{vectors}", designs.parse(name)
    (trained,) = train_together(TASK, setting, design, [Run(5, 0.01)], steps=8)
    before = recipe.start(TASK, setting, design, 5).state_dict()
    moved = {n for n in before if not torch.equal(before[n], trained.state[n])}
    expected = {n for n in before if "projections" in n or n == "attention.out.weight"}
    if name == "frozen":
        expected -= {n for n in before if n.split(".")[-1] in ("q", "k")}
        assert len(before) - len(expected) == 4  # W_Q, W_K and the vectors
    if vectors == "learned":
        expected |= {"words", "contents"}
    assert moved == expected


def test_both_arms_see_the_same_data():
    groups = [Together(TASK, "directed/fixed", designs.parse(n), RUNS) for n in ("QKV", "XXV", "frozen")]
    first = groups[0]
    for other in groups[1:]:
        assert torch.equal(first.targets, other.targets)
        assert all(torch.equal(a, b) for a, b in zip(first.inputs, other.inputs, strict=True))
    drawn = TASK.batches("directed/fixed", 1)
    assert (first.inputs[0][:, 1].numpy() == drawn.inputs[0]).all()
    assert (first.targets[:, 1].numpy() == drawn.targets).all()
    assert torch.equal(first.targets[:, 0], first.targets[:, 2])  # two rates of one seed see the same rows


# The schedule and the curve


def test_the_rate_rises_and_falls():
    steps = TASK.steps("synonym/fixed")
    factors = [recipe.schedule(s, steps) for s in range(steps)]
    warm = round(recipe.WARM_UP * steps)
    assert factors[:warm] == pytest.approx([(s + 1) / warm for s in range(warm)])
    assert factors[warm] == max(factors) == 1
    assert all(a > b for a, b in zip(factors[warm:], factors[warm + 1 :], strict=False))
    assert factors[warm + (steps - warm) // 2] == pytest.approx(0.5)
    assert 0 < factors[-1] < 0.001
    assert [recipe.schedule(0, n) for n in (1, 2, 3)] == [1, 1, 1]


def test_losses_are_means_of_equal_stretches():
    losses = torch.arange(200.0)[:, None] * torch.tensor([1.0, 2.0])
    first, second = recipe.stretches(losses, recipe.stretch(200))
    assert len(first) == recipe.POINTS and first[:2] == [1.5, 5.5] and second[:2] == [3, 11]
    assert recipe.stretches(losses[:3], recipe.stretch(3)) == [[0, 1, 2], [0, 2, 4]]
    # what stopped has the points that it would have had
    assert recipe.stretches(losses[:60], recipe.stretch(200)) == [first[:15], second[:15]]


def test_steps_of_a_whole_run():
    """A run to the end keeps its points, learns, and its numbers stand on its own exam."""
    (trained,) = train_together(TASK, "same-word/fixed", designs.parse("XXV"), [Run(1001, 0.01)])
    assert len(trained.losses) == recipe.POINTS
    assert trained.metrics["error"] < 0.1 < 0.8 < trained.losses[0]
    assert set(trained.metrics) == {"error", "coverage"}


def stepped_by(lay):
    """Weights after two steps by gradients that lie as they are laid."""
    torch.manual_seed(0)
    weights = {"a": torch.randn(3, 4, 5), "b": torch.randn(3, 6)}
    optimiser = together.StackedAdamW(weights, [0.1, 0.1, 0.2])
    optimiser.scale(1.0)
    for _ in range(2):
        optimiser.step({name: lay(torch.randn(w.shape)) for name, w in weights.items()})
    return weights


def turned_round(x):
    return x.movedim(0, -1).clone(memory_format=torch.contiguous_format).movedim(-1, 0)


def test_gradients_may_lie_anyhow():
    for part, wanted in stepped_by(lambda g: g).items():
        torch.testing.assert_close(stepped_by(turned_round)[part], wanted)


def test_gradients_that_are_read_as_they_lie_are_caught(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "contiguous", lambda self: self)
    with pytest.raises(AssertionError):
        test_gradients_may_lie_anyhow()
