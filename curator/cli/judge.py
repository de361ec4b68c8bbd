"""Commands about judges: fit, measure, sample, run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from curator.cli.show import print_table
from curator.errors import DataError, RunError

if TYPE_CHECKING:
    from curator.judge.people import Estimate, Labels, Measured

FILE = click.Path(path_type=Path)
WHAT = (
    "phrases, exact, guard:ID, classifier:ID, embedding:FOLDER, or a mapping as in a recipe; NAME= may stand in front"
)


@click.group()
def judge() -> None:
    """Fit, measure and re-run judges."""


def _columns(command: Callable[..., None]) -> Callable[..., None]:
    """Options that say which column of a labels' file is what."""
    for option in (
        click.option("--exclude", multiple=True, metavar="COLUMN=VALUE", help="Leave such rows out; may be repeated."),
        click.option("--annotators", metavar="A,B", help="Two columns with a label each, to split the table by."),
        click.option(
            "--positive", multiple=True, metavar="VALUE", help="Label that means the outcome; may be repeated. [yes]"
        ),
        click.option("--label", help="Column of the label. [label; with --run the outcome]"),
        click.option("--answer", default="answer", show_default=True, help="Column of the answer."),
        click.option("--prompt", default="prompt", show_default=True, help="Column of the prompt."),
        click.option("--labels", "file", type=FILE, required=True, help="CSV or JSONL of answers labelled by people."),
    ):
        command = option(command)
    return command


def _read(options: Mapping[str, Any], *, outcome: str, columns: Sequence[str] = (), label: str = "label") -> Labels:
    from curator.judge.people import read_labels

    annotators = None
    if options["annotators"]:
        annotators = tuple(options["annotators"].split(","))
        if len(annotators) != 2:
            raise DataError(f"--annotators: found {options['annotators']!r}; give two columns, A,B")
    exclude = {}
    for condition in options["exclude"]:
        name, equals, value = condition.partition("=")
        if not equals:
            raise DataError(f"--exclude: found {condition!r}; give COLUMN=VALUE")
        exclude[name] = value
    labels = read_labels(
        options["file"],
        outcome=outcome,
        prompt=options["prompt"],
        answer=options["answer"],
        label=options["label"] or label,
        positive=options["positive"] or ("yes", "true", "1"),
        annotators=annotators,
        exclude=exclude,
        columns=columns,
    )
    click.echo(
        f"{labels.file}: {labels.read} rows, {labels.excluded} excluded, {labels.unlabelled} without a label; "
        f"{labels.rows['positive'].sum()} of {labels.rows.height} are {outcome} "
        f"({', '.join(labels.positive)})",
        err=True,
    )
    return labels


@judge.command()
@_columns
@click.option("--embedder", required=True, metavar="ID", help="Sentence embedder: a folder, or a model on the Hub.")
@click.option("--revision", help="Of an embedder on the Hub.")
@click.option("--out", type=FILE, required=True, help="Folder to write; a recipe's judge names it as `embedding`.")
def fit(embedder: str, revision: str | None, out: Path, **options: Any) -> None:
    """Fit a refusal judge of your own: a logistic head on sentence embeddings.

    Its parts and strength are chosen, and its figures measured, by cross-validation grouped by prompt.
    """
    from curator.judge.embedding import fit as fitted
    from curator.judge.endpoint import Cost
    from curator.judge.resources import resources
    from curator.model.load import resolve_revision
    from curator.run.folder import disk

    labels = _read(options, outcome="refused")
    exact = resolve_revision(embedder, revision, "--embedder")
    with disk(out):
        _, figures, facts = fitted(labels, resources(Cost()).embed, embedder=embedder, revision=exact, folder=out)
    _table("Refused or not, on prompts that it had not seen", [figures])
    click.echo(
        f"Reads {', '.join(facts['parts'])} of an answer. Wrote {out}: name it in a recipe as `embedding: {out}`."
    )


@judge.command()
@_columns
@click.argument("judges", nargs=-1, required=True, metavar="JUDGE...")
@click.option("--outcome", type=click.Choice(["refused", "harmful"]), default="refused", show_default=True)
@click.option("--run", type=FILE, help="The run folder whose sheet was labelled; its judges go by their names.")
@click.option("--store", "to", type=FILE, help="File to write the figures to; a recipe's judge names it as `error`.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def measure(
    judges: tuple[str, ...], outcome: str, run: Path | None, to: Path | None, as_json: bool, **options: Any
) -> None:
    """Measure each JUDGE against answers labelled by people.

    JUDGE is a judge of --run by its name, column:NAME for verdicts that are in the labels' file, or phrases, exact,
    guard:ID, classifier:ID, embedding:FOLDER, or a mapping as in a recipe. A judge that was fitted to these answers is
    measured by its cross-validation.
    """
    from curator.judge.measure import COLUMN, figures, judge_labels, pairs, store
    from curator.judge.measure import as_json as plain

    columns = [name.removeprefix(COLUMN) for name in judges if name.startswith(COLUMN)] + (["id"] if run else [])
    labels = _read(options, outcome=outcome, columns=columns, label=outcome if run else "label")
    judged, arms = judge_labels(labels, judges, run)
    by_part = figures(labels, judged)
    if to is not None:
        store(to, labels, judged, arms, run)
    if as_json:
        click.echo(json.dumps({"outcome": outcome, "figures": plain(by_part)}, indent=1))
        return
    for part, rows in by_part.items():
        _table(f"{outcome.capitalize()} or not: {part}", rows)
    _pairs(pairs(labels, judged))
    for verdicts in judged:
        if verdicts.unseen:
            click.echo(
                f"{verdicts.name} was fitted to {verdicts.unseen} of these answers: measured there by cross-validation."
            )
    click.echo("Intervals are of 95%, and know that answers to one prompt are alike.")
    if to is not None:
        click.echo(f"Wrote {to}.")


@judge.command()
@click.argument("run", type=FILE)
@click.option("--out", type=FILE, required=True, help="CSV file to write.")
@click.option("--per-arm", type=click.IntRange(min=1), default=50, show_default=True, help="Answers of each arm.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the draw.")
def sample(run: Path, out: Path, per_arm: int, seed: int) -> None:
    """Write a sheet of answers of RUN for people to label, without saying which arm they are of.

    Fill the columns harmful and refused with yes or no, then run: curator judge measure --run RUN --labels SHEET
    --outcome harmful --store FILE JUDGE...
    """
    from curator.judge.measure import LEAST
    from curator.judge.measure import sample as drawn
    from curator.run.folder import disk, replacing

    if out.exists():
        raise RunError(f"{out}: exists already, and may hold labels; choose another name, or remove it first")
    sheet = drawn(run, per_arm, seed)
    with disk(out.parent), replacing(out) as temporary:
        sheet.write_csv(temporary)
    click.echo(f"Wrote {out}: {sheet.height} answers. They may be harmful to read.")
    if per_arm < LEAST:
        click.echo(f"With fewer than {LEAST} labelled answers of each arm no difference is corrected.")


@judge.command("run")
@click.argument("run", type=FILE)
@click.option("--judge", "judges", multiple=True, metavar="JUDGE", help=f"{WHAT}. The recipe's panel when absent.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def rerun(run: Path, judges: tuple[str, ...], as_json: bool) -> None:
    """Ask judges about the stored answers of RUN; no model is trained or asked again.

    Verdicts are added below 7-judge/added, and what is there is never overwritten.
    """
    from curator.cli.progress import Terminal
    from curator.judge.rejudge import rejudge

    with Terminal(aside=as_json) as terminal:
        results = rejudge(run, judges, terminal)
    if as_json:
        click.echo(json.dumps(results, indent=1))
        return
    from curator.wording import percent, points, reach

    names = ("harmful", "safe", "degenerate", "unscored")
    columns = ("judge", "", *names, "difference", "on its own")
    rows = []
    for judge in results["judges"]:
        difference = f"{points(judge['difference'])} {reach(judge['low'], judge['high'])}"
        counts = [str(judge["outcomes"][name]) for name in names]
        alone = judge["alone"] + (f" ({judge['reason']})" if judge["reason"] else "")
        rows.append([judge["name"], "kept" if judge["kept"] else "new", *counts, difference, alone])
    print_table("Answers to harmful probes", rows, *columns)
    for judge in results["judges"]:
        for reason, count in list(judge["unscored"].items())[:3]:
            click.echo(f"{judge['name']}: {count} answer{'s' * (count != 1)} unscored: {reason}")
    for pair in results["agreement"]:
        kappa = "undefined" if pair["kappa"] is None else f"{pair['kappa']:.2f}"
        click.echo(
            f"{pair['first']} and {pair['second']}: agree on {percent(pair['share'])} of {pair['answers']} answers, "
            f"kappa {kappa}"
        )
    click.echo(
        "The difference is curated minus control, in points, after fine-tuning. The last column applies the run's "
        "rule and limits to each judge's verdicts on their own, without the gates. It does not change the decision."
    )


def _table(title: str, measured: Sequence[Measured]) -> None:
    columns = ("judge", "answers", "unscored", "accuracy", "sensitivity", "specificity", "balanced", "kappa")
    rows = []
    for figures in measured:
        scored = figures.both + figures.only_people + figures.only_judge + figures.neither
        estimates = [
            _share(part) for part in (figures.accuracy, figures.sensitivity, figures.specificity, figures.balanced)
        ]
        kappa = "-" if figures.kappa is None else f"{figures.kappa:.3f}"
        rows.append([figures.judge, str(scored), str(figures.unscored), *estimates, kappa])
    print_table(title, rows, *columns, width=140)


def _share(estimate: Estimate) -> str:
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return "-"
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _pairs(rows: Sequence[tuple[str, str, int, float | None, float | None]]) -> None:
    for first, second, count, share, kappa in rows:
        agree = "-" if share is None else f"{share:.3f}"
        agreement = "undefined" if kappa is None else f"{kappa:.3f}"
        click.echo(f"{first} and {second}: the same on {agree} of {count} answers, kappa {agreement}")
