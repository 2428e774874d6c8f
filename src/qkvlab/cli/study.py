"""``qkvlab study``: run or continue a study, show it live, say what is decided."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from qkvlab import record, report
from qkvlab import tasks as all_tasks
from qkvlab.cli.live import Live
from qkvlab.cli.verdicts import print_verdicts
from qkvlab.errors import BadInput, unknown
from qkvlab.study import recipes
from qkvlab.study.decisions import Findings
from qkvlab.study.registration import register
from qkvlab.study.run import run
from qkvlab.study.spec import Spec, make, read
from qkvlab.tasks.vocabulary import Lang


class Where(NamedTuple):
    """What a call says of where to train; see `qkvlab.study.run.run`."""

    device: str
    workers: int | None
    ray: str | None


def asked(
    recipe: str,
    *,
    designs: str | None,
    tasks: str | None,
    settings: str | None,
    seeds: int | None,
    delta: float | None,
    alpha: float | None,
    match: str | None,
    text: Path | None,
    products: str | None,
) -> Spec:
    """Return the study that the options ask for.

    Raises:
        BadInput: an option that cannot be meant.
    """
    base = read(Path(recipe)) if recipe.endswith(".toml") else recipes.find(recipe)
    others = {"judge_seeds": seeds, "delta": delta, "alpha": alpha, "text": text, "products": products}
    return _changed(base, designs, tasks, settings, match, others)


def home(spec: Spec, out: Path | None) -> Path:
    """Return the folder of a study."""
    return out if out is not None else Path("qkvlab-runs") / spec.recipe


def urgent(spec: Spec, first: str | None) -> tuple[str, ...]:
    """Return the settings that go before the others."""
    return () if first is None else _expanded(_list("--first", first), spec.pairs())


def run_study(
    spec: Spec,
    *,
    first: str | None,
    minutes: float,
    lang: Lang,
    where: Where,
    out: Path | None,
    as_json: bool,
) -> None:
    """Run for some minutes, write the report, print the verdicts.

    Raises:
        BadInput: an option that cannot be meant.
        StoreError: the folder cannot be used.
        WorkerError: see `qkvlab.study.run.run`.
        KeyboardInterrupt: passed on after saying how to continue.
    """
    before, folder = urgent(spec, first), home(spec, out)
    _warn_of_few_seeds(spec, lang)
    live = Live(Console(stderr=True), lang)
    try:
        with live:
            findings = run(
                spec, folder, minutes=minutes, first=before, tell=live.update, say=live.say, **where._asdict()
            )
    except KeyboardInterrupt:
        print(f"qkvlab: {_continue(folder, lang, interrupted=True)}", file=sys.stderr)
        raise SystemExit(130) from None
    written = report.write(folder, lang)
    result = json.loads(written.verdicts.read_text("utf-8"))
    if as_json:
        print(json.dumps(result, ensure_ascii=False))
        return
    _print(findings, result, written.report, folder, lang)


def _changed(
    base: Spec,
    designs: str | None,
    tasks: str | None,
    settings: str | None,
    match: str | None,
    others: dict[str, Any],
) -> Spec:
    fields: dict[str, Any] = base.model_dump() | {name: v for name, v in others.items() if v is not None}
    if designs is not None:
        fields |= {"designs": _list("--designs", designs), "also": {}}
    if tasks is not None:
        # equal budgets double the price of a question: who asks one of their own names them
        fields |= {"tasks": _list("--tasks", tasks), "settings": (), "match": ("none",)}
    if settings is not None:
        every = [(name, s) for name in fields["tasks"] for s in all_tasks.find(name).settings()]
        fields["settings"] = _expanded(_list("--settings", settings), every)
    if match is not None:
        fields["match"] = _list("--match", match)
    names = [name.upper() for name in fields["designs"]]
    if designs is not None and fields["baseline"].upper() not in names:
        fields["baseline"] = make(**{**fields, "baseline": fields["designs"][0]}).designs[0]
    return make(**fields)


def _list(option: str, text: str) -> tuple[str, ...]:
    parts = tuple(part.strip() for part in text.split(",") if part.strip())
    if not parts:
        raise BadInput(f"{option} needs at least one name; got {text!r}.")
    return parts


def _expanded(asked: tuple[str, ...], pairs: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Return the settings that are named, in full or by their beginning."""
    every = [setting for _, setting in pairs]
    found: list[str] = []
    for name in asked:
        matching = [s for s in every if s == name or s.startswith(name + "/")] if name not in every else [name]
        if not matching:
            raise unknown("setting", name, every)
        found += [s for s in matching if s not in found]
    return tuple(found)


def _warn_of_few_seeds(spec: Spec, lang: Lang) -> None:
    from qkvlab.evidence import seeds_needed

    registration = register(spec)
    different, equal = seeds_needed(
        registration["alpha_each"], registration["tasks"][0]["delta"], registration["tasks"][0]["clip"]
    )
    have = len(registration["seeds"]["judge"])
    if have >= equal:
        return
    if lang == "zh":
        text = f"注意：只有 {have} 个种子；判定有差别至少要 {different} 个，判定相当至少要 {equal} 个。"
    else:
        text = f"note: {have} seeds; a difference takes at least {different} and equivalence at least {equal} here."
    print(text, file=sys.stderr)


def _print(findings: Findings, result: dict[str, Any], page: Path, folder: Path, lang: Lang) -> None:
    console = Console()
    zh = lang == "zh"
    print_verdicts(console, findings, lang)
    for sentence in report.short_answer(findings, lang):
        console.print(f"· {sentence}", highlight=False, markup=False)
    agreement = record.agreement(result)
    if agreement is not None:
        count, against = agreement
        head = "与记录一致" if zh else "agrees with the record"
        console.print(f"{head}: {count - len(against)} {'/' if zh else 'of'} {count}", highlight=False)
        for line in against:
            console.print(f"  {line}", highlight=False, markup=False)
    told = sum(report.budgets(findings.registration, result["origin"]["trained"]).values(), report.Budget())
    if told.stopped:
        rest = "；评判的训练都跑满。" if zh else "; none that is judged stops early."
        console.print(report.brief(told).of(lang) + rest, highlight=False)
    undecided = sum(row["verdict"] == "undecided" for row in result["comparisons"])
    if undecided:
        console.print(f"{undecided} {'个比较未定。' if zh else 'comparisons are undecided.'} {_continue(folder, lang)}")
    console.print(f"{'报告' if zh else 'report'}: {page}", highlight=False, markup=False, soft_wrap=True)


def _continue(folder: Path, lang: Lang, *, interrupted: bool = False) -> str:
    command = "qkvlab " + " ".join(sys.argv[1:]) if sys.argv[1:] else "qkvlab study"
    if lang == "zh":
        return f"{'已中断。' if interrupted else ''}已完成的都在 {folder};再运行同一命令即继续：{command}"
    return f"{'interrupted. ' if interrupted else ''}What is done is in {folder}; the same command goes on: {command}"
