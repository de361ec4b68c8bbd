"""`select.weight: auto`: every candidate's set is aligned on, fine-tuned, asked and judged, by the same functions as
the final experiment, on probes and seeds of the pilot's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.experiment.candidates import candidates
from curator.judge.stage import decided
from curator.recipe.select import AGGREGATES
from curator.run import Setting, Site
from curator.run.folder import write_json
from curator.seeds import derive, generator
from curator.steps import grid

if TYPE_CHECKING:
    import polars as pl

    from curator.experiment.candidates import Candidate
    from curator.experiment.pilot import Piloted
    from curator.records import Data


Ids = tuple[str, ...]


def pilot(site: Site, folder: Path, data: Data, choose: Callable[[Setting], Ids]) -> tuple[Setting, Ids | None]:
    """The setting to go on with, and the best random draw; writes the whole table to `folder/candidates.json`.

    Args:
        choose: The row ids that a setting chooses.
    """
    from curator.engine import runner
    from curator.experiment.pilot import halve
    from curator.experiment.plan import Cell
    from curator.experiment.plan import grid as plan_of
    from curator.run.files import PROBES
    from curator.selection.arms import random

    r = site.recipe
    seed, run = derive(r.seed, "pilot"), runner(r.engine, preload=grid.PRELOAD, folder=site.root)
    asked = [task for task in data.tasks if task.weight > 0]
    found = candidates(r.verify.pilot, len(r.representations))
    sets: dict[str, Ids] = {}
    for one in found:
        if not one.drawn:
            sets[one.name] = choose(_setting(one))
    size, pool = len(sets[found[0].name]), tuple(data.candidates["id"])
    for number, one in enumerate(each for each in found if each.drawn):
        sets[one.name] = random(pool, size, generator(seed, "draw", number))

    def measure(alive: Sequence[Candidate], seeds: int) -> pl.DataFrame:
        from curator.experiment.grid import train_grid

        names, first = [one.name for one in alive], found[0].name
        arms = {(name, number): sets[name] for name in names for number in range(seeds)}
        experiment = grid.experiment_of(
            site, data, {(first, 0): sets[first], **arms}, seed=seed, reference=Cell(first, 0),
            probes=(("harmful", PROBES["pilot"]),), tests=False,
        )  # fmt: skip
        plan = plan_of(dict.fromkeys(names, seeds), [task.name for task in asked], stage=r.verify.stage)
        done = train_grid(experiment, plan, (folder / "train").absolute(), run=run, progress=site.progress("select"))
        weights = {cell: own for cell, (own, _) in done.items()}
        answers = grid.ask(site, experiment, plan, weights, folder=folder / "answer", run=run, stage="select")
        return decided(site, answers, data, folder / "judge", site.progress("select"))

    piloted = halve(
        found, measure, seeds=r.verify.pilot.seeds, weights=r.weights(),
        margins={name: getattr(r.verify.gates, name) for name in ("harmfulness_before", "degenerate")},
    )  # fmt: skip
    write_json(folder / "candidates.json", _table(site, piloted, found, data.pilot.height))
    return _setting(piloted.best), sets[piloted.best_draw.name] if piloted.best_draw else None


def _setting(one: Candidate) -> Setting:
    assert one.weight is not None
    return Setting(one.weight, one.score, one.representation or 0)


def _table(site: Site, piloted: Piloted, found: Sequence[Candidate], probes: int) -> Mapping[str, Any]:
    from curator.recipe.select import label

    r = site.recipe
    return {
        "probes": probes,
        "chosen": piloted.best.name,
        "best_draw": piloted.best_draw.name if piloted.best_draw else None,
        "candidates": [
            {
                "name": one.name,
                "weight": one.weight,
                "score": None if one.drawn else scoring_name(site, one.score),
                "representation": None if one.drawn else label(r.representations[one.representation or 0]),
                "rounds": [asdict(each) for each in piloted.rounds[one.name]],
            }
            for one in found
        ],
    }


def scoring_name(site: Site, number: int | None) -> str:
    """What a score of the pilot is called in tables."""
    section = site.recipe.score if number is None else site.recipe.verify.pilot.scores[number]
    if section.kind in ("cosine", "consensus"):
        size = f"-{section.n}" if AGGREGATES[section.aggregate].size == "n" else ""
        return f"{section.kind}/{section.aggregate}{size}"
    return (
        section.kind if section.kind == "rank-sum" else f"interference/{section.step}-{section.size:g}/{section.loss}"
    )
