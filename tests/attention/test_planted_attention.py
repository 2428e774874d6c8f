"""A test must be able to fail: bugs planted in attention, and the check of the contract that catches each."""

import math
from dataclasses import replace

import pytest
import torch

from qkvlab.attention import core, layer, visible
from qkvlab.designs import parse
from qkvlab.testing import CHECKS

JUDGES = {check.__name__: check for check in CHECKS}
AS_DEFINED, AGREE = "attends_as_defined", "routes_agree"

# the originals, before anything is planted
scores_of, softmax_of, fused_of = core.scaled_scores, core.softmax_allowed, core.attend_fused
without_self_of = visible.without_self
shift_of, padding_of, parts_of = visible.causal_shift, visible.padding_mask, visible.Visible._parts


def scale_missing(q, k, root):
    return scores_of(q, k, 1.0)


def scale_by_d_model(q, k, root):
    return scores_of(q, k, math.sqrt(18))


def scale_by_d_head(q, k, root):
    return scores_of(q, k, q.shape[-1])


def softmax_over_queries(scores, allowed, *, all_see=False, sinks=None):
    return softmax_of(scores.mT, None if allowed is None else allowed.expand(scores.shape).mT).mT


def rows_that_see_nothing_see_all(scores, allowed, *, all_see=False, sinks=None):
    if allowed is None:
        return scores.softmax(-1)
    return scores.masked_fill(~allowed, -1e30).softmax(-1)


def rows_that_see_nothing_are_repaired_too_late(scores, allowed, *, all_see=False, sinks=None):
    if allowed is None:
        return scores.softmax(-1)
    return (scores + torch.where(allowed, 0.0, -math.inf)).softmax(-1).nan_to_num(0.0)


def masked_after_softmax(scores, allowed, *, all_see=False, sinks=None):
    return scores.softmax(-1) if allowed is None else scores.softmax(-1) * allowed


def mask_inverted(scores, allowed, *, all_see=False, sinks=None):
    return softmax_of(scores, None if allowed is None else ~allowed)


def sees_not_itself(queries, keys, align):
    return shift_of(queries, keys, align) - 1


def sees_the_next(queries, keys, align):
    return shift_of(queries, keys, align) + 1


def alignments_mixed_up(queries, keys, align):
    other = {"top-left": "bottom-right", "bottom-right": "top-left"}
    return shift_of(queries, keys, other.get(align, align))


def padding_one_too_many(keys, padding):
    return padding_of(keys, padding if padding.dtype == torch.bool else (padding + 1).clamp(max=keys))


def padding_on_the_left(keys, padding):
    return padding_of(keys, padding).flip(-1)


def masks_joined_by_or(self, rows, keys):
    present = [part for part in parts_of(self, rows, keys) if part is not None]
    return [present[0] | present[-1]] if present else []


def rows_paired_t_mod_kv_heads(x, groups):
    *batch, heads, t, n = x.shape
    mixed = x.reshape(*batch, heads // groups, groups, t, n).swapaxes(-4, -3)
    return mixed.reshape(*batch, groups, heads // groups * t, n)


def heads_paired_t_mod_kv_heads(x, heads):
    *batch, groups, rows, n = x.shape
    t = rows * groups // heads
    return x.reshape(*batch, groups, heads // groups, t, n).swapaxes(-4, -3).reshape(*batch, heads, t, n)


def fused_forgets_the_mask(q, k, v, seen, scoring):
    return fused_of(q, k, v, visible.Visible(shape=seen.shape, device=seen.device), scoring)


def fused_forgets_causality(q, k, v, seen, scoring):
    return fused_of(q, k, v, replace(seen, causal=False), scoring)


def fused_drops_to_single(q, k, v, seen, scoring):
    return fused_of(q.float(), k.float(), v.float(), seen, scoring).to(v.dtype)


def heads_joined_without_their_tokens(self, heads):
    return self.out(heads.reshape(*heads.shape[:-3], heads.shape[-2], -1))


def keeps_padding(x, padding):
    return x


def nobody_is_taken_away(allowed, rows, keys, device):
    return torch.ones(len(rows), len(keys), dtype=torch.bool) if allowed is None else allowed


def the_lonely_see_nothing(allowed, rows, keys, device):
    others = ~torch.eye(len(rows), dtype=torch.bool)
    return others if allowed is None else allowed & others


def other_masks_are_forgotten(allowed, rows, keys, device):
    return without_self_of(None, rows, keys, device)


BUGS = [
    (AS_DEFINED, "QKV", {(core, "scaled_scores"): scale_missing}),
    (AGREE, "QKV", {(core, "scaled_scores"): scale_missing}),
    (AS_DEFINED, "QKV", {(core, "scaled_scores"): scale_by_d_model}),
    (AS_DEFINED, "QKV", {(core, "scaled_scores"): scale_by_d_head}),
    (AS_DEFINED, "QKV", {(core, "softmax_allowed"): softmax_over_queries}),
    ("the_future_changes_nothing", "QKV", {(core, "softmax_allowed"): softmax_over_queries}),
    ("seeing_nothing_gives_zero", "QKV", {(core, "softmax_allowed"): rows_that_see_nothing_see_all}),
    (AGREE, "QKV", {(core, "softmax_allowed"): rows_that_see_nothing_see_all}),
    (
        "seeing_nothing_gives_zero",
        "QKV",
        {(core, "softmax_allowed"): rows_that_see_nothing_are_repaired_too_late},
    ),
    (AS_DEFINED, "QKV", {(core, "softmax_allowed"): masked_after_softmax}),
    (AS_DEFINED, "QKV", {(core, "softmax_allowed"): mask_inverted}),
    ("the_future_changes_nothing", "QKV", {(visible, "causal_shift"): sees_not_itself}),
    (AS_DEFINED, "QKV", {(visible, "causal_shift"): sees_not_itself}),
    ("the_future_changes_nothing", "QKV", {(visible, "causal_shift"): sees_the_next}),
    (AS_DEFINED, "uniform", {(visible, "causal_shift"): sees_the_next}),
    (AS_DEFINED, "QKV", {(visible, "causal_shift"): alignments_mixed_up}),
    (AS_DEFINED, "QKV", {(visible, "padding_mask"): padding_one_too_many}),
    (AS_DEFINED, "QKV", {(visible, "padding_mask"): padding_on_the_left}),
    (AS_DEFINED, "QKV", {(visible.Visible, "_parts"): masks_joined_by_or}),
    (
        AS_DEFINED,
        "QKV/kv2",
        {(core, "_as_rows"): rows_paired_t_mod_kv_heads, (core, "_as_heads"): heads_paired_t_mod_kv_heads},
    ),
    (AGREE, "QKV/kv2", {(core, "attend_fused"): fused_forgets_the_mask}),
    ("the_future_changes_nothing", "QKV", {(core, "attend_fused"): fused_forgets_causality}),
    (AGREE, "QKV", {(core, "attend_fused"): fused_drops_to_single}),
    (AS_DEFINED, "QKV", {(layer.Attention, "join"): heads_joined_without_their_tokens}),
    (AS_DEFINED, "QQV/noself", {(visible, "without_self"): nobody_is_taken_away}),
    (AS_DEFINED, "QQV/noself", {(visible, "without_self"): the_lonely_see_nothing}),
    (AS_DEFINED, "QQV/noself", {(visible, "without_self"): other_masks_are_forgotten}),
    ("padding_may_hold_anything", "QKV", {(layer, "without_padding"): keeps_padding}),
    ("padding_may_hold_anything", "QKV/kv2", {(layer, "without_padding"): keeps_padding}),
    ("padding_may_hold_anything", "XXX", {(layer, "without_padding"): keeps_padding}),
]


def name_of(part):
    return part if isinstance(part, str) else next(iter(part.values())).__name__


@pytest.mark.parametrize(("judge", "design", "planted"), BUGS, ids=name_of)
def test_the_contract_catches_it(judge, design, planted, monkeypatch):
    for (where, name), bug in planted.items():
        monkeypatch.setattr(where, name, bug)
    with pytest.raises(AssertionError) as caught:
        JUDGES[judge](parse(design))
    assert str(caught.value)


def test_every_check_of_attention_has_caught_something():
    of_attention = {name for name, check in JUDGES.items() if check.__module__.endswith(".attending")}
    assert of_attention == {judge for judge, _, _ in BUGS}
