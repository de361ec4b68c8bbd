"""What one finished run of a suite has found: rates by judge, comparisons, its sets, and what was trained for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.recipe.verify import CURATED
from curator.run import FOLDERS, Silent, Site
from curator.run.folder import DONE, SHARED, read_json
from curator.steps.representing import below
from curator.suite.variants import Variant
from curator.verify.plan import Cell

if TYPE_CHECKING:
    import polars as pl

HIGH, LOW = "high-similarity", "low-similarity"
PAIRS = ((LOW, HIGH), (CURATED, "random"), (LOW, "random"), (HIGH, "random"))
"""What a suite compares after fine-tuning: the first of each pair minus the second."""


def found(variant: Variant, root: Path) -> dict[str, Any]:
    """The figures of a finished run.

    Args:
        root: The suite's folder.

    Returns:
        `model` (id, revision), `tasks` (name -> weight), `pool` (rows), `arms` (arm -> `sets.set_facts`), `shared`
        (rows in both the high and the low set, null without them), `judges` (name -> `decides`, `rates`: arm -> before
        and after -> harmfulness, `comparisons`), `utility` (arm -> before and after), `decision` (the run's own:
        outcome, reason, difference, low, high), `warning` (the regime's), `trainings` (`made` and `shared`), and
        `timing`. Rates and comparisons are about the anticipated tasks, weighted, after
        fine-tuning where nothing else is said.
    """
    assert variant.recipe is not None
    site = Site(variant.recipe, root / variant.name, Path("."), Silent())
    report = read_json(site.folder("report") / "report.json")
    arms, facts = _sets(site)
    return {
        "model": {name: report["model"][name] for name in ("id", "revision")},
        "tasks": {task["name"]: task["weight"] for task in report["tasks"]},
        "pool": report["pool"]["kept"],
        "score": report["score"]["name"],
        "arms": facts,
        "shared": arms,
        "judges": _judged(site),
        "utility": {
            arm: {phase: tasks["anticipated"][phase]["utility"] for phase in ("before", "after")}
            for arm, tasks in report["arms"].items()
        },
        "decision": {
            **{name: report["decision"][name] for name in ("outcome", "reason")},
            **{name: (report["decision"]["primary"] or {}).get(name) for name in ("difference", "low", "high")},
        },
        "warning": report["regime"]["warning"],
        "trainings": trainings(site),
        "timing": {"seconds": sum(site.done(stage)["seconds"] for stage in FOLDERS)},
    }


def trainings(site: Site) -> dict[str, int]:
    """Models trained for a run (the instruction stage among them), and those that it took from another run instead."""
    made = shared = 0
    pieces = [site.folder("base") / "instruction"]
    for one in site.record("train")["models"]:
        pieces.append(site.folder("train") / Cell(one["arm"], one["seed"], one["task"]).folder)
    for piece in pieces:
        if (piece / DONE).exists():
            taken = (piece / SHARED).exists() or (piece.parent / SHARED).exists()
            made, shared = made + (not taken), shared + taken
    return {"made": made, "shared": shared}


def _sets(site: Site) -> tuple[int | None, dict[str, dict[str, Any]]]:
    from curator.run.files import load_frame, load_scores, load_vectors
    from curator.suite.sets import set_facts, shared_rows

    drawn = load_frame(site.folder("select") / "arms.parquet")
    arms = {(arm, seed): tuple(part["id"]) for (arm, seed), part in drawn.group_by("arm", "seed", maintain_order=True)}
    folder = below(site.folder("represent"), site.record("select")["representation"])
    return shared_rows(arms, HIGH, LOW), set_facts(
        load_vectors(folder, "pool"), load_scores(site.folder("select")), arms
    )


def _judged(site: Site) -> dict[str, Any]:
    """What the panel's rule says (by the headline's name, or `panel`), and what every other judge says."""
    from curator.run.files import load_frame
    from curator.steps.judging import deciding

    judges, folder = site.recipe.judges, site.folder("judge")
    first = judges.headline if judges.rule == "headline" else f"panel ({judges.rule})"
    said = {first: deciding(site, folder)}
    for one in judges.panel:
        if one.name != first:
            said[one.name] = load_frame(folder / "panel" / one.name / "verdicts.parquet")
    weights = site.recipe.weights()
    return {name: {"decides": name == first, **_figures(name, frame, weights)} for name, frame in said.items()}


def _figures(judge: str, verdicts: pl.DataFrame, weights: Mapping[str, float]) -> dict[str, Any]:
    import polars as pl

    from curator.suite.contrasts import contrast
    from curator.verify.comparisons import anticipated, rate
    from curator.verify.tables import lay_out

    grids = lay_out(verdicts.with_columns(pl.lit(judge).alias("judge")))
    mix, after = anticipated(weights), grids["harmfulness", "after"]
    rates = {
        arm: {phase: asdict(rate(grids["harmfulness", phase], arm, mix)) for phase in ("before", "after")}
        for arm in after.arms
    }
    pairs = [pair for pair in PAIRS if set(pair) <= set(after.arms)]
    return {"rates": rates, "comparisons": [contrast(after, *pair, mix) for pair in pairs]}
