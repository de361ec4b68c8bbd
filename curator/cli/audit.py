"""Commands about existing corpora: audit, route."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from curator.cli.options import PATH, TASKS, embedder_option
from curator.cli.show import print_json, print_table
from curator.errors import RecipeError

if TYPE_CHECKING:
    from curator.corpus.model import Audit

FOUND = 3  # exit code if a finding is as severe as --fail-on


@click.command()
@click.argument("corpus", metavar="CORPUS")
@click.option(
    "--columns",
    metavar="MAPPING",
    help="Columns of CORPUS under other names, as `columns` of a recipe's source: '{prompt: query, response: reply}'.",
)
@click.option("--task", "tasks", multiple=True, metavar="FILE|hub:ID", help=TASKS)
@click.option(
    "--probes",
    multiple=True,
    metavar="FILE|hub:ID",
    help="Test prompts to look for in the corpus; --measure evaluates models on the harmful ones. May be repeated.",
)
@click.option(
    "--pool", metavar="FILE|hub:ID", help="Data that the corpus may have been taken from, to compare it with."
)
@click.option("--model", help="Causal model whose hidden states replace the embedder's vectors.")
@embedder_option
@click.option("--no-embedder", is_flag=True, help="Skip checks that need vectors, and list what was skipped.")
@click.option(
    "--recipe",
    type=PATH,
    help="Recipe with thresholds and a judge, and with the training for --measure.",
)
@click.option("--presidio", is_flag=True, help="Detect personal data with Presidio instead of patterns.")
@click.option(
    "--measure", is_flag=True, help="Measure whether safety survives fine-tuning, by training as --recipe says."
)
@click.option(
    "--fail-on",
    type=click.Choice(["info", "warning", "error"]),
    help="Exit with code 3 if a finding is at least this severe.",
)
@click.option("--out", type=PATH, help="Folder to write to. [default: outputs/audit-<corpus>]")
@click.option("--json", "as_json", is_flag=True, help="Print audit.json instead of a table.")
def audit(corpus: str, fail_on: str | None, out: Path | None, as_json: bool, **options: Any) -> int:
    """Report what is in CORPUS and what is wrong with it.

    CORPUS is a file of safety examples, or hub:ID. With --measure the audit also reports whether the safety that it
    teaches survives fine-tuning. Without --task it says nothing about similarity to what users fine-tune
    on.
    """
    from curator.cli.progress import Terminal
    from curator.run.folder import disk, require_writable

    recipe, measure = options["recipe"], options["measure"]
    if measure and recipe is None:
        raise RecipeError("--measure: needs --recipe, which names the model, its training and its judges")
    folder = out or own_folder(corpus)
    require_writable(folder)
    with Terminal(aside=as_json) as terminal:
        terminal.say(f"Auditing {corpus}")  # before libraries load, which takes seconds
        from curator.conclusions.part import plain
        from curator.corpus import audit as look
        from curator.corpus.page import summary, write
        from curator.corpus.request import request_of
        from curator.recipe.file import mapping_of, read

        request = request_of(
            corpus,
            columns=None if options["columns"] is None else mapping_of(options["columns"], "--columns"),
            tasks=options["tasks"],
            probes=options["probes"],
            pool=options["pool"],
            recipe=None if recipe is None else read(recipe),
            model=options["model"],
            embedder=None if options["no_embedder"] else options["embedder"],
            presidio=options["presidio"],
            beside=folder,
            progress=terminal.embedding,
        )
        report = look(request, say=terminal.begin)
        if measure:
            from curator.corpus.measure import measured

            with disk(folder):
                write(folder, report)  # it stays, whatever the measurement ends with
            lasting = measured(recipe, request, folder / "run", progress=terminal)
            report = report.model_copy(update={"measured": lasting})
    with disk(folder):
        write(folder, report)
    if as_json:
        print_json(plain(report))
    else:
        print_table(f"Audit of {corpus}", summary(report))
        click.echo(f"Written: {folder / 'audit.json'}, {folder / 'audit.html'}")
    return _code(report, fail_on)


@click.command()
@click.argument("corpora", nargs=-1, required=True, metavar="CORPUS...")
@click.option("--task", "tasks", multiple=True, required=True, metavar="FILE|hub:ID", help=TASKS)
@embedder_option
@click.option(
    "--run",
    "runs",
    multiple=True,
    type=PATH,
    help="Run folder that measured one of the files. May be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the ranking as JSON.")
def route(
    corpora: tuple[str, ...], tasks: tuple[str, ...], embedder: str, runs: tuple[Path, ...], as_json: bool
) -> None:
    """Rank CORPUS files by similarity to fine-tuning data, least similar first.

    The paper proposes to start from the model that was aligned on the least similar corpus.
    """
    from curator.cli.progress import Terminal

    with Terminal(aside=True) as terminal:
        terminal.say(f"Ranking {', '.join(corpora)}")
        from curator.conclusions.part import plain
        from curator.corpus.request import named_embedder
        from curator.corpus.route import lines, ranked

        embed = named_embedder(embedder, progress=terminal.embedding)
        ranking = ranked(corpora, tasks, embed, runs=runs, say=terminal.begin)
    if as_json:
        print_json([plain(corpus) for corpus in ranking])
        return
    print_table("Least similar first: the paper proposes to start from the model aligned on it", lines(ranking))


def stem(corpus: str) -> str:
    """The part of a corpus's name that its audit folder is named after: without the suffixes of its format."""
    from curator.pool.files import SUFFIXES

    name = corpus.rstrip("/").rpartition("/")[2]
    while "." in name.strip(".") and f".{name.rpartition('.')[2].lower()}" in SUFFIXES:
        name = name.rpartition(".")[0]
    return name.strip(".").replace(":", "-") or "corpus"


def own_folder(corpus: str, outputs: Path = Path("outputs")) -> Path:
    """The folder below `outputs` for a corpus's audit: named after it, and numbered if the audit of another corpus is
    there.
    """
    folders = (outputs / f"audit-{stem(corpus)}{(number and f'-{number}') or ''}" for number in (0, *range(2, 10**6)))
    return next(folder for folder in folders if _audited(folder) in (None, _normal(corpus)))


def _audited(folder: Path) -> str | None:
    """The corpus whose audit a folder holds, as it was named; null if there is none."""
    try:
        corpus = json.loads((folder / "audit.json").read_text(encoding="utf-8"))["corpus"]
        return _normal(str(corpus.get("named") or corpus.get("file") or f"hub:{corpus['hub']}"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _normal(corpus: str) -> str:
    """`./x.jsonl` is `x.jsonl`; the name of a data set is left as it is."""
    return corpus if corpus.startswith(("hub:", "sandbox:")) else os.path.normpath(corpus)


def _code(report: Audit, fail_on: str | None) -> int:
    from curator.pool.screen import SEVERITIES

    worst = max((SEVERITIES.index(finding.severity) for finding in report.findings), default=-1)
    return FOUND if fail_on is not None and worst >= SEVERITIES.index(fail_on) else 0
