"""The models of a plan that are finished in the run folder already: a long run may be interrupted many times."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from curator.experiment.plan import Plan
from curator.forecast.measured import former_of
from curator.recipe import Recipe
from curator.run.readers import finished_models


def in_words(recipe: Recipe, root: Path, grids: Mapping[str, Plan]) -> dict[str, str]:
    """How many models of each grid are trained and evaluated, if the run in `root` trains the same model in the
    same way; empty without such a run, or if it has trained none.

    Args:
        recipe, root: The recipe, and its run folder.
        grids: `experiment`, `bank`, `pilot` or `regime` -> its models.
    """
    former = former_of(root)
    if former is None or _training(former) != _training(recipe):
        return {}
    parts, begun = [], False
    for name, grid in grids.items():
        label = "confirmation" if name == "pilot" and recipe.select.by == "bank" else name
        beside, counts = "" if name == "experiment" else f"{name}/", []
        for stage, cells in (("train", (*grid.aligned, *grid.finetuned)), ("answer", grid.asked)):
            # A pilot's cells stand for sets that are known when it runs.
            folders = None if name == "pilot" else [cell.folder for cell in cells]
            counts.append((min(finished_models(root, f"{beside}{stage}", folders), len(cells)), len(cells)))
        (trained, models), (evaluated, asked) = counts
        parts.append(f"{label} {trained:,} of {models:,} trained and {evaluated:,} of {asked:,} evaluated" if trained
                     else f"{label} none of {models:,}")  # fmt: skip
        begun = begun or trained > 0
    kept = "those whose rows are still the same are kept, and the figures above include them"
    return {"models made before": f"{'; '.join(parts)}; {kept}"} if begun else {}


def _training(recipe: Recipe) -> object:
    """What decides trainings and answers beside the choice of rows."""
    verify = recipe.verify
    settings = verify.stage, verify.align, verify.finetune, verify.keep, verify.exposure, verify.generate
    return recipe.model, recipe.seed, recipe.pool, recipe.tasks, settings
