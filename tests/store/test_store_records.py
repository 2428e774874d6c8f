"""What goes in comes out bit for bit; what does not belong is kept aside; a wrong store is noticed."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from studies import batch, bits, contents, registration, result, same

from qkvlab.errors import BadInput, StoreError
from qkvlab.study import records, schema
from qkvlab.study import store as store_module
from qkvlab.study.cells import Cell, Result
from qkvlab.study.store import Store
from qkvlab.training.halving import STOPPED

NASTY = [
    "<script>alert(1)</script>",
    "'; DROP TABLE result; --",
    '"quoted" \\ and %s {x} ?',
    "\u202egnp.exe\u2066 שלום",
    "有  空格\n\r\t\0 end",
    "",
    "💥e\u0301",
]


def round_trip(sent: list[Result], make: type[Store] = Store) -> None:
    """The contract of a store: read again, accepted results are those that were sent."""
    plan = registration(
        tasks=[{"task": one.cell.task, "setting": one.cell.setting, "arms": {one.cell.design: {}}} for one in sent],
        designs=[one.cell.design for one in sent],
        seeds={role: [one.cell.seed for one in sent if one.cell.role == role] for role in ("tune", "judge")},
        source=sent[0].source,
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with make.create_or_continue(folder, plan) as store:
            store.add(sent)
            store.add(sent)
        with make.read(folder) as store:
            assert store.registration == plan
            assert store.aside() == []
            assert same(store.results(), sorted(sent, key=lambda one: one.cell))


numbers = st.floats(width=64).map(lambda x: math.nan if math.isnan(x) else x + 0.0)
names = st.text(max_size=20) | st.sampled_from(NASTY)
rates = st.floats(min_value=1e-12, max_value=1e3)
whole = st.integers(-(2**63), 2**63 - 1)
cells = st.builds(
    Cell,
    task=names,
    setting=names,
    design=names,
    role=st.sampled_from(["tune", "judge"]),
    seed=whole,
    lr=rates,
)
results = st.builds(
    Result,
    cell=cells,
    metrics=st.dictionaries(names, numbers, max_size=4),
    diverged=st.booleans(),
    losses=st.lists(numbers, max_size=8).map(tuple),
    steps=whole,
    seconds=numbers,
    group=whole,
    device=names,
    versions=st.dictionaries(names, names, max_size=3),
    source=st.just("s"),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(results, min_size=1, max_size=4, unique_by=lambda one: one.cell))
@example([result(seed) for seed in range(3)])
@example([dataclasses.replace(result(), metrics={"a": math.nan, "b": math.inf, "c": -math.inf, "d": 5e-324})])
@example([result(design=name, lr=rate) for name in NASTY for rate in (0.1, 0.1 + 2**-56)])
def test_round_trip(sent: list[Result]) -> None:
    round_trip(sent)


def test_names_of_a_megabyte() -> None:
    round_trip([result(design=letter * 2**20 + end) for letter in "<\u202e" for end in ("'", '"')])


def test_names_are_data_and_never_statements(tmp_path: Path) -> None:
    with Store.create_or_continue(tmp_path, registration(arms=tuple(NASTY))) as store:
        store.add([result(design=name) for name in NASTY])
        store.add([result(design=name + "x", task=name) for name in NASTY])
        assert [one.cell.design for one in store.results()] == sorted(NASTY)
        assert [reason for _, reason in store.aside()] == ["unknown cell"] * len(NASTY)


def test_nan_infinity_and_missing_are_three_things(tmp_path: Path) -> None:
    """Also to someone who reads the file with SQL."""
    sent = dataclasses.replace(result(), metrics={"nan": math.nan, "inf": math.inf, "low": -math.inf, "one": 1.0})
    with Store.create_or_continue(tmp_path, registration()) as store:
        store.add([sent])
    with contextlib.closing(sqlite3.connect(tmp_path / "study.db")) as db:
        rows = db.execute("SELECT name, value, is_nan FROM metric ORDER BY name").fetchall()
        assert rows == [("inf", math.inf, 0), ("low", -math.inf, 0), ("nan", None, 1), ("one", 1.0, 0)]
        with pytest.raises(sqlite3.IntegrityError):
            db.execute("INSERT INTO metric VALUES (1, 'x', NULL, 0)")


def test_zero_has_no_sign_and_nan_no_payload(tmp_path: Path) -> None:
    (odd,) = struct.unpack("<d", struct.pack("<Q", 0xFFF8000000000123))
    first = dataclasses.replace(result(), metrics={"a": 0.0, "b": math.nan}, losses=(0.0, math.nan))
    again = dataclasses.replace(result(), metrics={"a": -0.0, "b": odd}, losses=(-0.0, odd))
    with Store.create_or_continue(tmp_path, registration()) as store:
        store.add([first, again])
        assert store.aside() == [] and same(store.results(), [first])


def keeps_aside(folder: Path, make: type[Store] = Store) -> None:
    """The contract for what does not belong: flagged with its reason, and the accepted results untouched."""
    good = result(1)
    with make.create_or_continue(folder, registration()) as store:
        store.add([good])
        cases: list[tuple[Result, str]] = [
            (result(1, off=0.25), "different bits"),
            (
                dataclasses.replace(good, losses=(*good.losses[:-1], math.nextafter(good.losses[-1], 1))),
                "different bits",
            ),
            (dataclasses.replace(good, metrics={"accuracy": 1 / 7}), "different bits"),
            (result(2, source="older"), "older code"),
            (result(1, source="older"), "older code"),
            (result(1, source="older still"), "older code"),
            (dataclasses.replace(result(2), steps=199), "unequal budget"),  # nothing that is judged stops early
            (dataclasses.replace(result(2), metrics={STOPPED: 1.0}, steps=100), "unequal budget"),
            (dataclasses.replace(result(900_000, role="tune"), metrics={STOPPED: 1.0}, steps=100), "unequal budget"),
            (result(2, task="copy"), "unknown cell"),
            (result(2, setting="large"), "unknown cell"),
            (result(2, design="QKK"), "unknown cell"),
            (result(900_000), "unknown cell"),  # a tuning seed is never judged
            (result(2, role="tune"), "unknown cell"),
            (result(2, role="peek"), "unknown cell"),
            (result(2, lr=math.nan), "unknown cell"),
            (result(-1, source="older"), "unknown cell"),
        ]
        for one, _ in cases:
            store.add([one])
        store.add([one for one, _ in cases])  # arriving once more adds nothing
        store.add([good, good])
        assert same(store.results(), [good])
        kept = store.aside()
    assert [reason for _, reason in kept] == [reason for _, reason in cases]
    assert [bits(one) for one, _ in kept] == [bits(one) for one, _ in cases]
    with make.create_or_continue(folder, registration()) as store:
        store.add([result(2), dataclasses.replace(good, seconds=9.0, device="cuda:0")])
        assert same(store.results(), [good, result(2)])
        assert len(store.aside()) == len(cases)


@pytest.mark.parametrize(
    ("group", "off", "kept"),
    [(7, 5e-4, False), (7, 5e-3, True), (7, math.nan, True), (8, 5e-4, True), (8, 0.0, False), (7, 0.0, False)],
)
def test_a_group_of_another_size_gives_the_same_result_to_the_last_digits(tmp_path: Path, group, off, kept) -> None:
    first = dataclasses.replace(result(1), group=8, losses=(1.5, 0.5, math.nan))
    metrics = {**first.metrics, "accuracy": first.metrics["accuracy"] + off}
    again = dataclasses.replace(first, group=group, losses=(1.5, 0.5 + off, math.nan), metrics=metrics)
    with Store.create_or_continue(tmp_path, registration()) as store:
        store.add([first])
        store.add([again])
        store.add([again])
        assert same(store.results(), [first])
        assert [reason for _, reason in store.aside()] == ["different bits"] * kept
        store.add([dataclasses.replace(again, losses=(1.5, 0.5))])  # a curve of another length
        assert len(store.aside()) == kept + 1


def test_what_does_not_belong_is_kept_aside(tmp_path: Path) -> None:
    keeps_aside(tmp_path)


def test_the_first_of_two_different_results_in_one_batch_stays(tmp_path: Path) -> None:
    with Store.create_or_continue(tmp_path, registration()) as store:
        store.add([result(1), result(1, off=1.0), result(1)])
        assert same(store.results(), [result(1)])
        assert [(one.metrics["accuracy"], reason) for one, reason in store.aside()] == [(1 / 7 + 1, "different bits")]


def test_the_order_does_not_tell_how_the_study_was_run(tmp_path: Path) -> None:
    sent = [result(seed, design=design, lr=lr) for seed in (3, 1) for design in ("QQV", "QKV") for lr in (0.1, 0.01)]
    for name, order in (("a", sent), ("b", sent[::-1])):
        with Store.create_or_continue(tmp_path / name, registration()) as store:
            for one in order:
                store.add([one])
            assert same(store.results(), sorted(sent, key=lambda one: one.cell))


def test_a_batch_is_stored_whole_or_not_at_all(tmp_path: Path) -> None:
    with Store.create_or_continue(tmp_path, registration()) as store:
        store.add(batch(0))
        before = contents(tmp_path)
        for bad in (
            result(2**70),
            result(design="\ud800"),
            dataclasses.replace(result(5), metrics={"\udfff": 1.0}),
        ):
            with pytest.raises(BadInput):
                store.add([*batch(1), bad])
        with pytest.raises(KeyError):
            store.add(one if one.cell.seed != 6 else {}["gone"] for one in batch(1))
        place = Store._place

        def interrupted(self: Store, record: records.Record) -> None:
            place(self, record)
            if record.result.cell.seed == 6:
                raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Store, "_place", interrupted)
            with pytest.raises(KeyboardInterrupt):
                store.add(batch(1))
        assert contents(tmp_path) == before
        store.add(batch(1))
        assert same(store.results(), [*batch(0), *batch(1)])


def test_threads_of_one_process_do_not_disturb_the_writer(tmp_path: Path) -> None:
    """A page that reads the study in the process that runs it must not drop the writer's locks."""
    done, troubles = threading.Event(), []

    def look() -> None:
        while not done.is_set():
            try:
                with Store.read(tmp_path) as reader:
                    assert len(reader.results()) % 4 == 0
            except BaseException as error:
                troubles.append(error)

    with Store.create_or_continue(tmp_path, registration()) as store:
        threads = [threading.Thread(target=look) for _ in range(2)]
        for thread in threads:
            thread.start()
        for number in range(30):
            store.add(batch(number))
        done.set()
        for thread in threads:
            thread.join()
        assert troubles == []
        assert len(store.results()) == 120


def test_no_thread_opens_the_file_while_another_commits(tmp_path: Path) -> None:
    """Closing a descriptor of a file drops all locks of the process on it, the committing thread's too."""
    inside, go, order = threading.Event(), threading.Event(), []
    place = Store._place

    def slow(self: Store, record: records.Record) -> None:
        place(self, record)
        inside.set()
        go.wait(5)

    def write() -> None:
        store.add([result(0)])
        order.append("added")

    def read() -> None:
        Store.read(tmp_path).close()
        order.append("read")

    with Store.create_or_continue(tmp_path, registration()) as store, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "_place", slow)
        threads = [threading.Thread(target=write), threading.Thread(target=read)]
        threads[0].start()
        assert inside.wait(5)
        threads[1].start()
        threads[1].join(0.3)
        assert order == []
        go.set()
        for thread in threads:
            thread.join()
    assert sorted(order) == ["added", "read"]


def test_ten_thousand_results_open_in_one_go(tmp_path: Path) -> None:
    with Store.create_or_continue(tmp_path, registration(seeds={"tune": [], "judge": list(range(10_000))})) as store:
        store.add([result(seed) for seed in range(10_000)])
    begun = time.process_time()
    Store.read(tmp_path).close()
    assert time.process_time() - begun < 5  # 0.15 s on an idle core


@pytest.mark.parametrize(("version", "digest"), [(1, "840402a0871b24c3"), (2, "9c1809d6ab4fc41a")])
def test_files_of_every_version_are_out_there(version: int, digest: str) -> None:
    """Whoever changes the tables adds a step to `schema.STEPS` and its digest here."""
    layout = "\n".join(schema.expected(version)).encode()
    assert hashlib.sha256(layout).hexdigest()[:16] == digest and version <= schema.VERSION == 2


def test_reading_a_study_does_not_import_torch() -> None:
    code = "import sys, qkvlab.study.store; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Planted bugs: what would have to be noticed is.


def test_planted_replacing_instead_of_keeping_aside(tmp_path: Path) -> None:
    class Replacing(Store):
        def _place(self, record: records.Record) -> None:
            row = (*record.columns, None)
            insert = store_module._INSERT.replace("INSERT", "INSERT OR REPLACE")
            self._db.execute("PRAGMA defer_foreign_keys=ON")
            for (id_,) in self._db.execute("SELECT id FROM result WHERE cell = ?", (record.cell,)).fetchall():
                self._db.execute("DELETE FROM metric WHERE result = ?", (id_,))
            id_ = self._db.execute(insert, (*row, records.checksum(row, record.metrics))).lastrowid
            for metric in record.metrics:
                self._db.execute("INSERT INTO metric VALUES (?, ?, ?, ?)", (id_, *metric))

    round_trip([result(1)], Replacing)  # the bug is not in what it stores
    with pytest.raises(AssertionError):
        keeps_aside(tmp_path, Replacing)


def drop_nan(result: Result) -> Result:
    return dataclasses.replace(result, metrics={k: v for k, v in result.metrics.items() if not math.isnan(v)})


def nan_as_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def test_planted_nan_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    encode = records.encode
    monkeypatch.setattr(store_module, "encode", lambda one: encode(drop_nan(one)))
    with pytest.raises(AssertionError):
        round_trip([result(0)])


@pytest.mark.parametrize(("name", "bug"), [("_number", nan_as_zero), ("_back", lambda value: value or 0.0)])
def test_planted_nan_is_a_number(name: str, bug: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, name, bug)
    with pytest.raises(AssertionError):
        round_trip([dataclasses.replace(result(0), losses=(math.nan,))])


@pytest.mark.parametrize("let_pass", ["older code", "unequal budget"])
def test_planted_results_that_do_not_belong_are_accepted(
    let_pass: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objection = store_module.objection
    monkeypatch.setattr(
        store_module, "objection", lambda *of: None if (reason := objection(*of)) == let_pass else reason
    )
    with pytest.raises((AssertionError, sqlite3.IntegrityError)):
        keeps_aside(tmp_path, Store)


def test_planted_no_checksum_lets_a_changed_number_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.create_or_continue(tmp_path, registration()) as store:
        store.add([result(1)])
    needle = struct.pack(">d", result(1).metrics["accuracy"])
    content = (tmp_path / "study.db").read_bytes()
    assert content.count(needle) == 1
    (tmp_path / "study.db").write_bytes(content.replace(needle, struct.pack(">d", 0.5)))
    with pytest.raises(StoreError, match="record 1 is not what was written"):
        Store.read(tmp_path)

    class Anything(bytes):
        def __eq__(self, other: object) -> bool:
            return True

        def __ne__(self, other: object) -> bool:
            return False

        __hash__ = bytes.__hash__

    monkeypatch.setattr(store_module, "checksum", lambda row, metrics: Anything())
    with Store.read(tmp_path) as store:
        assert store.results()[0].metrics["accuracy"] == 0.5  # SQLite alone does not see it
