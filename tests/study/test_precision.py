"""The precision that a study leaves open is decided before it is registered, once, and stays."""

from __future__ import annotations

import pytest
from made_up import spec

from qkvlab.errors import StoreError
from qkvlab.study import precision
from qkvlab.study.decisions import Findings
from qkvlab.study.plan import foresee
from qkvlab.study.precision import settled
from qkvlab.study.registration import register
from qkvlab.study.run import run
from qkvlab.study.spec import make
from qkvlab.study.store import Store
from qkvlab.study.verdicts import document
from qkvlab.training.place import Here

OWN = {"recipe": "own", "designs": ("QKV", "QQV"), "tasks": ("library", "text")}


class Place(Here):
    """This machine, and whether it was closed."""

    def close(self):
        object.__setattr__(self, "closed", True)


@pytest.fixture
def fastest(monkeypatch):
    """Say what the trial finds; returns what it was asked."""

    def say(found):
        asked = []

        def faster(order, facts, place, seconds, tell):
            asked.append((order.task, order.setting, order.design, seconds))
            if isinstance(found, BaseException):
                raise found
            return found

        monkeypatch.setattr(precision.precision, "faster", faster)
        return asked

    return say


@pytest.mark.parametrize("found", ["fp32", "bf16"])
def test_what_is_faster_is_registered_where_verdicts_stay(fastest, tmp_path, found):
    asked = fastest(found)
    registered = register(settled(make(**OWN), tmp_path, Here(), 180.0))
    assert asked == [("text", "plain", "QKV", 180.0)]
    assert {each["facts"].get("products", "fp32") for each in registered["tasks"] if each["task"] == "text"} == {found}
    assert all("products" not in each["facts"] for each in registered["tasks"] if each["task"] == "library")


@pytest.mark.parametrize("fields", [{"products": "fp32"}, {"products": "bf16"}, {"tasks": ("library",)}])
def test_nothing_is_tried_where_nothing_is_open(fastest, tmp_path, fields):
    asked, study = fastest("bf16"), make(**{**OWN, **fields})
    assert register(settled(study, tmp_path, Here(), 180.0)) == register(study) and not asked


@pytest.mark.parametrize("begun", ["fp32", "bf16"])
def test_a_study_goes_on_as_it_was_begun(fastest, tmp_path, begun):
    asked = fastest("fp32" if begun == "bf16" else "bf16")
    first = register(make(**OWN, products=begun))
    Store.create_or_continue(tmp_path, first).close()
    assert register(settled(make(**OWN), tmp_path, Here(), 180.0)) == first and not asked


def test_the_same_question_whatever_the_precision():
    """So that verdicts are held against a record in fp32."""
    single, half = (
        {(row["task"], row["design"]): row for row in document(Findings(register(study)))["comparisons"]}
        for study in (make(**OWN, products=each) for each in ("fp32", "bf16"))
    )
    assert {row["products"] for row in single.values()} == {"fp32"}
    assert half["text", "QQV"]["products"] == "bf16" and half["library", "QQV"]["products"] == "fp32"
    assert half["text", "QQV"]["facts"] == single["text", "QQV"]["facts"]


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), StoreError("no")])
def test_the_place_is_closed_where_it_fails(fastest, tmp_path, fault):
    fastest(fault)
    place = Place()
    with pytest.raises(type(fault)):
        settled(make(**OWN), tmp_path, place, 180.0)
    assert place.closed


def test_a_run_and_a_plan_ask_and_keep_to_the_minutes(fastest, tmp_path, workers, monkeypatch):
    monkeypatch.setattr("qkvlab.tasks.library.Library.halves", True)
    asked, made, told = fastest("bf16"), workers(), []
    run(spec(), tmp_path, minutes=2.0, tell=told.append)
    assert [each[-1] for each in asked] == [120.0]
    assert {order.products for order in made[-1].orders} == {"bf16"}
    assert all(60.0 <= each.limit <= 120.0 for each in told)
    fastest("fp32")
    with Store.read(tmp_path) as store:
        assert all(each["facts"]["products"] == "bf16" for each in store.registration["tasks"])
    run(spec(), tmp_path, minutes=2.0)  # as it was begun, whatever is faster now
    monkeypatch.setattr("qkvlab.study.plan._measure", lambda *a, **k: None)
    assert foresee(spec(), tmp_path).findings.registration == store.registration
