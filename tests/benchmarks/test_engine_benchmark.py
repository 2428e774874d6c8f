"""The benchmark of the engine trains what it says, and counts its operations right."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "benchmarks"))

import engine
import loop
from qkvlab import designs
from qkvlab.training import recipe

POINT = (3, 10, 32)


def by_hand(design_matrices: int) -> int:
    """Operations of a step: two layers, each product once forward and twice for its gradients."""
    batch, tokens, d = POINT
    classes = engine.sized(POINT).read.classes
    layer = 2 * d * d * (design_matrices + 1 + 2 * 4) + 2 * 2 * tokens * d
    return 3 * batch * tokens * (2 * layer + 2 * d * classes)


@pytest.mark.parametrize(("design", "matrices"), [("QKV", 3), ("QQV", 2), ("XXV", 1)])
def test_operations_are_those_of_the_products(design, matrices):
    assert engine.flops(POINT, design) == by_hand(matrices)
    assert engine.flops(POINT, design) != by_hand(matrices + 1)  # planted: one matrix more


def test_the_loop_trains_by_fused_attention_and_the_batch_by_stacked_models(monkeypatch):
    seen = []
    monkeypatch.setattr(
        loop, "rate", lambda step, most, seconds, *device: seen.append([step(i) for i in range(2)]) or 1.0
    )
    monkeypatch.setattr(engine, "_together", type("Barrier", (), {"wait": staticmethod(lambda timeout: None)}))
    starts = recipe.start

    def kept(*given):
        model = starts(*given)
        seen.append(model)
        return model

    monkeypatch.setattr(recipe, "start", kept)
    loop.loop_rate(engine.sized(POINT), engine.SETTING, "QKV", 1.0)
    model = seen[0]
    assert {block.attention.route for block in model.blocks} == {"fused"}
    assert engine.batched_rate(POINT, "QKV", 3, "plain", 1.0) == (3.0, 0.0)


def test_sizes_are_those_of_the_point():
    task = engine.sized((64, 32, 128))
    assert (task.batch, task.tokens, task.d_model, task.hidden) == (64, 32, 128, 512)
    assert task.model("plain", designs.parse("QKV")).blocks[0].attention.dims.d_model == 128
