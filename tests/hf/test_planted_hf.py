"""A test must be able to fail: bugs planted in reading, carrying and rebuilding, and the check that catches each."""

import dataclasses

import pytest
import test_layer_is_the_models as layer
import test_share as rebuilt
import test_share_kept as kept
import torch

from qkvlab.attention import core
from qkvlab.designs.qknorm import QKNorm
from qkvlab.designs.vnorm import VNorm
from qkvlab.hf import Shared, rebuilding, starting
from qkvlab.hf.families import bert, gemma, gemma3, gpt2, gpt_neox, llama, phi3
from qkvlab.hf.reading import ROLES
from qkvlab.hf.rotary import Rotary

# the originals, before anything is planted
made_of, turned_of, attended_of = Shared.made, Rotary.turned, Shared.attended
heads_of, norm_of = starting._heads, QKNorm.turn
recall_of = VNorm.recall
reads = {family: family.read for family in (gpt2, gpt_neox, bert, llama, phi3)}


def changed(family, **change):
    """The family's reading, with some of it made of the right one."""

    def read(module):
        right = reads[family](module)
        return dataclasses.replace(right, **{name: make(right, module) for name, make in change.items()})

    return read


def not_transposed(read, module):
    return {role: matrix.T for role, matrix in read.matrices.items()}


def side_by_side(read, module):
    parts = module.query_key_value.weight.detach().T.chunk(3, -1)
    return dict(zip(ROLES, parts, strict=True))


def head_by_head(read, module):
    rows = module.qkv_proj.weight.detach().unflatten(0, (2, 4, -1))  # a block of each key head: two of q, k, v
    return {"q": rows[:, :2].flatten(0, 2).T, "k": rows[:, 2].flatten(0, 1).T, "v": rows[:, 3].flatten(0, 1).T}


def keys_first(read, module):
    return {"q": read.matrices["k"], "k": read.matrices["q"], "v": read.matrices["v"]}


def no_biases(read, module):
    return {}


def zero_biases(read, module):
    return {role: torch.zeros_like(bias) for role, bias in read.biases.items()}


MISREAD = {
    "Conv1D transposed": (gpt2, {"matrices": not_transposed}, "gpt2"),
    "NeoX blocks as [q | k | v]": (gpt_neox, {"matrices": side_by_side}, "gpt_neox"),
    "Phi-3 rows as blocks of heads": (phi3, {"matrices": head_by_head}, "phi3"),
    "k before q": (bert, {"matrices": keys_first}, "bert"),
    "biases forgotten": (gpt2, {"biases": zero_biases}, "gpt2"),
    "biases dropped": (llama, {"biases": zero_biases}, "qwen2"),
}


@pytest.mark.parametrize("bug", MISREAD)
def test_a_misread_weight_is_caught_by_the_layer_and_by_qkv(bug, monkeypatch):
    family, change, name = MISREAD[bug]
    monkeypatch.setattr(family, "read", changed(family, **change))
    with pytest.raises(AssertionError):
        layer.test_it_is_the_models_own_attention(name, next(at for each, at in layer.CASES if each == name), "plain")
    with pytest.raises(AssertionError):
        rebuilt.test_qkv_is_the_model_itself(name, "eager")


def test_a_bias_that_the_rebuilt_model_has_not_is_caught(monkeypatch):
    monkeypatch.setattr(bert, "read", changed(bert, biases=no_biases))
    with pytest.raises(AssertionError):
        rebuilt.test_qkv_is_the_model_itself("bert", "eager")


WRONG_DESIGNS = {
    "pairs are neighbours": ("llama", 0, "QKV/kv2/rope-interleaved"),
    "all channels turn": ("gpt_neox", 0, "QKV/bias/rope-base100"),
    "another base": ("gemma3_text", 1, "QKV/kv2/qknorm/rope"),
    "no positions": ("gemma", 0, "QKV/kv2"),
    "rotated before the norm": ("qwen3", 0, "QKV/kv2/bias/rope/qknorm"),
    "window of one more": ("mistral", 0, "QKV/kv2/rope/window6"),
    "no window": ("phi3", 0, "QKV/kv2/rope-first4-base100"),
    "another cap": ("gemma2", 1, "QKV/kv2/rope/cap3"),
}


@pytest.mark.parametrize("bug", WRONG_DESIGNS)
def test_a_wrong_design_is_not_the_model(bug, monkeypatch):
    name, at, design = WRONG_DESIGNS[bug]
    monkeypatch.setitem(layer.CASES, (name, at), design)
    monkeypatch.setattr(layer, "sees", lambda window, causal: sees_of(5 if "window" in bug else window, causal))
    with pytest.raises(AssertionError):
        layer.test_it_is_the_models_own_attention(name, at, "fused")


sees_of = layer.sees


def test_heads_paired_by_the_remainder_are_caught(monkeypatch):
    def rows(x, groups):
        *batch, heads, t, n = x.shape
        return (
            x.unflatten(-3, (heads // groups, groups)).swapaxes(-4, -3).reshape(*batch, groups, heads // groups * t, n)
        )

    def as_heads(x, heads):
        *batch, groups, count, n = x.shape
        split = x.reshape(*batch, groups, heads // groups, count * groups // heads, n)
        return split.swapaxes(-4, -3).reshape(*batch, heads, count * groups // heads, n)

    monkeypatch.setattr(core, "_as_rows", rows)
    monkeypatch.setattr(core, "_as_heads", as_heads)
    with pytest.raises(AssertionError):
        layer.test_it_is_the_models_own_attention("llama", 0, "plain")


def test_gains_that_are_dropped_are_caught(monkeypatch):
    ones = lambda weights: {n: torch.ones_like(w) if n.endswith("_gain") else w for n, w in weights.items()}  # noqa: E731
    monkeypatch.setattr(QKNorm, "turn", lambda self, weights, *rest: norm_of(self, ones(weights), *rest))
    with pytest.raises(AssertionError):
        layer.test_it_is_the_models_own_attention("qwen3", 0, "plain")


@pytest.mark.parametrize("bug", ["values as they are", "keys normed twice"])
def test_values_of_gemma_4(bug, monkeypatch):
    def recall(self, weights, memory, dims):
        k, v = self.inner.recall(weights, memory, dims)
        return (k, v) if bug == "values as they are" else (recall_of(self, weights, memory, dims)[1], v)

    monkeypatch.setattr(VNorm, "recall", recall)
    with pytest.raises(AssertionError):
        layer.test_gemma_4_has_its_keys_as_values("plain")


def values_turned(self, x, cache=None, rotation=None, positions=None):
    q, k, v = made_of(self, x, cache, rotation, positions)
    return q, k, k if self.projections.design.keys_are_values else v


def keys_not_turned_again(self, x, cache=None, rotation=None, positions=None):
    return (
        made_of(self, x, cache, None, positions) if cache is not None else made_of(self, x, cache, rotation, positions)
    )


def norm_forgotten(self, heads, role, rotation):
    return heads if rotation is None else self.of_model("apply_rotary_pos_emb")(heads, heads[:, :0], *rotation)[0]


def query_norm_for_both(self, heads, role, rotation):
    return turned_of(self, heads, "q", rotation)


def places_are_slots(self, like, positions):
    return self.angles[0](like, torch.arange(positions.shape[-1]).expand_as(positions))


def no_dropout(self, q, k, v, mask, *, dropout, **more):
    return attended_of(self, q, k, v, mask, dropout=0.0, **more)


def own_scale(self, q, k, v, mask, **more):
    return attended_of(self, q, k, v, mask, **more, scaling=q.shape[-1] ** -0.5)


def decode(name, design):
    return lambda: rebuilt.test_decoding_with_the_models_own_cache_is_the_same_without(name, design)


def ways(name):
    return lambda: rebuilt.test_every_way_is_the_model_with_its_weights_tied(name)


def itself(name):
    return lambda: rebuilt.test_qkv_is_the_model_itself(name, "eager")


REBUILT = {
    "values are rotated too": (Shared, "made", values_turned, ways("llama")),
    "cached keys are not rotated": (Shared, "made", keys_not_turned_again, decode("llama", "QKK")),
    "norm forgotten": (Rotary, "turned", norm_forgotten, itself("qwen3")),
    "the queries' norm for keys": (Rotary, "turned", query_norm_for_both, itself("qwen3")),
    "positions are places in the cache": (Rotary, "rotation_at", places_are_slots, decode("llama", "QKK")),
    "angles of another type of layer": (gemma3.Rebuilt, "rotation_at",
        lambda self, like, at: self.angles[0](like, at, "full_attention"), decode("gemma3_text", "QKK")),
    "cap forgotten": (gemma.Rebuilt, "extras", lambda self: {}, itself("gemma2")),
    "scale of our own": (Shared, "attended", own_scale, itself("gemma3_text")),
    "scale of no layer": (Shared, "attended", own_scale, itself("gpt2")),
    "dropout lost": (Shared, "attended", no_dropout, rebuilt.test_dropout_stays),
    "dropped matrices are kept": (rebuilding, "delattr", lambda module, name: None,
        kept.test_the_report_counts_what_stands_in_the_model),
    "tied start by the mean": (kept, "closest_tied", lambda q, k, rotary: (q + k) / 2,
        kept.test_the_tied_start_is_the_positive_part_of_the_symmetric_part),
    "rotated channels as plain ones": (kept, "closest_tied", lambda q, k, rotary: starting.closest_tied(q, k, 0),
        kept.test_the_tied_start_of_rotated_heads_is_the_nearest_over_all_distances),
    "pairs of neighbours": (kept, "closest_tied", lambda q, k, rotary: starting.closest_tied(
        *(torch.cat([w[..., 0:rotary:2], w[..., 1:rotary:2], w[..., rotary:]], -1) for w in (q, k)), rotary),
        kept.test_the_tied_start_of_rotated_heads_is_the_nearest_over_all_distances),
}  # fmt: skip


@pytest.mark.parametrize("bug", REBUILT)
def test_a_bug_in_rebuilding_is_caught(bug, monkeypatch):
    where, name, planted, check = REBUILT[bug]
    monkeypatch.setattr(where, name, planted, raising=name != "delattr")
    with pytest.raises(AssertionError):
        check()


def test_heads_pooled_by_the_remainder_are_caught(monkeypatch):
    def heads(matrix, count, groups, read, role):
        if role == "q" or groups == read.kv_heads:
            return heads_of(matrix, count, groups, read, role)
        split = matrix.unflatten(-1, (read.kv_heads, -1)).swapaxes(0, 1)
        return split.unflatten(0, (read.kv_heads // groups, groups)).mean(0)

    monkeypatch.setattr(starting, "_heads", heads)
    with pytest.raises(AssertionError):
        rebuilt.test_fewer_key_heads_are_pooled("gpt2")
