"""The command that searches for fragile clusters: cluster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from curator.cli.options import PATH, TASKS, embedder_option
from curator.cli.show import print_json, print_table
from curator.errors import RecipeError, RunError
from curator.wording import these

if TYPE_CHECKING:
    from curator.cli.progress import Terminal
    from curator.cluster.model import SampledRows
    from curator.cluster.result import Clustering, Settings
    from curator.conclusions.part import Values
    from curator.records import Embed

RECORD = "cluster.json"
COUNT = click.IntRange(min=1)
TO = "Folder for cluster.json, sample.jsonl, top.jsonl and bottom.jsonl; or, with --sample, a new .jsonl file."


@click.command()
@click.option("--task", "tasks", multiple=True, required=True, metavar="FILE|hub:ID|sandbox:NAME", help=TASKS)
@click.option("--model", help="Causal model whose hidden states replace the embedder's vectors.")
@embedder_option
@click.option("--centre/--no-centre", default=True, show_default=True, help="Subtract the mean of --model's vectors.")
@click.option("--clusters", type=COUNT, default=20, show_default=True, help="Number of clusters.")
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed for k-means and for --sample.")
@click.option("--restarts", type=COUNT, default=10, show_default=True, help="Runs of k-means; the best one is kept.")
@click.option("--iterations", type=COUNT, default=100, show_default=True, help="Maximum iterations of k-means.")
@click.option("--stability", type=COUNT, default=5, show_default=True, help="Seeds whose clusterings are compared.")
@click.option("--sample", type=COUNT, metavar="ROWS", help="Write this many rows of one cluster as a task file.")
@click.option("--of", type=COUNT, metavar="CLUSTER", help="Cluster for --sample. [default: the most list-like one with "
              "enough rows]")  # fmt: skip
@click.option(
    "--pick",
    type=click.Choice(["random", "nearest"]),
    default="random",
    show_default=True,
    help="Draw the rows of --sample at random, or take those nearest to the centre.",
)
@click.option(
    "--harmful-anchors", metavar="FILE|hub:ID", help="Rank rows by similarity to these (prompts and answers)."
)
@click.option("--safe-anchors", metavar="FILE|hub:ID", help="Subtract similarity to these.")
@click.option(
    "--anchor-nearest", type=COUNT, default=1, show_default=True, help="Nearest anchors whose cosines are averaged."
)
@click.option(
    "--anchor-rows", type=COUNT, default=100, show_default=True, help="Rows to keep at each end of that ranking."
)
@click.option("--anchor-files", is_flag=True, help="Also write both ends as task files.")
@click.option("--json", "as_json", is_flag=True, help="Print cluster.json instead of a table.")
@click.option("--out", type=PATH, help=TO)
def cluster(tasks: tuple[str, ...], as_json: bool, out: Path | None, **options: Any) -> None:
    """Cluster the rows that users fine-tune on, and report list-like clusters.

    In the paper, fine-tuning on rows of a list-like cluster weakened safety most. Nothing is trained. Texts are written
    only to the task files that are asked for; terms of the task appear in the terminal and in cluster.json.
    """
    _check(out, tasks, options)
    from curator.cli.progress import Terminal

    with Terminal(aside=True) as terminal:
        terminal.say(f"Clustering {', '.join(tasks)}")  # before libraries load, which takes seconds
        from curator.cluster import cluster as clustered
        from curator.cluster.result import record
        from curator.cluster.result import sample as drawn
        from curator.conclusions.part import plain
        from curator.corpus.request import named
        from curator.run.folder import disk

        embed, name = _embed(options, terminal)
        clustering = clustered(
            named(tasks),
            embed,
            embedder=name,
            settings=_settings(options),
            harmful=options["harmful_anchors"],
            safe=options["safe_anchors"],
            say=terminal.begin,
            progress=lambda done, total: terminal.progress("cluster", done, total),
        )
    sample = drawn(clustering, options["pick"]) if options["sample"] is not None else None
    report = plain(record(clustering, sample))
    written = []
    if out is not None:
        with disk(out.parent):
            written = _write(out, clustering, sample, report, ends=options["anchor_files"])
    if as_json:
        print_json(report)
        return
    _print(clustering)
    if sample is not None:
        how = "drawn at random" if sample.pick == "random" else "nearest to its centre"
        click.echo(f"Sample: {these(len(sample.rows), 'row', 'rows')} of cluster {sample.cluster}, {how}.")
    if written:
        click.echo(f"Wrote {', '.join(map(str, written))}")


def _check(out: Path | None, tasks: tuple[str, ...], options: dict[str, Any]) -> None:
    problems = []
    if options["sample"] is not None and out is None:
        problems.append("--sample: needs --out, a folder or a .jsonl file to write the rows to")
    if options["anchor_files"] and (out is None or options["harmful_anchors"] is None or _is_file(out)):
        problems.append("--anchor-files: needs --harmful-anchors, and a folder as --out")
    if out is not None and _is_file(out):
        if options["sample"] is None:
            problems.append(f"--out {out}: a .jsonl file holds a sample; add --sample ROWS, or name a folder")
        elif out.exists():
            raise RunError(f"{out}: already exists; choose another name, or remove it first")
    if out is not None and out.exists() and not out.is_dir() and not _is_file(out):
        problems.append(f"--out {out}: this is a file; name a folder, or with --sample a new .jsonl file")
    if problems:
        raise RecipeError(problems)
    if out is not None:
        from curator.run.folder import require_writable

        require_writable(out.parent)
        if not _is_file(out):
            _refuse_others(out, (*tasks, options["harmful_anchors"], options["safe_anchors"]), options)


def _refuse_others(out: Path, read: Sequence[str | None], options: dict[str, Any]) -> None:
    """Refuses a folder in which a file that is read, or that `curator cluster` did not write, would be replaced."""
    names = ["sample"] if options["sample"] is not None else []
    names += ["top", "bottom"] if options["anchor_files"] else []
    files = [out / RECORD, *(out / f"{name}.jsonl" for name in names)]
    inputs = {Path(file).resolve() for file in read if file is not None}
    for file in files:
        if file.resolve() in inputs:
            raise RunError(f"{file}: is read by this command, and would be replaced; name another folder with --out")
        if file.exists() and not (out / RECORD).exists():
            raise RunError(f"{file}: already exists, and `curator cluster` did not write it; name another folder")


def _is_file(out: Path) -> bool:
    return out.suffix == ".jsonl"


def _settings(options: dict[str, Any]) -> Settings:
    from curator.cluster.result import Settings

    names = ("clusters", "seed", "restarts", "iterations", "stability", "of", "anchor_nearest", "anchor_rows")
    rows = {} if options["sample"] is None else {"sample": options["sample"]}
    return Settings(**{name: options[name] for name in names}, **rows)


def _embed(options: dict[str, Any], terminal: Terminal) -> tuple[Embed, str]:
    """The embedder and its name."""
    from curator.corpus.request import named_embedder
    from curator.represent.vectors import state_embedder

    if (model := options["model"]) is None:
        name = options["embedder"]
        return named_embedder(name, otherwise="or pass --model, a causal model", progress=terminal.embedding), name
    embed = state_embedder(model, centred=options["centre"], progress=terminal.embedding)[0]
    return embed, f"{model}, last layer{', centred' if options['centre'] else ''}"


def _write(out: Path, clustering: Clustering, sample: SampledRows | None, report: Values, *, ends: bool) -> list[Path]:
    from curator.cluster.result import write_rows
    from curator.run.folder import write_json

    if _is_file(out) and sample is not None:
        write_rows(out, clustering.rows, sample.rows)
        return [out]
    files = {} if sample is None else {"sample": sample.rows}
    if ends and clustering.anchors is not None:
        for end, rows in (("top", clustering.anchors.top), ("bottom", clustering.anchors.bottom)):
            files[end] = tuple(row for row, _ in rows)
    for name, chosen in files.items():
        write_rows(out / f"{name}.jsonl", clustering.rows, chosen)
    write_json(out / RECORD, report)
    return [out / RECORD, *(out / f"{name}.jsonl" for name in files)]


def _print(clustering: Clustering) -> None:
    from curator.cluster.result import summary, table

    heads, lines = table(clustering)
    count = these(clustering.rows.height, "row", "rows")
    print_table(f"{count} by {clustering.embedder}: the most list-like cluster first", lines, *heads)
    for line in summary(clustering):
        click.echo(line)
