"""What is compiled is what saves more than it costs, and one program serves all whose weights it can hold."""

from __future__ import annotations

from dataclasses import replace

import pytest
from made_up import layout

from qkvlab import designs, tasks
from qkvlab.study import recipes
from qkvlab.study.programs import Programs, _ways
from qkvlab.training.layout import Compiled, Layout

KEY = ("library", "synonym/fixed")
LIKE = ("library", "directed/fixed")
"""A setting of the same sizes."""
LEARNED = ("library", "synonym/learned")
FOREVER = 1e9


def fast(gain: float = 2.0, seconds: float = 20.0) -> Layout:
    return replace(layout(), rate=2000.0, compiled=Compiled(4, gain, seconds))


def chosen(left, on: Layout | None = None, seconds: float = FOREVER) -> dict:
    """Ask for all arms of a study in the order in which they stand."""
    programs = Programs()
    found = {arm: programs.of(arm, on or fast(), left, seconds) for arm in left}
    assert programs.chosen == {arm: name for arm, name in found.items() if name}
    return found


@pytest.mark.parametrize(
    ("gain", "cells", "seconds", "pays"),
    [
        (2.0, 900, FOREVER, True),  # 900 x 200 steps, 90 s, become 45 s; twice the 20 s of compiling are saved
        (2.0, 700, FOREVER, False),  # 35 s are saved, which is less
        (2.0, 10**6, 70.0, False),  # and so much cannot be trained in the time that is left
        (0.9, 10**6, FOREVER, False),  # compiled steps may be slower
    ],
)
def test_compiling_pays_twice_what_it_costs(gain, cells, seconds, pays):
    found = chosen({(KEY, "QKV"): cells}, fast(gain), seconds)
    assert found == {(KEY, "QKV"): "QKV" if pays else None}


def test_without_a_compiler_nothing_is_chosen():
    assert chosen({(KEY, "QKV"): 10**6}, layout()) == {(KEY, "QKV"): None}


def test_a_program_pays_for_all_that_it_serves():
    """Eleven designs that alone are each too few."""
    names = ("QKV", "QQV", "XKV", "QKK", "QQQ", "frozen", "QDQ", "QXV", "XXV", "uniform", "QKV/h16")
    left = {(KEY, name): 150 for name in names}
    for order in (left, dict(reversed(left.items()))):
        found = chosen(order)
        assert found.pop((KEY, "QKV/h16")) is None  # other widths of heads: another program
        assert set(found.values()) == {"QKV"}
    few = {arm: n // 10 for arm, n in left.items()}
    assert set(chosen(few).values()) == {None}


def test_a_program_serves_settings_of_the_same_sizes():
    left = {(key, name): 300 for key in (KEY, LIKE) for name in ("QKV", "QQV")}
    assert set(chosen(left).values()) == {"QKV"}
    assert set(chosen({arm: n for arm, n in left.items() if arm[0] == KEY}).values()) == {None}
    other = {(key, name): 300 for key in (KEY, LEARNED) for name in ("QKV", "QQV")}
    assert set(chosen(other).values()) == {None}


def test_who_is_to_be_trained_so_much_gets_a_program_of_its_own():
    """XXX does less than QKV: the products with identities cost more than compiling once more."""
    left = {(KEY, "QKV"): 1000, (KEY, "XXX"): 1000}
    assert chosen(left)[KEY, "XXX"] == "QKV"
    left[KEY, "XXX"] = 20_000
    assert chosen(left)[KEY, "XXX"] == "XXX"


def test_a_program_that_would_be_slower_than_plain_steps_is_not_taken():
    left = {(KEY, "QKV"): 10**6, (KEY, "XXX"): 1000}
    assert chosen(left, fast(gain=1.2)) == {(KEY, "QKV"): "QKV", (KEY, "XXX"): None}


def test_what_is_chosen_stays():
    programs, left = Programs(), {(KEY, "QKV"): 1000, (KEY, "QQV"): 100}
    assert programs.of((KEY, "QKV"), fast(), left, FOREVER) == "QKV"
    assert programs.of((KEY, "QKV"), fast(), dict.fromkeys(left, 1), 1.0) == "QKV"
    assert programs.of((KEY, "QQV"), fast(), dict.fromkeys(left, 1), 1.0) == "QKV"  # its program is there


def test_equal_budgets_have_programs_of_their_own():
    """Their models differ in more than how q, k and v are made."""
    for setting in ("two-layers/positions/params", "two-layers/positions/flops"):
        assert [way.program.design for way in _ways("sentence", setting, "XXV", None)] == ["XXV"]
    assert [way.program.design for way in _ways("sentence", "two-layers/positions", "XXV", None)] == ["XXV", "QKV"]


@pytest.mark.parametrize("name", ["article", "fifteen"])
def test_every_arm_of_the_recipes_has_a_way(name):
    spec = recipes.find(name)
    for task, setting in spec.pairs():
        for design in spec.arms(task):
            own, *others = _ways(task, setting, design, None)
            assert own.program.design == design and own.slower == 1
            for way in others:
                assert way.program.network == own.program.network and 0.5 < way.slower < 2
                assert tasks.find(task).network(setting, designs.parse(way.program.design)) == own.program.network
