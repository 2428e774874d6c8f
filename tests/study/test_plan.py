"""What a plan foresees is what then happens: cells within their bounds, memory of real workers, refusals at once."""

from __future__ import annotations

import dataclasses
import multiprocessing
from collections.abc import Iterator

import pytest
from made_up import World, result, spec

from qkvlab import designs, record, tasks
from qkvlab.errors import BadInput, StoreError
from qkvlab.study import forecast
from qkvlab.study.decisions import Findings
from qkvlab.study.forecast import Cells
from qkvlab.study.plan import foresee, total
from qkvlab.study.plan_document import BOUNDS, document
from qkvlab.study.registration import register
from qkvlab.study.run import run
from qkvlab.study.schedule import due
from qkvlab.training import effort, memory, trial
from qkvlab.training.workers import Order

WORLDS = {
    "clear": (World(means={"XXV": 0.6}), spec()),
    "close": (World(means={"QQV": 0.12}, noise=0.1), spec()),
    "diverging": (World(means={"XXV": 0.5}, diverges={"QQV": 0.3}), spec()),
    "edge": (World(best={"QQV": 0.03, "XXV": 0.0003}), spec()),
    "one rate": (World(), spec(rates=(0.003,), judge_seeds=30)),
    "few seeds": (World(noise=0.2), spec(judge_seeds=9)),
    "bar missed": (World(means={"QKV": 0.9}), spec(tasks=("recall",), settings=("conv",), rates=(0.003, 0.01))),
    "bar reached": (World(means={"QKV": 0.01}), spec(tasks=("recall",), settings=("conv",), rates=(0.003, 0.01))),
}


def foreseen(findings: Findings) -> Cells:
    each = [
        forecast.tuning(findings, key, {})[name] + forecast.judging(findings, key, {})[name]
        for key in findings.settings
        for name in findings.designs(key)
    ]
    return sum(each, forecast.NONE)


def one_by_one(findings: Findings, world: World) -> Iterator[None]:
    """Run a study group by group, none under way when the next is chosen."""
    while (group := next(due(findings, (), lambda task: 8), None)) is not None:
        findings.add(result(cell, world) for cell in group.cells)
        yield


@pytest.mark.parametrize("name", WORLDS)
def test_what_is_left_stays_within_its_bounds(name):
    world, study = WORLDS[name]
    findings = Findings(register(study))
    seen = [(0, foreseen(findings))]
    for _ in one_by_one(findings, world):
        seen.append((len(findings.results), foreseen(findings)))
    end = len(findings.results)
    for done, cells in seen:
        assert cells.done <= done  # seeds at a rate that was not chosen in the end are not counted
        assert cells.least <= end - done <= cells.most, (done, cells, end)
        assert cells.least <= cells.expected <= cells.most
    assert seen[-1][1].least == 0


def test_bounds_that_are_too_tight_are_found_out(monkeypatch):
    """A planted bug: the grid that may still grow is forgotten."""
    world, study = WORLDS["edge"]
    monkeypatch.setattr(forecast, "EXTENSIONS", 0)
    findings = Findings(register(study))
    most = foreseen(findings).most
    judged = sum(c.most for k in findings.settings for c in forecast.judging(findings, k, {}).values())
    for _ in one_by_one(findings, world):
        pass
    tuned = sum(cell.role == "tune" for cell in findings.results)
    assert tuned > most - judged


def test_the_record_is_what_is_expected_of_the_recorded_study():
    study = spec(tasks=("library",), settings=("synonym/fixed",), judge_seeds=256)
    findings = Findings(register(study))
    known = record.trained()
    (key,) = findings.settings
    says = forecast.judging(findings, key, known)
    alpha = findings.registration["alpha_each"]
    assert alpha > known[*key, "QKV"]["alpha"]  # fewer comparisons, so fewer seeds each
    for name, cells in says.items():
        assert 0 < cells.expected <= known[*key, name]["judged"]


# a real study


def test_a_small_study_does_what_its_plan_says(tmp_path, quiet):
    study = spec(designs=("QKV", "XXV"), rates=(0.003,), tune_seeds=(0,), judge_seeds=12, alpha=0.9)
    quiet(study)
    before = foresee(study, tmp_path)
    said = document(before)
    findings = run(study, tmp_path, minutes=5)
    assert said["total"]["cells"]["least"] <= len(findings.results) <= said["total"]["cells"]["most"]
    assert said["total"]["tune"]["least"] == said["total"]["tune"]["most"] == 3
    after = document(foresee(study, tmp_path))
    assert after["total"]["cells"]["done"] == len(findings.results)
    assert after["total"]["cells"]["least"] == 0 and after["total"]["flops"]["least"] == 0
    sizes = {(row["what"], row["times"]): row for row in after["larger"]}
    assert sizes["d_model", 4]["flops"] > 9 and sizes["tokens", 16]["memory"] > sizes["tokens", 4]["memory"] > 1


def test_a_folder_of_another_study_is_refused(tmp_path, quiet):
    study = spec(designs=("QKV", "XXV"), rates=(0.003,), tune_seeds=(0,), judge_seeds=1)
    quiet(study)
    run(study, tmp_path, minutes=5)
    with pytest.raises(StoreError, match="another study is registered"):
        foresee(spec(designs=("QKV", "XXV"), rates=(0.003,), tune_seeds=(0,), judge_seeds=2), tmp_path)


def test_the_document_adds_up(tmp_path, quiet):
    study = spec(settings=("same-word/fixed", "synonym/learned"))
    quiet(study)
    plan = foresee(study, tmp_path / "none", known=record.trained())
    said = document(plan, [effort.gpu("H100"), effort.gpu("t4")], minutes=1)
    for bound in BOUNDS:
        assert said["total"]["cells"][bound] == getattr(total(plan.arms), bound)
        assert sum(row["flops"][bound] for row in said["settings"]) == said["total"]["flops"][bound]
        assert sum(row["seconds"][bound] for row in said["settings"]) == pytest.approx(said["total"]["seconds"][bound])
    assert said["minutes"]["share"] == pytest.approx(60 / said["total"]["seconds"]["expected"])
    assert said["memory"]["whole"] == said["memory"]["parent"] + sum(
        [said["memory"]["worker"]["total"]] * said["memory"]["processes"]
    )
    assert [card["measured"] for card in said["gpus"]] == [False, False] and all(card["fits"] for card in said["gpus"])
    assert said["gpus"][0]["seconds"]["expected"] <= said["gpus"][1]["seconds"]["expected"]
    assert not (tmp_path / "none").exists()


def test_a_trial_carries_over_by_work(tmp_path, quiet):
    study = spec()
    quiet(study)
    plan = foresee(study, tmp_path)
    arm = next(arm for arm in plan.arms if arm.design.name == "QKV")
    found = plan.measured["library"]
    steps = arm.steps / found.layout.rate
    assert plan.seconds(arm) == pytest.approx(steps + 0.05 / found.layout.processes)
    alone = found.pace.step(arm.network, arm.design, 1)
    assert alone == pytest.approx(found.trial.step)
    cheaper = next(arm for arm in plan.arms if arm.design.name == "XXV")
    assert plan.seconds(cheaper) < plan.seconds(arm) < plan.seconds(arm, arm.network.wider(2))


# memory

FAST = [("library", "synonym/learned", "QKV", 8), ("sentence", "two-layers/bag", "QQV", 8)]


def _peak(task: str, setting: str, design: str, models: int) -> int:
    import torch

    from qkvlab.training.recipe import Run
    from qkvlab.training.together import train_together

    torch.set_num_threads(1)
    runs = [Run(seed, 0.01) for seed in range(models)]
    train_together(tasks.find(task), setting, designs.parse(design), runs, steps=5)
    return memory.peak()


def _measured(*of: str | int) -> int:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, of)


@pytest.mark.parametrize(("task", "setting", "design", "models"), FAST)
def test_the_peak_of_a_real_worker_is_within_a_fifth(task, setting, design, models, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found, parsed = tasks.find(task), designs.parse(design)
    one = trial.find(Order(task, setting, design, ((0, 0.01),)), found.facts(setting))
    assert one.measured and not trial.find(Order(task, setting, design, ()), found.facts(setting)).measured
    assert one.beside > 0 and one.step > 0 and 100 * 2**20 < one.base < 2**30
    says = memory.of_worker(
        found.network(setting, parsed), parsed, steps=found.steps(setting), group=models, base=one.base
    )
    assert says.total == pytest.approx(_measured(task, setting, design, models), rel=0.2)


@pytest.mark.parametrize(
    "content", ["", "[]", '{"base": -1, "beside": 1, "step": 1}', '{"base": 1, "beside": 1, "step": "x"}', '{"b": 1}']
)
def test_a_damaged_cache_is_no_answer(tmp_path, content):
    path = tmp_path / "trial.json"
    path.write_text(content)
    assert trial._KEPT.read(path) is None


def test_memory_grows_with_models_steps_width_and_tokens():
    text, design = tasks.find("text"), designs.parse("QKV")
    network = text.network("plain", design)

    def total_of(network=network, steps=600, group=8):
        return memory.of_worker(network, design, steps=steps, group=group, base=0).total

    assert total_of(group=16) > total_of() and total_of(steps=1200) > total_of()
    assert total_of(network.wider(2)) > total_of() and total_of(network.longer(2)) > 2 * total_of() * 0.99
    held = memory.of_worker(network, design, steps=600, group=8, base=0)
    assert held.weights == held.gradients == held.moments / 2 == 8 * 4 * network.parameters(design)
    assert memory.on_device(network, design, steps=600, group=8) < held.total


# cards


def test_an_unknown_card_lists_the_known_ones():
    with pytest.raises(BadInput, match=r"unknown GPU 'b1000'.*Known: h200, h100, a100"):
        effort.gpu("b1000")


def test_a_pace_gives_back_what_it_was_told():
    network, design = tasks.find("text").network("plain", designs.parse("QKV")), designs.parse("QKV")
    pace = effort.Pace.of(network, design, one=0.02, many=0.1, models=8)
    assert pace.step(network, design, 1) == pytest.approx(0.02)
    assert pace.step(network, design, 8) == pytest.approx(0.1)
    noisy = effort.Pace.of(network, design, one=0.02, many=0.5, models=8)  # slower than one by one
    assert noisy.kernel == 0 and noisy.step(network, design, 8) == pytest.approx(0.5)
    free = effort.Pace.of(network, design, one=0.02, many=0.01, models=8)
    assert free.per_work > 0 and free.step(network, design, 8) == pytest.approx(0.01)


def test_larger_groups_share_the_waiting_of_kernels_and_not_the_work():
    network, design = tasks.find("text").network("plain", designs.parse("QKV")), designs.parse("QKV")
    card = effort.gpu("h100")
    few, many, busy = (effort.seconds_on(card, network, design, group) for group in (1, 8, 10**6))
    assert few - busy == pytest.approx(8 * (many - busy), rel=1e-4) and busy < many < few
    assert effort.seconds_on(dataclasses.replace(card, flops=1e9), network, design, 10**6) > busy
