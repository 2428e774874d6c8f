"""Bugs planted in decoding, and the check of the contract that catches each."""

from dataclasses import replace

import pytest
import torch

from qkvlab.attention import decoding, direct, prepared
from qkvlab.attention.cache import Cache
from qkvlab.attention.direct import multiplied
from qkvlab.attention.visible import Span
from qkvlab.contracts import Memory
from qkvlab.designs import parse, ways
from qkvlab.designs.around import Around
from qkvlab.testing import CHECKS

JUDGES = {check.__name__: check for check in CHECKS}
STEPS, BYTES = "steps_equal_all_at_once", "decoding_holds_what_cost_says"
ALONE, GONE = "decoded_rows_are_alone", "what_is_forgotten_is_gone"

# the originals, before anything is planted
times_of, prepared_of = ways.times, prepared.Prepared.__init__
continued_of, reach_of, visible_of = prepared.continued, decoding.reach, decoding.visible
add_of, recall_of, init_of = Cache.add, Cache.recall, Cache.__init__


class Near(Around):
    """The inner design, whose tokens see three."""

    @property
    def name(self):
        return f"{self.inner.name}/near"

    @property
    def words(self):
        return self.inner.words

    @property
    def window(self):
        return 3


class Later(Around):
    """The inner design with keys that know where they stand, made anew whenever they are recalled."""

    @property
    def name(self):
        return f"{self.inner.name}/later"

    @property
    def words(self):
        return self.inner.words

    def recall(self, weights, memory, dims):
        k, v = super().recall(weights, memory, dims)
        at = torch.arange(k.shape[-2]) if memory.positions is None else memory.positions
        return k * (1 + 0.1 * at[:, None].to(k.dtype)), v


class Falling(Around):
    """The inner design, whose scores fall with distance."""

    @property
    def name(self):
        return f"{self.inner.name}/falling"

    @property
    def words(self):
        return self.inner.words

    def bends(self, weights, dims):
        return (lambda scores, back: scores - 0.1 * back.to(scores.dtype) ** 2,)


KNOWN = {"near": Near, "later": Later, "falling": Falling}


def design_of(name):
    inner, *parts = name.split("+")
    design = parse(inner)
    for part in parts:
        design = KNOWN[part](design)
    return design


def position_off_by_one(first, x):
    return continued_of(first, x) + (first > 0)


def positions_begin_anew(first, x):
    return continued_of(0, x)


def changed_tokens_take_old_products(x, weights, name):
    return times_of(weights.get("made:x", x), weights, name)


found_anew = multiplied.__wrapped__  # what was found before the bug was planted is not remembered


def root_left_out(self, layer, design):
    prepared_of(self, layer, design)
    self.scoring = replace(self.scoring, root=1.0)


def root_divided_twice(self, layer, design):
    prepared_of(self, layer, design)
    self.scoring = replace(self.scoring, root=design.root(layer.dims))


def window_one_too_short(design, first, count):
    keys = reach_of(design, first, count)
    return Span(min(keys.start + (design.window is not None and first > 0), first), keys.stop)


def window_reads_from_the_front(design, first, count):
    keys = reach_of(design, first, count)
    return Span(0, len(keys))


def a_token_keeps_its_own_view(design, first, count):
    return Span(reach_of(design, first, count).start, first + count)


def the_lonely_see_nothing_new(design, first, count):
    keys = reach_of(design, first, count)
    return Span(keys.start, max(keys.start + 1, first))


def chunk_is_not_causal(design, q, first, keys):
    return replace(visible_of(design, q, first, keys), causal=False)


def chunk_forgets_the_shift(design, q, first, keys):
    seen = visible_of(design, q, first, keys)
    return replace(seen, causal=seen.causal and "top-left")


def chunk_forgets_the_window(design, q, first, keys):
    return replace(visible_of(design, q, first, keys), window=None)


def chunk_forgets_noself(design, q, first, keys):
    return replace(visible_of(design, q, first, keys), itself=True)


def distance_counts_from_the_front(design, q, first, keys):
    return replace(visible_of(design, q, first, keys), asked=None)


def the_last_token_is_overwritten(self, memory):
    back = self._length > 0
    self._length -= back
    add_of(self, memory)
    self._length += back


def only_the_first_of_a_chunk_is_kept(self, memory):
    tokens = next(iter(memory.kept.values())).shape[-2]
    first = {name: kept[..., :1, :].expand_as(kept) for name, kept in memory.kept.items()}
    add_of(self, Memory(first if tokens > 1 else memory.kept, memory.positions))


def the_first_row_is_kept_for_all(self, memory):
    add_of(self, Memory({name: kept[:1].expand_as(kept) for name, kept in memory.kept.items()}, memory.positions))


def rows_of_the_batch_mixed_up(self, memory):
    add_of(self, Memory({name: kept.flip(0) for name, kept in memory.kept.items()}, memory.positions))


def kept_rounded(self, memory):
    add_of(self, Memory({name: kept.float() for name, kept in memory.kept.items()}, memory.positions))


def recalled_tokens_stand_at_the_front(self, layer, design, keys):
    kept = {name: store[:, 0, keys.slice] for name, store in self._stores.items()}
    return design.recall(layer.projections.weights, Memory(kept), self.dims)


def memory_grows_at_every_step(self, memory):
    add_of(self, memory)
    self._stores = {name: store.clone() for name, store in self._stores.items()}


def keys_and_values_are_kept_beside(self, *args, **kwargs):
    init_of(self, *args, **kwargs)
    self.spare = torch.zeros(1)


def room_for_one_more(self, layer, batch, max_tokens, *args, **kwargs):
    init_of(self, layer, batch, max_tokens + 1, *args, **kwargs)


def nothing_is_forgotten(self, tokens=0):
    pass


BUGS = [
    (STEPS, "QKV+later+near", {(Cache, "recall"): recalled_tokens_stand_at_the_front}),
    (STEPS, "QKV/rope", {(prepared, "continued"): position_off_by_one}),
    (STEPS, "QKV/rope", {(prepared, "continued"): positions_begin_anew}),
    (STEPS, "QKV/sin", {(ways, "times"): changed_tokens_take_old_products, (direct, "multiplied"): found_anew}),
    (STEPS, "QKV/rope", {(prepared.Prepared, "__init__"): root_left_out}),
    (STEPS, "QKV", {(prepared.Prepared, "__init__"): root_divided_twice}),
    (STEPS, "QKV+falling", {(decoding, "visible"): distance_counts_from_the_front}),
    (STEPS, "QKV+near", {(decoding, "reach"): window_one_too_short}),
    (STEPS, "QKV+near", {(decoding, "reach"): window_reads_from_the_front}),
    (STEPS, "QKV+near", {(decoding, "visible"): chunk_forgets_the_window}),
    (STEPS, "QKV+near", {(decoding, "visible"): chunk_forgets_the_shift}),
    (STEPS, "QQV/noself", {(decoding, "reach"): a_token_keeps_its_own_view}),
    (STEPS, "QQV/noself", {(decoding, "reach"): the_lonely_see_nothing_new}),
    (STEPS, "QQV/noself", {(decoding, "visible"): chunk_forgets_noself}),
    (STEPS, "QKV", {(decoding, "visible"): chunk_is_not_causal}),
    (STEPS, "QKV", {(decoding, "visible"): chunk_forgets_the_shift}),
    (STEPS, "QKV", {(Cache, "add"): the_last_token_is_overwritten}),
    (STEPS, "XXX", {(Cache, "add"): only_the_first_of_a_chunk_is_kept}),
    (STEPS, "QKV/kv2", {(Cache, "add"): rows_of_the_batch_mixed_up}),
    (STEPS, "QKK", {(Cache, "add"): kept_rounded}),
    (ALONE, "QKV", {(Cache, "add"): rows_of_the_batch_mixed_up}),
    (BYTES, "QKV", {(Cache, "add"): memory_grows_at_every_step}),
    (BYTES, "QKK", {(Cache, "__init__"): keys_and_values_are_kept_beside}),
    (BYTES, "QKK", {(Cache, "__init__"): room_for_one_more}),
    (GONE, "QKV", {(Cache, "truncate"): nothing_is_forgotten}),
]


def name_of(part):
    return part if isinstance(part, str) else next(iter(part.values())).__name__


@pytest.mark.parametrize(("judge", "design", "planted"), BUGS, ids=name_of)
def test_the_contract_catches_it(judge, design, planted, monkeypatch):
    JUDGES[judge](design_of(design))
    for (where, name), bug in planted.items():
        monkeypatch.setattr(where, name, bug)
    with pytest.raises(AssertionError) as caught:
        JUDGES[judge](design_of(design))
    assert str(caught.value)


def test_every_check_of_decoding_has_caught_something():
    of_decoding = {name for name, check in JUDGES.items() if check.__module__.endswith(".decoding")}
    assert of_decoding == {judge for judge, _, _ in BUGS}


@pytest.mark.parametrize("name", ["QKV+near", "QKK+later", "QKV+falling", "QQV/noself", "QKV/noself+near+falling"])
def test_parts_that_only_stand_here_decode_too(name):
    for check in (STEPS, GONE, ALONE):
        JUDGES[check](design_of(name))
