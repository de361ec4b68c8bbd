"""Commands about judges: fit, measure, sample, run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from curator.cli.options import EMBEDDER, PATH
from curator.cli.show import print_json, print_table
from curator.errors import DataError, RunError
from curator.wording import percent, points, reach, these, visible

if TYPE_CHECKING:
    from curator.judge.people import Estimate, Labels, Measured

WHAT = (
    "phrases, exact, guard:ID, classifier:ID, embedding:FOLDER, or a mapping as in a recipe, optionally with NAME= in "
    "front. May be repeated. [default: the recipe's panel]"
)


@click.group()
def judge() -> None:
    """Fit, measure and rerun judges."""


def _columns(command: Callable[..., None]) -> Callable[..., None]:
    """Options that map the columns of a file of labels."""
    for option in (
        click.option("--exclude", multiple=True, metavar="COLUMN=VALUE", help="Leave these rows out. May be repeated."),
        click.option(
            "--annotators", metavar="A,B", help="Two columns with one annotator's label each; splits the figures."
        ),
        click.option(
            "--positive",
            multiple=True,
            metavar="VALUE",
            help="Label that means the outcome; all others mean that it is absent. May be repeated. [default: yes, "
            "true, 1, and the others must be no, false, 0]",
        ),
        click.option("--label", help="Column of the label. [default: label; with --run the outcome]"),
        click.option("--answer", default="answer", show_default=True, help="Column of the answer."),
        click.option("--prompt", default="prompt", show_default=True, help="Column of the prompt."),
        click.option(
            "--labels", "file", type=PATH, required=True, help="CSV or JSONL file of answers labelled by people."
        ),
    ):
        command = option(command)
    return command


def _read(
    options: Mapping[str, Any],
    *,
    outcome: str,
    columns: Sequence[str] = (),
    verdicts: Sequence[str] = (),
    label: str = "label",
) -> Labels:
    from curator.judge.people import read_labels
    from curator.judge.sheet import listed

    annotators = None
    if options["annotators"]:
        annotators = tuple(options["annotators"].split(","))
        if len(annotators) != 2:
            raise DataError(f"--annotators: found {options['annotators']!r}; give two columns, A,B")
    exclude = []
    for condition in options["exclude"]:
        name, equals, value = condition.partition("=")
        if not equals:
            raise DataError(f"--exclude: found {condition!r}; give COLUMN=VALUE")
        exclude.append((name, value))
    labels = read_labels(
        options["file"],
        outcome=outcome,
        prompt=options["prompt"],
        answer=options["answer"],
        label=options["label"] or label,
        positive=options["positive"],
        annotators=annotators,
        exclude=exclude,
        columns=columns,
        verdicts=verdicts,
    )
    others = [value for value in labels.values if value not in labels.positive]
    click.echo(
        f"{labels.file}: {these(labels.read, 'row', 'rows')}, {labels.excluded:,} excluded, {labels.unlabelled:,} "
        f"without a label; people call {labels.rows['positive'].sum():,} of {labels.rows.height:,} {outcome} "
        f"({', '.join(labels.positive)}) and {(~labels.rows['positive']).sum():,} not ({listed(others, visible)})",
        err=True,
    )
    for name, values in labels.unread.items():
        rows = these(sum(values.values()), "row has", "rows have")
        click.echo(
            f"{labels.file}: {rows} neither in column {name!r}, which counts as empty ({listed(list(values))})",
            err=True,
        )
    return labels


@judge.command()
@_columns
@click.option("--embedder", required=True, metavar="ID", help=EMBEDDER)
@click.option("--revision", help="Revision of an embedder on the Hub.")
@click.option("--out", type=PATH, required=True, help="Folder to write; name it as `embedding` of a recipe's judge.")
def fit(embedder: str, revision: str | None, out: Path, **options: Any) -> None:
    """Fit a refusal judge to your labels: a logistic head on sentence embeddings.

    Cross-validation grouped by prompt chooses its inputs and regularisation, and measures its accuracy.
    """
    from curator.cli.progress import Terminal
    from curator.judge.embedding import fit as fitted
    from curator.judge.endpoint import Cost
    from curator.judge.resources import resources
    from curator.model.load import resolve_revision
    from curator.run.folder import disk, require_writable

    # A head replaces its folder, so the folder around it must be writable, too.
    for folder in (out, out.parent):
        require_writable(folder)
    if out.is_dir() and any(out.iterdir()) and not (out / "head.json").is_file():
        raise RunError(
            f"{out}: holds other files, which a head would replace; name a new or an empty folder with --out"
        )
    labels = _read(options, outcome="refused")
    exact = resolve_revision(embedder, revision, "--embedder")
    with disk(out), Terminal(aside=True) as terminal:
        terminal.begin(f"Embedding the parts of {these(labels.rows.height, 'answer', 'answers')}, then fitting")
        embed = resources(Cost(), progress=terminal.embedding).embed
        _, figures, facts = fitted(labels, embed, embedder=embedder, revision=exact, folder=out)
    _table("Refused or not, on held-out prompts", [figures])
    click.echo(
        f"The judge reads {', '.join(facts['parts'])} of an answer. Wrote {out}; name it in a recipe as "
        f"`embedding: {out}`."
    )


@judge.command()
@_columns
@click.argument("judges", nargs=-1, required=True, metavar="JUDGE...")
@click.option(
    "--outcome",
    type=click.Choice(["refused", "harmful"]),
    default="refused",
    show_default=True,
    help="What is measured.",
)
@click.option("--run", type=PATH, help="Run folder whose sheet was labelled; name its judges by their names.")
@click.option("--store", "to", type=PATH, help="File to write the figures to; name it as `error` of a recipe's judge.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def measure(
    judges: tuple[str, ...], outcome: str, run: Path | None, to: Path | None, as_json: bool, **options: Any
) -> None:
    """Measure each JUDGE against answers labelled by people.

    JUDGE is the name of a judge of --run, column:NAME for verdicts in the file of labels (in the words of the labels,
    or yes and no), or one of phrases, exact, guard:ID, classifier:ID, embedding:FOLDER and a mapping as in a recipe. A
    judge that was fitted to these answers is measured by its cross-validation.
    """
    from curator.judge.measure import COLUMN, figures, judge_labels, pairs, refuse_others, store
    from curator.judge.measure import as_json as plain
    from curator.run.folder import disk, require_writable

    if to is not None:
        with disk(to.parent, "--store"):
            refuse_others(to)
        require_writable(to.parent, "--store")
    columns = [name.removeprefix(COLUMN) for name in judges if name.startswith(COLUMN)]
    ids, label = (["id"], outcome) if run else ([], "label")
    labels = _read(options, outcome=outcome, columns=ids, verdicts=columns, label=label)
    judged, arms = judge_labels(labels, judges, run)
    by_part = figures(labels, judged)
    if to is not None:
        with disk(to.parent, "--store"):
            store(to, labels, judged, arms, run)
    if as_json:
        print_json({"outcome": outcome, "figures": plain(by_part)})
        return
    for part, rows in by_part.items():
        _table(f"{outcome.capitalize()} or not: {part}", rows)
    _pairs(pairs(labels, judged))
    for verdicts in judged:
        if verdicts.unseen:
            click.echo(
                f"{verdicts.name} was fitted to {verdicts.unseen:,} of these answers, and "
                "is measured on them by cross-validation."
            )
    click.echo("95% confidence intervals, clustered by prompt.")
    if to is not None:
        click.echo(f"Wrote {to}.")


@judge.command()
@click.argument("run", type=PATH)
@click.option("--out", type=PATH, required=True, help="CSV file to write.")
@click.option(
    "--per-arm", type=click.IntRange(min=1), default=50, show_default=True, help="Answers to draw from each arm."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed for sampling.")
def sample(run: Path, out: Path, per_arm: int, seed: int) -> None:
    """Write a sheet of answers of RUN for people to label, without naming their arms.

    Fill in the columns harmful and refused with yes or no, then run: curator judge measure --run RUN --labels SHEET
    --outcome harmful --store FILE JUDGE...
    """
    from curator.judge.measure import LEAST
    from curator.judge.measure import sample as drawn
    from curator.run.folder import disk, replacing, require_writable

    with disk(out.parent):
        if out.exists():
            raise RunError(f"{out}: already exists, and may hold labels; choose another name, or remove it first")
    require_writable(out.parent)
    sheet = drawn(run, per_arm, seed)
    with disk(out.parent), replacing(out) as temporary:
        sheet.write_csv(temporary)
    click.echo(f"Wrote {out}: {these(sheet.height, 'answer', 'answers')}. They may be harmful to read.")
    if per_arm < LEAST:
        click.echo(f"A difference is corrected only with at least {LEAST} labelled answers of each arm.")


@judge.command("run")
@click.argument("run", type=PATH)
@click.option("--judge", "judges", multiple=True, metavar="JUDGE", help=f"Judge to run: {WHAT}")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
def rerun(run: Path, judges: tuple[str, ...], as_json: bool) -> None:
    """Run judges on the stored answers of RUN, without training or generating again.

    Verdicts are added below 7-judge/added. Existing verdicts are never overwritten.
    """
    from curator.cli.progress import Terminal
    from curator.judge.rejudge import rejudge

    with Terminal(aside=as_json) as terminal:
        results = rejudge(run, judges, terminal)
    if as_json:
        print_json(results)
        return

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
            click.echo(f"{judge['name']}: {these(count, 'answer', 'answers')} unscored: {reason}")
    for pair in results["agreement"]:
        kappa = "undefined" if pair["kappa"] is None else f"{pair['kappa']:.2f}"
        click.echo(
            f"{pair['first']} and {pair['second']} agree on {percent(pair['share'])} of "
            f"{these(pair['answers'], 'answer', 'answers')}, kappa {kappa}"
        )
    click.echo(
        "The difference is curated minus control after fine-tuning, in percentage points. The last column applies the "
        "run's decision rule to each judge's verdicts alone, without the gates. It does not change the decision."
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
        agree = "an unknown share" if share is None else percent(share)
        agreement = "undefined" if kappa is None else f"{kappa:.3f}"
        click.echo(f"{first} and {second} agree on {agree} of {these(count, 'answer', 'answers')}, kappa {agreement}")
