"""The command about a folder of recipes: suite."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from curator.cli.build import opening
from curator.cli.options import PATH, set_option
from curator.cli.show import print_json
from curator.wording import these, visible

if TYPE_CHECKING:
    from curator.cli.progress import Terminal
    from curator.suite.run import Variant


@click.command()
@click.argument("folder", type=PATH, metavar="DIR")
@click.option("--plan", "planned", is_flag=True, help="Print what would be run, shared and spent, without running it.")
@click.option("--only", multiple=True, metavar="NAME", help="Run this recipe, or this run of one. May be repeated.")
@click.option("--out", type=PATH, help="Folder of the suite. [default: outputs/<DIR's name>]")
@set_option
@click.option("--json", "as_json", is_flag=True, help="With --plan: print the plan as JSON.")
def suite(  # noqa: PLR0917 - click hands options by name
    folder: Path, planned: bool, only: tuple[str, ...], out: Path | None, settings: tuple[str, ...], as_json: bool
) -> int:
    """Run every recipe of the folder DIR.

    A recipe runs once for each size and each task that its `suite` section names. Models that several runs need are
    trained once, and work that an earlier call finished is kept. A run that fails does not stop the others; the exit
    code is then 2, or 1 if the cause is a bug in curator. Problems that `check` finds are told before the first run.
    """
    root = out or Path("outputs") / folder.resolve().name
    if planned:
        _print_plan(folder, root, settings, only, as_json)
        return 0
    if as_json:
        raise click.UsageError("--json needs --plan; add it. The results of a suite are in its suite.json.")
    _tell_problems(folder, root, settings, only)
    from curator.cli.progress import Terminal
    from curator.suite import run_suite

    with Terminal() as terminal:

        def progress(variant: Variant) -> Terminal:
            assert variant.recipe is not None
            terminal.workers = variant.recipe.engine.workers
            terminal.say(opening(variant.recipe))
            return terminal

        outcomes = run_suite(folder, root, settings=settings, only=only, progress=progress)
    for outcome in outcomes:
        if outcome.status == "failed":
            click.echo(f"{outcome.variant.name}: failed: {outcome.reason}", err=True)
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    click.echo(f"Finished {len(outcomes) - len(failed)} of {these(len(outcomes), 'run', 'runs')}.")
    click.echo(f"Page: {root / 'suite.html'}")
    if any(outcome.bug for outcome in failed):
        return 1
    return 2 if failed else 0


def _tell_problems(folder: Path, root: Path, settings: tuple[str, ...], only: tuple[str, ...]) -> None:
    """Prints what stops recipes. The others run; these are tried in their turn, since by then they may be right."""
    from curator.suite.run import problems

    listed = problems(folder, root, settings, only)
    if listed:
        count = these(len(listed), "recipe", "recipes")
        click.echo(f"{count} with problems; unless corrected, these fail in their turn:", err=True)
        for sentence in (sentence for told in listed.values() for sentence in told):
            click.echo(f"  {visible(sentence)}", err=True)


def _print_plan(folder: Path, root: Path, settings: tuple[str, ...], only: tuple[str, ...], as_json: bool) -> None:
    from curator.suite.plan import planned, table
    from curator.suite.run import variants

    plan = planned(variants(folder, settings, only), root)
    if as_json:
        print_json(plan)
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    lines = table(plan)
    title = Text(f"Plan of {folder}, at most", "table.title")
    drawn = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0)
    drawn.add_column(Text(lines[0][0]), overflow="fold")
    for name in lines[0][1:]:
        drawn.add_column(Text(name), justify="right", no_wrap=True)
    for line in lines[1:]:
        drawn.add_row(*map(Text, line))
    Console().print(drawn)
    for note in plan["notes"]:
        click.echo(note)
