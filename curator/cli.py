"""The command line: parse, call, print. The only file that prints or exits.

Exit codes: 0 well, 1 a bug of ours, 2 something the user can mend, 3 findings, 130 interrupted.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from curator import __version__
from curator.errors import CuratorError, RecipeError, RunError

if TYPE_CHECKING:
    from curator.recipe import Recipe

STAGE_NAMES = ("base", "pool", "represent", "scores", "select", "train", "answer", "judge", "report", "publish")
SETTING = "Set one value of the recipe, e.g. --set select.k=500 or --set tasks.alpaca.rows=100; may be repeated."


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="curator")
def cli() -> None:
    """Builds and vets durable safety-alignment data sets."""


@cli.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Run folder; outputs/<name> when absent.")
@click.option("--until", type=click.Choice(STAGE_NAMES), default="publish", help="Last stage to run.")
@click.option("--set", "settings", multiple=True, metavar="KEY.PATH=VALUE", help=SETTING)
@click.option("--engine", type=click.Choice(["local"]), help="Where work runs, instead of the recipe's engine.kind.")
def build(recipe: Path, out: Path | None, until: str, settings: tuple[str, ...], engine: str | None) -> None:
    """Run RECIPE: choose a subset, verify it by training, write the data set and its evidence.

    What an earlier run finished under the same settings is kept.
    """
    from curator.build import build as run
    from curator.progress import Terminal
    from curator.recipe_file import read

    chosen = read(recipe, [*settings, *([f"engine.kind={engine}"] if engine else [])])
    root = out or Path("outputs") / chosen.name
    with Terminal() as terminal:
        terminal.say(_machine_line(chosen))
        run(chosen, root, until=until, tell=terminal)
    if until in ("report", "publish"):
        _print_summary(root)
    click.echo(f"Run folder: {root}")


@cli.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--set", "settings", multiple=True, metavar="KEY.PATH=VALUE", help=SETTING)
@click.option("--json", "as_json", is_flag=True, help="Print the resolved recipe and the plan as JSON.")
def check(recipe: Path, settings: tuple[str, ...], as_json: bool) -> None:
    """Check RECIPE: name every problem at once, then print the plan."""
    from curator.recipe_file import read
    from curator.steps.outlining import missing, outline

    chosen = read(recipe, settings)
    problems = missing(chosen)
    if problems:
        raise RecipeError(problems)
    planned = outline(chosen)
    if as_json:
        click.echo(json.dumps({"recipe": chosen.model_dump(by_alias=True), "plan": planned}, indent=1))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    click.echo(f"{recipe}: no problems found.\n")
    table = Table(title=f"Plan of {chosen.name}", title_justify="left", show_header=False)
    for label, text in planned.items():
        table.add_row(Text(label), Text(text))
    Console().print(table)


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print report.json.")
def show(run: Path, as_json: bool) -> None:
    """Show what RUN, a run folder, has found so far."""
    from curator.run import finished, read_json

    if not (run / "run.json").exists():
        raise RunError(f"{run}: is no run folder; give one that `curator build` made, for example outputs/quickstart")
    keys = read_json(run / "run.json")["stages"]
    done = {}
    for number, name in enumerate(STAGE_NAMES):
        one = finished(run / f"{number}-{name}")
        # A stage that an earlier recipe left is none of this one's.
        done[name] = one if one is not None and one["key"] == keys[name] else None
    if all(done[name] for name in STAGE_NAMES[: STAGE_NAMES.index("report") + 1]):
        if as_json:
            click.echo(json.dumps(_report(run), indent=1, ensure_ascii=False))
        else:
            _print_summary(run)
        return
    told = {name: one["record"].get("summary", "") for name, one in done.items() if one}
    if as_json:
        click.echo(json.dumps({"finished": told}, indent=1, ensure_ascii=False))
        return
    for name, summary in told.items():
        click.echo(f"{name:<10} {summary}")
    click.echo("There is no report yet: run `curator build` again to go on.")


@cli.command()
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path), help="File to write; <name>.yaml when absent.")
def new(name: str, out: Path | None) -> None:
    """Write a commented recipe called NAME, to be filled in."""
    from curator.recipe_file import template
    from curator.run import write_text

    path = out or Path(f"{name}.yaml")
    if path.exists():
        raise RunError(f"{path}: exists already; choose another name, or remove it first")
    text = template(name)
    try:
        write_text(path, text)
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror}); name another file with --out") from error
    click.echo(f"Wrote {path}. Edit it, then run: curator check {path}")


def _machine_line(recipe: Recipe) -> str:
    """What the work runs on, said before it starts. Asks no library that takes seconds to load."""
    from curator.engine.threads import resolved_threads
    from curator.provenance import has_gpu

    workers = recipe.engine.workers
    where = "a CUDA GPU in bf16" if has_gpu() else "the CPU in fp32 (no GPU was found)"
    processes = "1 process" if workers == 1 else f"{workers} processes"
    return f"{recipe.name}: runs on {where}, {processes} of {resolved_threads(recipe.engine)} thread(s)"


def _report(run: Path) -> Any:
    from curator.run import read_json

    return read_json(run / "8-report" / "report.json")


def _print_summary(run: Path) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from curator.report.summary import summary

    report = _report(run)
    console = Console()
    table = Table(show_header=False, title=f"{report['name']}", title_justify="left")
    for label, text in summary(report):
        table.add_row(Text(label), Text(text))
    console.print(table)


def _stop(error: CuratorError) -> int:
    click.echo(f"Error: {error}", err=True)
    return 2


def main() -> Any:
    """Runs the command line and exits."""
    sys.exit(_run(lambda: cli.main(standalone_mode=False)))


def _run(command: Callable[[], Any]) -> int:
    try:
        code = command()
    except CuratorError as error:
        return _stop(error)
    except (click.exceptions.Abort, KeyboardInterrupt) as error:
        if isinstance(error.__cause__, EOFError):  # which click takes for Ctrl-D at a prompt; we ask nothing
            raise error.__cause__ from None
        click.echo("\nInterrupted. What was finished is kept: run the same command again to go on.", err=True)
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return code if isinstance(code, int) else 0
