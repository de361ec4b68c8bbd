"""The pilot: which candidate setting goes into the final experiment, decided on probes that the final one never asks.

Successive halving (Jamieson and Talwalkar 2016): in every round each candidate that is left runs on twice the seeds of
the round before, and the better half goes on. Random draws are halved beside the optimised sets, never against them, so
that the best of each kind is known at the end: a set that was only piloted shows what optimising adds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from curator.decision.comparisons import anticipated, rate
from curator.decision.tables import lay_out
from curator.experiment.plan import Candidate, candidates, rounds
from curator.judge.stage import judge_answers
from curator.recipe.select import AGGREGATES
from curator.run import Run, Setting
from curator.run.folder import write_json
from curator.run.names import CANDIDATES
from curator.seeds import derive, generator

if TYPE_CHECKING:
    from curator.records import Data


@dataclass(frozen=True)
class Round:
    """What a candidate did in one round, over all its seeds so far and the anticipated tasks.

    Attributes:
        number: From 0. `seeds`: of the pilot's own.
        before, after: Harmfulness before and after fine-tuning. `degenerate`: share after; null where nothing was
            scored.
        costly: Whether harmfulness before, or the degenerate share, is above the random draws' mean by more than the
            gate's margin; such a candidate stands behind all that are not.
        place: From 1 among those of its kind. `kept`: whether it goes on (or, in the last round, won).
    """

    number: int
    seeds: int
    before: float | None
    after: float | None
    degenerate: float | None
    costly: bool
    place: int
    kept: bool


@dataclass(frozen=True)
class Piloted:
    """The whole pilot: every candidate's rounds, the best optimised candidate, the best draw (null without draws)."""

    rounds: Mapping[str, tuple[Round, ...]]
    best: Candidate
    best_draw: Candidate | None


def halve(
    candidates: Sequence[Candidate],
    measure: Callable[[Sequence[Candidate], int], pl.DataFrame],
    *,
    seeds: int,
    weights: Mapping[str, float],
    margins: Mapping[str, float],
) -> Piloted:
    """The best candidate of each kind, by harmfulness after fine-tuning.

    Args:
        candidates: At least one that is no draw. A kind of one member wins unmeasured.
        measure: Trains, asks and judges these candidates on the first so many seeds of the pilot; gives verdicts in the
            columns of VERDICT_SCHEMA, with the candidates' names as arms.
        seeds: Of the first round.
        weights: Task mass by name.
        margins: Of the gates `harmfulness_before` and `degenerate`, where they are asked.

    Raises:
        ValueError: Every candidate is a draw.
    """
    kinds = [[one for one in candidates if not one.drawn], [one for one in candidates if one.drawn]]
    if not kinds[0]:
        raise ValueError("a pilot needs a candidate that is no random draw")
    done: dict[str, list[Round]] = {one.name: [] for one in candidates}
    for number, (*_, count) in enumerate(rounds(len(kinds[0]), len(kinds[1]), seeds)):
        alive = [one for kind in kinds for one in kind]
        found = _rates(measure(alive, count), alive, weights)
        costly = _costly(found, [one.name for one in kinds[1]], margins)
        for place, kind in enumerate(kinds):
            ordered = sorted(kind, key=lambda one: (costly[one.name], *_last_if_null(found[one.name]["after"])))
            kept = ordered[: -(-len(ordered) // 2)]
            for rank, one in enumerate(ordered, start=1):
                done[one.name].append(
                    Round(number, count, **found[one.name], costly=costly[one.name], place=rank, kept=one in kept)
                )
            kinds[place] = kept
    best_draw = kinds[1][0] if kinds[1] else None
    return Piloted({name: tuple(own) for name, own in done.items()}, kinds[0][0], best_draw)


def _rates(
    verdicts: pl.DataFrame, alive: Sequence[Candidate], weights: Mapping[str, float]
) -> dict[str, dict[str, float | None]]:
    grids, mix = lay_out(verdicts), anticipated(weights)
    wanted = {"before": ("harmfulness", "before"), "after": ("harmfulness", "after")}
    wanted["degenerate"] = ("degenerate", "after")
    return {one.name: {name: rate(grids[key], one.name, mix).value for name, key in wanted.items()} for one in alive}


def _costly(
    found: Mapping[str, Mapping[str, float | None]], draws: Sequence[str], margins: Mapping[str, float]
) -> dict[str, bool]:
    limits = {}
    for rate_name, gate in (("before", "harmfulness_before"), ("degenerate", "degenerate")):
        usual = [value for value in (found[name][rate_name] for name in draws) if value is not None]
        if usual and gate in margins:
            limits[rate_name] = sum(usual) / len(usual) + margins[gate]
    return {name: any((rates[one] or 0.0) > limit for one, limit in limits.items()) for name, rates in found.items()}


def _last_if_null(value: float | None) -> tuple[bool, float]:
    return (value is None, value or 0.0)


Ids = tuple[str, ...]


def pilot(run: Run, folder: Path, data: Data, choose: Callable[[Setting], Ids]) -> tuple[Setting, Ids | None]:
    """The setting to go on with, and the best random draw; writes the whole table to `folder/candidates.json`.

    Args:
        choose: The row ids that a setting chooses.
    """
    from curator.engine import runner
    from curator.experiment.grid import ask, experiment_of, train_grid
    from curator.experiment.plan import PRELOAD, Cell
    from curator.experiment.plan import grid as plan_of
    from curator.run.names import PROBES
    from curator.selection.arms import random

    r = run.recipe
    seed, execute = derive(r.seed, "pilot"), runner(r.engine, preload=PRELOAD, folder=run.root)
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

        names, first = [one.name for one in alive], found[0].name
        arms = {(name, number): sets[name] for name in names for number in range(seeds)}
        experiment = experiment_of(
            run, data, {(first, 0): sets[first], **arms}, seed=seed, reference=Cell(first, 0),
            probes=(("harmful", PROBES["pilot"]),), tests=False,
        )  # fmt: skip
        plan = plan_of(dict.fromkeys(names, seeds), [task.name for task in asked], stage=r.verify.stage)
        done = train_grid(
            experiment, plan, (folder / "train").absolute(), execute=execute, progress=run.progress_of("select")
        )
        weights = {cell: own for cell, (own, _) in done.items()}
        answers = ask(run, experiment, plan, weights, folder=folder / "answer", execute=execute, stage="select")
        return judge_answers(run, answers, data, folder / "judge", run.progress_of("select"))

    piloted = halve(
        found, measure, seeds=r.verify.pilot.seeds, weights=r.weights(),
        margins={name: getattr(r.verify.gates, name) for name in ("harmfulness_before", "degenerate")},
    )  # fmt: skip
    write_json(folder / CANDIDATES, _table(run, piloted, found, data.pilot.height))
    return _setting(piloted.best), sets[piloted.best_draw.name] if piloted.best_draw else None


def _setting(one: Candidate) -> Setting:
    assert one.weight is not None
    return Setting(one.weight, one.score, one.representation or 0)


def _table(run: Run, piloted: Piloted, found: Sequence[Candidate], probes: int) -> Mapping[str, Any]:
    from curator.recipe.select import label

    r = run.recipe
    return {
        "probes": probes,
        "chosen": piloted.best.name,
        "best_draw": piloted.best_draw.name if piloted.best_draw else None,
        "candidates": [
            {
                "name": one.name,
                "weight": one.weight,
                "score": None if one.drawn else scoring_name(run, one.score),
                "representation": None if one.drawn else label(r.representations[one.representation or 0]),
                "rounds": [asdict(each) for each in piloted.rounds[one.name]],
            }
            for one in found
        ],
    }


def scoring_name(run: Run, number: int | None) -> str:
    """What a score of the pilot is called in tables."""
    section = run.recipe.score if number is None else run.recipe.verify.pilot.scores[number]
    if section.kind in ("cosine", "consensus"):
        size = f"-{section.n}" if AGGREGATES[section.aggregate].size == "n" else ""
        return f"{section.kind}/{section.aggregate}{size}"
    return (
        section.kind if section.kind == "rank-sum" else f"interference/{section.step}-{section.size:g}/{section.loss}"
    )
