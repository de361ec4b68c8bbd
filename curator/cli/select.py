"""Command select: the chosen rows of a recipe, without training and without verification."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from curator.cli.build import opening
from curator.cli.options import PATH, PathType, set_option


@click.command()
@click.argument("recipe", type=PATH)
@click.option(
    "--rows",
    "file",
    type=PathType(dir_okay=False),
    metavar="FILE",
    help="Write the chosen rows to FILE as JSON lines with a `messages` list each, for fine-tuning tools.",
)
@click.option(
    "--out",
    type=PATH,
    help="Run folder; a name that ends in .jsonl means --rows. [default: outputs/<name>]",
)
@set_option
def select(recipe: Path, file: Path | None, out: Path | None, settings: tuple[str, ...]) -> None:
    """Choose the rows of RECIPE and write them as a data set, without training a model.

    The recipe needs no probes, verify or judges. The data set is marked as not verified; `curator build` with the same
    run folder goes on from there and verifies it.
    """
    from curator.cli.progress import Terminal
    from curator.cli.show import print_choice
    from curator.pipeline import select as run
    from curator.publish.unverified import JSONL, NOT_VERIFIED, require_rows_file, write_rows
    from curator.recipe.file import read
    from curator.recipe.unverified import require_untrained
    from curator.run.readers import unverified_folder
    from curator.wording import these

    if out is not None and out.suffix == JSONL:
        if file is not None:
            raise click.UsageError(f"--out {out} and --rows {file} both name a file for the rows; leave one out.")
        out, file = None, out
    chosen = read(recipe, settings, whole=False)
    require_untrained(chosen)
    if file is not None:
        require_rows_file(file, chosen, recipe)
    root = out or Path("outputs") / chosen.name
    with Terminal() as terminal:
        terminal.say(opening(chosen))
        run(chosen, root, progress=terminal)
    print_choice(root)
    if file is not None:
        click.echo(f"Rows: {file} ({these(write_rows(root, file), 'line', 'lines')})")
    click.echo(f"Data set: {unverified_folder(root)}")
    words = ["curator", "build", str(recipe), "--out", str(root)]
    words += [word for setting in settings for word in ("--set", setting)]
    click.echo(f"{NOT_VERIFIED} To verify it: {shlex.join(words)}{_needs(chosen.lacks)}")


def _needs(missing: tuple[str, ...]) -> str:
    from curator.recipe.unverified import listed

    return f" (first add {listed(missing)} to the recipe)" if missing else ""
