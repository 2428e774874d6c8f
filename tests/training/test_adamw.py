"""AdamW of stacked models by a kernel of our own: as exact as torch's, model by model."""

import functools

import pytest
import torch

from qkvlab.kernels import adamw, kernel
from qkvlab.training.adamw import StackedAdamW

RATES = [0.1, 0.1, 0.02]
SHAPES = {"large": (3, 40, 500), "long": (3, 20001), "few": (3, 7), "deep": (3, 17, 3, 5)}


def drawn(dtype, scale=1.0, seed=0):
    source = torch.Generator().manual_seed(seed)
    return {name: (scale * torch.randn(shape, generator=source)).to(dtype) for name, shape in SHAPES.items()}


def moved(dtype=torch.float32, scale=1.0, steps=12):
    """Weights after a few steps."""
    weights = drawn(dtype)
    optimiser = StackedAdamW(weights, RATES)
    for i in range(steps):
        optimiser.scale(1 / (i + 1))
        optimiser.step(drawn(dtype, scale, seed=i + 1))
    return weights


def without_kernel(monkeypatch):
    monkeypatch.setattr(adamw, "works", lambda weights: False)


def gap(scale, monkeypatch):
    """The largest error by that of torch's fused kernel."""
    made = moved(scale=scale)
    with monkeypatch.context() as patch:
        without_kernel(patch)
        exact, usual = moved(torch.float64, scale), moved(scale=scale)
    errors = [(float((made[n] - exact[n]).abs().max()), float((usual[n] - exact[n]).abs().max())) for n in exact]
    return max(own / theirs for own, theirs in errors)


@pytest.mark.parametrize("scale", [1e-5, 1.0, 1e4])  # below the bound, and far above
def test_steps_are_those_of_torch(scale, monkeypatch):
    assert adamw.works([*drawn(torch.float32).values()])
    assert gap(scale, monkeypatch) < 2


def test_threads_change_nothing():
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(moved())
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found[0][name], w) for name, w in found[1].items())


def test_a_model_that_diverged_disturbs_no_other():
    spoilt, clean = drawn(torch.float32), drawn(torch.float32)
    for weights, worst in ((spoilt, torch.nan), (clean, 1.0)):
        gradients = drawn(torch.float32, seed=1)
        gradients["few"][1, 3] = worst
        StackedAdamW(weights, RATES).step(gradients)
    for name, weight in clean.items():
        assert torch.equal(spoilt[name][::2], weight[::2])
        assert spoilt[name][1].isnan().all()


def test_others_are_left_to_torch():
    weights = [torch.zeros(3, 4, 5)]
    assert adamw.works(weights) and not adamw.works([weights[0].mT]) and not adamw.works([weights[0].double()])
    assert not adamw.works([*weights, weights[0].to("meta")])


@pytest.mark.parametrize("own", [True, False])
def test_what_is_remembered_is_taken_up(own, monkeypatch):
    if not own:
        without_kernel(monkeypatch)
    want, weights = moved(steps=6), moved(steps=3)
    other = drawn(torch.float32)
    optimiser = StackedAdamW(other, RATES)
    for i in range(3):
        optimiser.scale(1 / (i + 1))
        optimiser.step(drawn(torch.float32, seed=i + 1))
    kept = optimiser.moments()
    again = StackedAdamW(weights, RATES)
    again.resume(kept, 3)
    for i in range(3, 6):
        again.scale(1 / (i + 1))
        again.step(drawn(torch.float32, seed=i + 1))
        optimiser.step(drawn(torch.float32, seed=9))  # what was told of moments stays as it is
    for name, weight in want.items():
        assert torch.equal(weights[name], weight)


PLANTED = {
    "all models are clipped alike": ("norms[pieces[n].model] += sums[n]", "norms[0] += sums[n]"),
    "nothing is clipped": ("share > 1 ? 1 : share", "1"),
    "a small norm makes gradients large": ("share > 1 ? 1 : share", "share"),
    "all move at the first rate": ("rates[p.model]", "rates[0]"),
    "moments are not corrected": ("1 - std::pow(rule->beta1, rule->steps)", "1"),
    "weights do not decay": ("rate * rule->decay", "0"),
    "the last numbers have no norm": ("for (; i < end; i++) some[0]", "for (; false;) some[0]"),
    "pieces begin anew": (
        "int64_t begin = 0; begin < sizes[i]; begin += PIECE",
        "int64_t begin = 0; begin < 1; begin++",
    ),
}


@pytest.mark.parametrize("bug", PLANTED)
def test_planted_bugs_are_seen(bug, monkeypatch, tmp_path):
    source = (kernel._FOLDER / "adamw.cpp").read_text()
    right, wrong = PLANTED[bug]
    assert right in source
    (tmp_path / "adamw.cpp").write_text(source.replace(right, wrong))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kernel, "compiled", functools.cache(kernel.compiled.__wrapped__))
    monkeypatch.setattr(kernel, "_FOLDER", tmp_path)
    with pytest.raises(AssertionError):
        assert max(gap(scale, monkeypatch) for scale in (1e-5, 1.0, 1e4)) < 2
