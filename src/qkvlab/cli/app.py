"""The commands and their options; what they do stands in the file of each."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from qkvlab.tasks.vocabulary import Lang

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="qkvlab: the laboratory for how a Transformer makes its queries, keys and values.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Language(StrEnum):
    """Languages of everything that people read."""

    zh = "zh"
    en = "en"


LangOption = Annotated[Language | None, typer.Option("--lang", help="Language; your locale's unless given.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]


def _version(asked: bool) -> None:
    if asked:
        from qkvlab import __version__

        print(f"qkvlab {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help(), end="")


@app.command()
def study(
    recipe: Annotated[str, typer.Argument(help="A recipe's name, or a TOML file that states a study.")] = "article",
    designs: Annotated[str | None, typer.Option(help="Designs, such as QKV,QQV; the recipe's unless given.")] = None,
    tasks: Annotated[str | None, typer.Option(help="Tasks, such as library.")] = None,
    settings: Annotated[
        str | None, typer.Option(help="Settings, such as synonym/fixed, or `synonym` for all that begin so.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Judge at most so many seeds.")] = None,
    delta: Annotated[float | None, typer.Option(help="Smallest difference that matters; each task's own.")] = None,
    alpha: Annotated[float | None, typer.Option(help="Chance of any wrong verdict in the study.")] = None,
    match: Annotated[
        str | None,
        typer.Option(
            help="What is made equal by the feed-forward width: none, params, flops or several; with --tasks none."
        ),
    ] = None,
    text: Annotated[Path | None, typer.Option(help="A UTF-8 file for the tasks that read text.")] = None,
    products: Annotated[
        str | None,
        typer.Option(
            help="Precision of products in training: fp32, bf16 for tasks whose verdicts are known to stay as they "
            "are, or auto: what a short trial finds faster there; auto unless given."
        ),
    ] = None,
    first: Annotated[
        str | None, typer.Option(help="Settings to run before the others; it changes nothing of what they say.")
    ] = None,
    minutes: Annotated[float, typer.Option(help="Stop after so many minutes; run again to go on.")] = 3.0,
    lang: LangOption = None,
    device: Annotated[str, typer.Option(help="cpu, mps, cuda (the first GPU), or GPUs such as cuda:0,1.")] = "cpu",
    workers: Annotated[
        int | None, typer.Option(help="Groups trained at the same time; a short trial finds how many unless given.")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(help="Train on a Ray cluster: host:port, auto, or `local` to start one; needs qkvlab[ray]."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the study; qkvlab-runs/<recipe> unless given.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Train nothing: say what it will take.")] = False,
    gpu: Annotated[
        str | None, typer.Option(help="With --plan: also on cards that are not here, such as h100,a100.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Train designs side by side and decide, with evidence, which is better.

    The same command again continues; what is stored is never lost.

    **Examples**

    `qkvlab study` - the article's designs, three minutes

    `qkvlab study --minutes 20` - go on until more is decided

    `qkvlab study --minutes 20 --first conv,plain` - the same study, these settings now

    `qkvlab study fifteen --settings directed/fixed` - all fifteen ways on one setting

    `qkvlab study --designs QKV,QQV,QKK --settings synonym --out my-study`

    `qkvlab study --tasks text --text my.txt --match none,params` - your own text, plain and at equal parameters

    `qkvlab study --tasks text --products fp32` - real text, by fp32 products also where those in bf16 are faster

    `qkvlab study --minutes 60 --device cuda:0,1` - one worker for each of two GPUs

    `qkvlab study --minutes 60 --ray 10.0.0.1:6379 --workers 32` - 32 workers of the Ray cluster that this machine is in

    `qkvlab study fifteen --plan --gpu h100` - what it will take, here and on such a card; nothing is trained
    """
    from qkvlab.cli.study import Where, asked, home, run_study, urgent
    from qkvlab.errors import BadInput

    if gpu is not None and not plan:
        raise BadInput(f"--gpu trains nothing: give --plan too, or --device for a card that is here; got {gpu[:40]!r}.")
    spec = asked(
        recipe, designs=designs, tasks=tasks, settings=settings, seeds=seeds, delta=delta, alpha=alpha,
        match=match, text=text, products=products,
    )  # fmt: skip
    where = Where(device, workers, ray)
    if plan:
        from qkvlab.cli.plan import plan_study

        urgent(spec, first)  # names a setting, though order changes nothing of what is foreseen
        plan_study(spec, home(spec, out), gpus=gpu, minutes=minutes, lang=_lang(lang), where=where, as_json=json)
        return
    run_study(spec, first=first, minutes=minutes, lang=_lang(lang), where=where, out=out, as_json=json)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a study, such as qkvlab-runs/article.")],
    lang: LangOption = None,
    json: JsonOption = False,
) -> None:
    """Write report.html, results.csv, verdicts.json and figures of a study, finished or not.

    **Example** `qkvlab report qkvlab-runs/article`
    """
    from qkvlab.cli.report import write_report

    write_report(folder, lang=_lang(lang), as_json=json)


@app.command()
def ask(
    text: Annotated[
        str | None, typer.Argument(help="A question or word, such as 怎么减肥？; leave it out to list the words.")
    ] = None,
    shelf: Annotated[str | None, typer.Option(help="Labels on the shelf, such as 减肥,瘦身,历史.")] = None,
    setting: Annotated[
        str, typer.Option(help="Which trained models answer: synonym/fixed, synonym/learned or directed/fixed.")
    ] = "synonym/fixed",
    lang: LangOption = None,
    json: JsonOption = False,
) -> None:
    """Ask the library: under each design, the score of every label and what comes back.

    Runs the small models that ship with the package, in NumPy.

    **Examples**

    `qkvlab ask 怎么减肥？`

    `qkvlab ask "How do I lose weight?" --setting directed/fixed --lang en`

    `qkvlab ask 瘦身 --shelf 减肥,运动,历史,音乐`
    """
    from qkvlab.cli.ask import ask_library

    ask_library(text, shelf=shelf, setting=setting, lang=_lang(lang), as_json=json)


@app.command()
def claims(
    name: Annotated[str | None, typer.Argument(help="A claim's number or id; leave it out to list all.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of a study; the recorded one unless given.")] = None,
    lang: LangOption = None,
    json: JsonOption = False,
) -> None:
    """Every sentence people say about Q, K and V: verdict, evidence, literature, and how to answer in an interview.

    **Examples**

    `qkvlab claims`

    `qkvlab claims 3`

    `qkvlab claims no-synonyms --lang zh`
    """
    from qkvlab.cli.claims import show_claims

    show_claims(name, folder=out, lang=_lang(lang), as_json=json)


@app.command()
def look(
    text: Annotated[
        str | None, typer.Argument(help="A sentence, such as 我爱北京; leave it out to list the words.")
    ] = None,
    setting: Annotated[
        str, typer.Option(help="Which trained models read it, such as one-layer/positions.")
    ] = "one-layer/positions",
    lang: LangOption = None,
    json: JsonOption = False,
) -> None:
    """Look inside a sentence: whom each verb attends to under each design, and whom it names.

    Runs the small models that ship with the package, in NumPy.

    **Examples**

    `qkvlab look 我爱北京`

    `qkvlab look 老师把小明批评了 --setting one-layer/positions`

    `qkvlab look "I love Beijing" --lang en`
    """
    from qkvlab.cli.look import look_at

    look_at(text, setting=setting, lang=_lang(lang), as_json=json)


@app.command()
def designs(
    names: Annotated[
        list[str] | None, typer.Argument(help="Designs to show in detail, such as QKK/kv2; leave it out to list all.")
    ] = None,
    d_model: Annotated[int, typer.Option(help="Width of x.")] = 768,
    heads: Annotated[int, typer.Option(help="Query heads.")] = 12,
    d_head: Annotated[int | None, typer.Option(help="Channels of a head; d_model / heads unless given.")] = None,
    tokens: Annotated[int, typer.Option(help="Tokens of a forward pass, and in the cache.")] = 4096,
    number: Annotated[int, typer.Option("--bytes", help="Bytes of a number: 2 is bfloat16.")] = 2,
    lang: LangOption = None,
    json: JsonOption = False,
) -> None:
    """List every design with what a layer of it costs at your sizes, or show some in detail.

    **Examples**

    `qkvlab designs --d-model 4096 --heads 32`

    `qkvlab designs QKK/kv4/rope deepseek-v3 --tokens 8192`
    """
    from qkvlab.cli.designs import list_designs
    from qkvlab.contracts import Dims

    dims = Dims.of(d_model, heads, d_head)
    list_designs(names or [], dims, tokens, number, lang=_lang(lang), as_json=json)


@app.command()
def tasks(lang: LangOption = None, json: JsonOption = False) -> None:
    """List every task with its settings, what chance gives and the difference that matters.

    **Example** `qkvlab tasks --lang zh`
    """
    from qkvlab.cli.listings import list_tasks

    list_tasks(lang=_lang(lang), as_json=json)


def _lang(asked: Language | None) -> Lang:
    if asked is not None:
        return "zh" if asked is Language.zh else "en"
    import os

    named = next((os.environ[n] for n in ("LC_ALL", "LC_MESSAGES", "LANG") if os.environ.get(n)), "")
    return "zh" if named.lower().startswith("zh") else "en"
