"""Many recipes as one suite: every model, size and task, what they share trained once, and one page of it all."""

from collections.abc import Callable, Sequence
from pathlib import Path

from curator.run import Progress
from curator.suite.contents import assemble, write
from curator.suite.recovered import recovered
from curator.suite.results import Result, result
from curator.suite.run import Outcome, Variant, run, variants


def run_suite(
    folder: Path,
    root: Path,
    *,
    settings: Sequence[str] = (),
    only: Sequence[str] = (),
    progress: Callable[[Variant], Progress],
    base: Path = Path("."),
) -> list[Outcome]:
    """Builds every run of the recipes in `folder` below `root`, and writes suite.json and suite.html after each.

    Runs that `only` leaves out stand on the page too where they are finished.

    Args:
        progress: Called with a variant when it starts; gives where to report its progress.

    Raises:
        RecipeError: See `run.variants`; or the folder's recovered.json is damaged.
        RunError: Another process is at work on the suite, or its folder cannot be written.
    """
    numbers = recovered(folder)
    everything = variants(folder, settings)
    wanted = {variant.name for variant in variants(folder, settings, only)}
    known: dict[str, Result] = {}

    def read(variant: Variant) -> None:
        known[variant.name] = result(variant, root)

    def after(outcomes: Sequence[Outcome]) -> None:
        shown = [outcome for outcome in outcomes if outcome.variant.name in wanted or outcome.status == "done"]
        write(root, assemble(folder.resolve().name, shown, known, numbers))

    outcomes = run(everything, root, wanted, progress=progress, read=read, after=after, base=base)
    return [outcome for outcome in outcomes if outcome.variant.name in wanted]
