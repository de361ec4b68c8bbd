"""Many recipes as one suite: every model, size and task, with shared models trained once, and one page of all
results.
"""

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
) -> list[Outcome]:
    """Builds every run of the recipes in `folder` below `root`, and writes suite.json and suite.html after each.

    Finished runs that `only` leaves out are on the page too.

    Args:
        folder: The folder of recipes.
        root: The folder of the suite's runs.
        settings, only: As in `run.variants`.
        progress: Called with a variant when it starts; returns the receiver of its progress.

    Raises:
        RecipeError: See `run.variants`; or the folder's recovered.json is damaged.
        RunError: Another process is running the suite, or its folder is not writable.
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

    outcomes = run(everything, root, wanted, progress=progress, read=read, after=after)
    return [outcome for outcome in outcomes if outcome.variant.name in wanted]
