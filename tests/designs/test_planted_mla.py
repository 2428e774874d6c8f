"""Bugs planted in multi-head latent attention, and the identity or check of the contract that catches each."""

import math
from dataclasses import dataclass, replace

import pytest
import torch
from plain_mla import absorbed_equals_plain, equals_the_paper

from qkvlab.contracts import Memory
from qkvlab.designs import parse
from qkvlab.designs.absorbed import Absorbed
from qkvlab.designs.design import split_heads
from qkvlab.designs.mla import MLA
from qkvlab.testing import CHECKS

JUDGES = {check.__name__: check for check in CHECKS}
JUDGES |= {check.__name__: check for check in (equals_the_paper, absorbed_equals_plain)}
PAPER, EQUAL = "equals_the_paper", "absorbed_equals_plain"


class LatentNotNormed(MLA):
    def remember(self, weights, x, dims, positions):
        kept = super().remember(weights, x, dims, positions).kept["latent"]
        latent = self.widths(dims)[0]
        return Memory(
            {"latent": torch.cat([x @ weights["dkv"] * weights["dkv_gain"], kept[..., latent:]], -1)}, positions
        )


class GainForgotten(MLA):
    def remember(self, weights, x, dims, positions):
        one = weights["dkv_gain"] * 0 + 1
        return super().remember({**weights, "dkv_gain": one}, x, dims, positions)


class QueryLatentNotNormed(MLA):
    def asked(self, weights, x, dims, positions):
        made = {**weights, "q": weights["q"], "dq_gain": weights["dq_gain"] * (x @ weights["dq"]).pow(2).mean().sqrt()}
        return super().asked(made, x, dims, positions)


class RootOfTheStillPart(MLA):
    def root(self, dims):
        return math.sqrt(dims.d_head)


class PositionsForgotten(MLA):
    def asked(self, weights, x, dims, positions):
        return super().asked(weights, x, dims, None)


class QueriesTurnBackwards(MLA):
    def asked(self, weights, x, dims, positions):
        at = torch.arange(x.shape[-2]) if positions is None else positions
        return super().asked(weights, x, dims, -at)


class LatentTurnedToo(MLA):
    def remember(self, weights, x, dims, positions):
        memory = super().remember(weights, x, dims, positions)
        kept = memory.kept["latent"]
        latent = self.widths(dims)[0] // 2 * 2
        turned = self.rotation.turn(split_heads(kept[..., :latent], 1), positions)[..., 0, :, :]
        return Memory({"latent": torch.cat([turned, kept[..., latent:]], -1)}, positions)


class HalvesPaired(MLA):
    def __post_init__(self):
        object.__setattr__(self, "rotation", replace(self.rotation, pairing="halves"))


class RotaryKeyPerHead(MLA):
    """Keys of head i take a key part of their own, as in a model without the shared one."""

    def recall(self, weights, memory, dims):
        k, v = super().recall(weights, memory, dims)
        c = dims.d_head
        return torch.cat(
            [k[..., :c], torch.stack([k[..., i, :, c:].roll(i, -1) for i in range(dims.heads)], -3)], -1
        ), v


class KeysAndValuesOfEachOthersHeads(MLA):
    def recall(self, weights, memory, dims):
        k, v = super().recall(weights, memory, dims)
        return k, v.flip(-3)


class TheLatentItselfIsKept(MLA):
    """And x beside it: a cache of more than it says."""

    def remember(self, weights, x, dims, positions):
        return Memory({**super().remember(weights, x, dims, positions).kept, "x": x}, positions)


@dataclass(frozen=True)
class ByAbsorbed(MLA):
    """One whose absorbed form has a bug."""

    def absorbed(self):
        return self.form(self)


class ForgetsTheRotaryPart(Absorbed):
    def ask(self, weights, x, dims, positions):
        q = super().ask(weights, x, dims, positions)
        q[..., self.whole.widths(dims)[0] :] = 0
        return q


class NotTransposed(Absorbed):
    """W_UK taken the other way round: the numbers of a head's (latent, d_head) read as (d_head, latent)."""

    def ask(self, weights, x, dims, positions):
        still, turned = self.whole.asked(weights, x, dims, positions)
        up = split_heads(weights["uk"], dims.heads)
        return torch.cat([still @ up.reshape(dims.heads, dims.d_head, -1), turned], -1)


class KeysOfAnotherHead(Absorbed):
    def ask(self, weights, x, dims, positions):
        up = weights["uk"].roll(self.whole.head_sizes(dims).channels, -1)
        return super().ask({**weights, "uk": up}, x, dims, positions)


class ValuesOfAnotherHead(Absorbed):
    def finish(self, weights, heads, dims, like=None):
        return super().finish(weights, heads.roll(1, -3), dims, like)


class RootOfTheLatent(Absorbed):
    def root(self, dims):
        return math.sqrt(self.head_sizes(dims).channels)


class RotaryPartIsAValueToo(Absorbed):
    def recall(self, weights, memory, dims):
        k, v = super().recall(weights, memory, dims)
        return k, v + k[..., -1:]


class CutOffTheGraph(Absorbed):
    def finish(self, weights, heads, dims, like=None):
        return super().finish({**weights, "uv": weights["uv"].detach()}, heads, dims, like)


class KeepsUnturned(Absorbed):
    def remember(self, weights, x, dims, positions):
        return self.whole.remember(weights, x, dims, torch.zeros(x.shape[-2], dtype=torch.long))


def whole(kind):
    made = parse("MLA11q7/rope4")
    return kind(made.latent, made.query_latent, made.rotation, made.turned)


def broken(form):
    design = whole(ByAbsorbed)
    object.__setattr__(design, "form", form)
    return design


BUGS = [
    *((PAPER, whole(kind)) for kind in MLA.__subclasses__() if kind not in (ByAbsorbed, TheLatentItselfIsKept)),
    ("cache_equals_cost", whole(TheLatentItselfIsKept)),
    *((EQUAL, broken(form)) for form in Absorbed.__subclasses__()),
    ("steps_equal_all_at_once", broken(ForgetsTheRotaryPart)),
    ("steps_equal_all_at_once", broken(RootOfTheLatent)),
]


def name_of(part):
    return part if isinstance(part, str) else getattr(part, "form", type(part)).__name__


@pytest.mark.parametrize(("judge", "bug"), BUGS, ids=name_of)
def test_it_is_caught(judge, bug):
    with pytest.raises(AssertionError) as caught:
        JUDGES[judge](bug)
    assert str(caught.value)


def test_without_a_bug_nothing_is_caught():
    for judge in {judge for judge, _ in BUGS}:
        JUDGES[judge](whole(MLA))
