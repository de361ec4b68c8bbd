"""Commands that put a data set on the Hub: publish, and what build does with --push."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curator.cli.options import PATH
from curator.cli.show import print_json, report_of
from curator.errors import PublishError, RunError
from curator.publish.unverified import NOT_VERIFIED
from curator.run import current, keys_of
from curator.run.readers import dataset_folder, unverified_folder
from curator.wording import these

if TYPE_CHECKING:
    from curator.publish.push import Pushed

UNFAVOURABLE = ("worse", "trade-off")


@click.command()
@click.argument("run", type=PATH)
@click.argument("repo")
@click.option("--push", "really", is_flag=True, help="Push the data set. [default: show what would be pushed]")
@click.option("--push-anyway", is_flag=True, help="With --push: push even if the decision is worse or trade-off.")
@click.option("--public", is_flag=True, help="Make a new repository public. [default: private]")
@click.option("--pr", "pull_request", is_flag=True, help="Open a pull request instead of committing to main.")
@click.option("--tag", help="Tag the commit, e.g. v1.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON what was pushed, or would be.")
def publish(  # noqa: PLR0917 - click hands options by name
    run: Path,
    repo: str,
    really: bool,
    push_anyway: bool,
    public: bool,
    pull_request: bool,
    tag: str | None,
    as_json: bool,
) -> None:
    """Push the data set of RUN, a run folder, to REPO (owner/name) on the Hub.

    Without --push this is a dry run; it contacts no server. A folder in which a file was changed, removed or added
    since curator wrote it is refused. A data set whose decision is worse or trade-off is pushed only with
    --push-anyway. One that `curator select` wrote has no decision, and its card says that it is not verified. The token
    is read from HF_TOKEN or from `hf auth login`.
    """
    if push_anyway and not really:
        raise click.UsageError("--push-anyway needs --push; add it.")
    from curator.publish.push import refuse_name

    refuse_name(repo)
    folder = dataset_of(run)
    if really:
        refuse_unfavourable(run, repo, push_anyway)
        from curator.publish.push import push

        quiet = (lambda _: None) if as_json else click.echo
        done = push(folder, repo, public=public, pull_request=pull_request, tag=tag, say=quiet)
        click.echo(json.dumps(vars(done), indent=1) if as_json else summary(done))
        if not verified(run):
            click.echo(f"{NOT_VERIFIED} Its card says so first.", err=as_json)
        return
    from curator.publish.merge import CARD, checked
    from curator.publish.push import outdated

    contents = checked(folder)
    sizes, card = {name: len(content) for name, content in contents.items()}, contents[CARD].decode("utf-8")
    decision = report_of(run).decision.outcome if verified(run) else None
    if as_json:
        print_json({"repo": repo, "decision": decision, "files": sizes, "card": card})
        return
    _show(repo, sizes, card, public)
    click.echo(NOT_VERIFIED if decision is None else f"The decision of this run: {decision}.")
    why = outdated(folder)
    click.echo(
        "This was a dry run. To push, add --push."
        if why is None
        else f"This was a dry run. The data set cannot be pushed: {why}."
    )


def ready(repo: str, public: bool) -> None:
    """Checks before hours of work that the token may write to `repo` on the Hub.

    Raises:
        PublishError: The token may not write there.
    """
    from curator.publish.push import check

    check(repo, public=public, say=click.echo)


def push_after_build(root: Path, repo: str, public: bool, anyway: bool) -> None:
    """Pushes what a build made.

    Raises:
        PublishError: The decision is unfavourable and `anyway` is not given, the folder is not as it was written, or
            the Hub refuses.
    """
    refuse_unfavourable(root, repo, anyway)
    from curator.publish.push import push

    click.echo(summary(push(dataset_of(root), repo, public=public, say=click.echo)))


def refuse_unfavourable(root: Path, repo: str, anyway: bool) -> None:
    """Refuses to push a data set that the run's own decision speaks against, unless `anyway`.

    Raises:
        PublishError: The decision is one of UNFAVOURABLE.
    """
    if not verified(root):
        return
    outcome = report_of(root).decision.outcome
    if outcome in UNFAVOURABLE and not anyway:
        raise PublishError(
            f"{repo}: nothing was pushed, because the decision is '{outcome}'; the data set is in {dataset_of(root)}. "
            f"To push it anyway: curator publish {root} {repo} --push --push-anyway"
        )


def dataset_of(run: Path) -> Path:
    """The data set folder of a finished run, or, where nothing is verified yet, the one that `curator select` wrote.

    Raises:
        RunError: The run has none, or one of an earlier recipe.
    """
    keys_of(run)
    if current(run, "publish") is not None:
        return dataset_folder(run)
    folder = None if verified(run) else unverified_folder(run)
    if folder is None:
        raise RunError(f"{run}: the data set is not finished; run `curator build` again to continue")
    return folder


def verified(run: Path) -> bool:
    """Whether a run has a decision."""
    return current(run, "report") is not None


def summary(done: Pushed) -> str:
    """What a push did, in a few lines."""
    lines = [*done.notes, f"Verified commit {done.commit[:8]}: every file and every row matches what was pushed."]
    removed = f", removed {len(done.removed):,}" if done.removed else ""
    sent = f"Pushed {these(len(done.sent), 'file', 'files')}{removed}."
    return "\n".join([sent if done.sent or done.removed else "The repository is up to date.", *lines, done.url])


def _show(repo: str, sizes: dict[str, int], card: str, public: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    click.echo(card)
    visibility = "public" if public else "private"
    title = Text(f"To {repo} ({visibility} if it is new)", "table.title")
    table = Table("file", "bytes", title=title, title_justify="left")
    table.columns[1].justify = "right"
    for name, size in sizes.items():
        table.add_row(Text(name), f"{size:,}")
    table.add_row("total", f"{sum(sizes.values()):,}")
    Console().print(table)
