"""Commands about run folders: show, compare; and what several commands print."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curator.cli.options import PATH
from curator.errors import RunError
from curator.run import STAGES, current, keys_of
from curator.run.readers import explanations, recipe_file, report_file, to_continue, unverified_folder

if TYPE_CHECKING:
    from curator.conclusions.part import Values
    from curator.report.model import Report


SCHEMAS = {
    "report": ("curator.report.model", "Report"),
    "audit": ("curator.corpus.model", "Audit"),
    "suite": ("curator.suite.model", "Suite"),
    "cluster": ("curator.cluster.model", "Clusters"),
}
"""File without its ending -> the module and the name of its type."""
RECIPE = "recipe"


@click.command()
@click.argument("run", type=PATH, required=False)
@click.option("--json", "as_json", is_flag=True, help="Print report.json (with --why, everything known about the row).")
@click.option(
    "--why", "row", metavar="ID", help="Explain why a row of the pool was chosen or not; the start of an id is enough."
)
@click.option(
    "--schema",
    type=click.Choice([*SCHEMAS, RECIPE]),
    help="Print the JSON schema of a recipe, or of a file that curator writes.",
)
def show(run: Path | None, as_json: bool, row: str | None, schema: str | None) -> None:
    """Show the results of RUN, a run folder, so far."""
    from curator.publish.unverified import NOT_VERIFIED
    from curator.run.folder import read_json

    if schema is not None:
        print_json(_schema_of(schema))
        return
    if run is None:
        raise click.UsageError("Missing argument 'RUN'.")
    keys_of(run)
    done = {stage: current(run, stage) for stage in STAGES}
    if row is not None:
        _why(run, row, as_json=as_json, chosen=done["select"] is not None)
        return
    if all(done[name] for name in STAGES[: STAGES.index("report") + 1]):
        if as_json:
            print_json(read_json(report_file(run)))
        else:
            print_summary(run)
        return
    summaries = {name: record["record"].get("summary", "") for name, record in done.items() if record}
    if as_json:
        chosen = done["select"]["record"].get("composition") if done["select"] is not None else None
        choice = {} if chosen is None else {"composition": chosen}
        print_json({"finished": summaries, **choice})
        return
    for name, summary in summaries.items():
        click.echo(f"{name:<10} {summary}")
    if done["select"] is not None:
        print_choice(run)
    if (folder := unverified_folder(run)) is not None:
        click.echo(f"Data set: {folder}\n{NOT_VERIFIED}")
    click.echo(f"There is no report yet; {to_continue(run, 'report')}.")


def _schema_of(file: str) -> Values:
    from importlib import import_module

    from curator.conclusions.part import schema
    from curator.recipe.schema import schema as of_recipe

    if file == RECIPE:
        return of_recipe()

    module, name = SCHEMAS[file]
    return schema(getattr(import_module(module), name), f"{file}.json")


def _why(run: Path, row: str, *, as_json: bool, chosen: bool) -> None:
    if not chosen:
        raise RunError(
            f"{run}: its recipe has not chosen rows yet; run `curator build {recipe_file(run)} --out {run} "
            "--until select` first"
        )
    from curator.selection.explain import row_of, why

    frames = explanations(run)
    if as_json:
        facts = row_of(*frames, row)
        print_json({"chosen": "rank" in facts, **facts})
        return
    click.echo(why(*frames, row))


@click.command()
@click.argument("runs", nargs=-1, metavar="RUN RUN...")
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
@click.option(
    "--together",
    "repeats",
    is_flag=True,
    help="Take runs that repeat one experiment with other seeds together: one difference over all their seeds and "
    "probes. RUN:ARM compares another arm than the curated one with the control.",
)
def compare(runs: tuple[str, ...], as_json: bool, repeats: bool) -> None:
    """Compare RUN folders that used the same probes and the same judge, or take repeats of an experiment together."""
    if "" in runs:
        raise click.UsageError("The path of a run is empty; write . for the current folder.")
    from curator.conclusions.part import plain
    from curator.report import together
    from curator.report.compare import compare as compared
    from curator.report.compare import table

    if repeats:
        joined = together.together(runs)
        if as_json:
            print_json(plain(joined))
            return
        heads = ["", *joined.names, "together"]
        print_table("Harmful answers, arm minus control, in points", together.table(joined), *heads)
        click.echo(together.sentence(joined))
        return
    rows = compared([Path(run) for run in runs])
    if as_json:
        print_json({"runs": [plain(row) for row in rows]})
        return
    print_table("Harmful before and after fine-tuning", table(rows), "", *(row.name for row in rows))


def report_of(run: Path) -> Report:
    """The report of a run folder."""
    from curator.report.model import read_report

    return read_report(report_file(run))


def print_summary(run: Path) -> None:
    """Prints the results of a finished run, in one table."""
    from curator.report.markdown import summary

    report = report_of(run)
    print_table(report.name, summary(report))


def print_choice(run: Path) -> None:
    """Prints what the chosen set and those of other arms are made of; nothing for a run of an earlier version."""
    from curator.selection.outcome import parted, table

    done = current(run, "select")
    if done is None or "composition" not in done["record"]:
        return
    first, *others = parted(table(done["record"]["composition"]))
    print_table("The chosen set beside the pool and random sets", first.rows, *first.heads)
    for part in others:
        print_table("The sets of other arms", part.rows, *part.heads)


def print_json(value: object) -> None:
    """Prints a result for other programs."""
    click.echo(json.dumps(value, indent=1, ensure_ascii=False))


def print_table(title: str, rows: Iterable[Iterable[str]], *heads: str, width: int | None = None) -> None:
    """Prints rows of cells under a title, without reading markup in them, and `heads` as their header if given."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title, "table.title"), title_justify="left", show_header=bool(heads))
    for head in heads:
        table.add_column(Text(head))
    for cells in rows:
        table.add_row(*map(Text, cells))
    Console(width=width).print(table)
