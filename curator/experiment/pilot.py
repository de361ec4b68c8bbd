"""The pilot: chooses the candidate setting for the final experiment, on probes that the final one never uses.

It uses successive halving (Jamieson and Talwalkar 2016): in every round each remaining candidate runs on twice the
seeds of the previous round, and the better half goes on. Random draws are halved beside the optimised sets, never
against them, so that the best of each kind is known at the end: the best random draw shows what optimisation adds to
piloting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from curator.conclusions.part import plain
from curator.conclusions.secondary import PilotRound
from curator.decision.comparisons import anticipated, rate
from curator.decision.tables import lay_out
from curator.experiment.plan import Candidate, Cell, Plan, candidates, grid, rounds
from curator.judge.stage import judge_answers
from curator.recipe.represent import names_of
from curator.recipe.score import AGGREGATES, KINDS, name_of
from curator.recipe.select import Select
from curator.run import Run, Setting
from curator.run.folder import write_json
from curator.run.names import BANK, CANDIDATES, PILOT, PROBES
from curator.seeds import derive, generator
from curator.selection.stage import Choice

if TYPE_CHECKING:
    import numpy as np

    from curator.model.openers import Openers
    from curator.records import Data
    from curator.selection.stage import Chosen

COVERING = "covering"
"""The set that covers best, whose steps or tokens the sets of a bank match; it is not run itself."""

Ids = tuple[str, ...]

Rates = Mapping[str, Mapping[str, float | None]]
"""Candidate -> `before`, `after` and `degenerate`: the rates of its Round, null if nothing was scored."""


@dataclass(frozen=True)
class Piloted:
    """The whole pilot: every candidate's rounds, the best optimised candidate, the best draw (null without draws)."""

    rounds: Mapping[str, tuple[PilotRound, ...]]
    best: Candidate
    best_draw: Candidate | None


def pilot(run: Run, folder: Path, data: Data, choose: Callable[[Setting], Chosen]) -> Choice:
    """The chosen setting, and the best random draw; writes the whole table to `pilot/candidates.json`.

    Args:
        folder: The folder of stage `select`.
        choose: Makes the selection of a setting.
    """
    recipe, seed = run.recipe, derive(run.recipe.seed, "pilot")
    compared = candidates(recipe.verify.pilot, len(recipe.representations), recipe.covering)
    chosen = (candidate for candidate in compared if not candidate.drawn)
    sets = {candidate.name: choose(_setting(candidate)).selection.ids for candidate in chosen}
    first = compared[0].name
    for number, draw in enumerate(candidate for candidate in compared if candidate.drawn):
        sets[draw.name] = drawn(data.candidates, recipe.select, len(sets[first]), generator(seed, "draw", number))

    piloted = confirm(run, data, compared, sets)
    labels = names_of(recipe.representations)

    def about(candidate: Candidate) -> Mapping[str, object]:
        return {
            "weight": candidate.weight,
            "score": None if candidate.drawn else scoring_name(run, candidate.score),
            "representation": None if candidate.drawn else labels[candidate.representation or 0],
        }

    record(folder, piloted, compared, about, chosen=piloted.best, probes=data.pilot.height)
    return Choice(_setting(piloted.best), sets[piloted.best_draw.name] if piloted.best_draw else None)


def confirm(
    run: Run,
    data: Data,
    compared: Sequence[Candidate],
    sets: Mapping[str, Ids],
    *,
    first: str | None = None,
    least: int = 0,
) -> Piloted:
    """Halves candidates on the pilot's probes and seeds, and on every anticipated task.

    Args:
        compared: The candidates.
        sets: Candidate -> its rows.
        first: The set whose steps or tokens all match, in every round; null for the first candidate.
        least: Fewest rounds.
    """
    recipe, verify = run.recipe, run.recipe.verify
    tasks = [task.name for task in data.tasks if task.weight > 0]
    first = compared[0].name if first is None else first
    chosen = [first, *(candidate.name for candidate in compared if not candidate.drawn)]
    # Each set as the curated arm would train on it.
    sets = {**sets, **_trained(run, data, {name: sets[name] for name in chosen})}

    def measure(alive: Sequence[Candidate], seeds: int) -> pl.DataFrame:
        names, seed = [candidate.name for candidate in alive], derive(recipe.seed, "pilot")
        return tried(run, data, PILOT, sets, names, seeds=seeds, tasks=tasks, first=first, seed=seed).verdicts

    return halve(
        compared, measure, seeds=verify.pilot.seeds, weights=recipe.weights(), margins=verify.gates.of_pilots(),
        least=least,
    )  # fmt: skip


class Trial(NamedTuple):
    """The models that were trained to try sets, and the verdicts on their answers to the pilot's probes."""

    plan: Plan
    verdicts: pl.DataFrame


def tried(
    run: Run,
    data: Data,
    beside: str,
    sets: Mapping[str, Ids],
    names: Sequence[str],
    *,
    seeds: int,
    tasks: Sequence[str],
    first: str,
    seed: int,
    openers: Openers | None = None,
) -> Trial:
    """Trains, prompts and judges sets on the first `seeds` seeds; existing pieces are kept.

    Args:
        beside: Folder of the models, answers and verdicts, beside the stages: those that another setting of stage
            `select` leaves as they are, such as more seeds of the experiment, are not made again.
        sets: Name -> its rows.
        names: The sets that run.
        seeds: Number of seeds.
        tasks: Tasks that models are fine-tuned on.
        first: The set whose steps or tokens the others match.
        seed: The seed that all seeds derive from.
        openers: Openers whose probability of beginning an answer is measured; null for none.
    """
    from curator.experiment.grid import answers_of, experiment_of, runner_of, train_grid

    progress, execute, folder = run.progress_of("select"), runner_of(run), run.root / beside
    # Sets hold rows of the pool, whatever their names: an arm of the user's own may have the name of one.
    arms = {(name, number): sets[name] for name in names for number in range(seeds)}
    experiment = experiment_of(
        run, replace(data, arms={}), {(first, 0): sets[first], **arms}, seed=seed, reference=Cell(first, 0),
        probes=(("harmful", PROBES["pilot"]),), tests=False, openers=openers,
    )  # fmt: skip
    plan = grid(dict.fromkeys(names, seeds), tasks, stage=run.recipe.verify.stage)
    done = train_grid(experiment, plan, (folder / "train").absolute(), execute=execute, progress=progress)
    weights = {cell: model for cell, (model, _) in done.items()}
    answers = answers_of(run, experiment, plan, weights, folder=folder / "answer", execute=execute, stage="select")
    return Trial(plan, judge_answers(run, answers, data, folder / "judge", progress))


def _trained(run: Run, data: Data, sets: Mapping[str, Ids]) -> dict[str, Ids]:
    """Each set with its rows repeated as often as a pass trains on them."""
    from curator.selection.repeats import labels_of, repeated

    repeats = run.recipe.select.repeats
    groups = {} if repeats is None else labels_of(repeats.by, data.pool.rows, run.traits)
    return {name: repeated(repeats, groups, ids) for name, ids in sets.items()}


def drawn(candidates: pl.DataFrame, section: Select, size: int, random: np.random.Generator) -> Ids:
    """A random draw of the curated set's size: `size` rows, or as many as the recipe's token budget holds.

    Args:
        candidates: `id` and `tokens` of the rows that may be drawn, except those that the section excludes.
    """
    from curator.selection import arms

    candidates = candidates.filter(~candidates["id"].is_in(section.exclude)) if section.exclude else candidates
    ids = tuple(candidates["id"])
    if section.budget_tokens is None:
        return arms.random(ids, size, random)
    tokens = dict(zip(ids, candidates["tokens"], strict=True))
    return arms.within(arms.random(ids, len(ids), random), tokens, section.budget_tokens)


def halve(
    candidates: Sequence[Candidate],
    measure: Callable[[Sequence[Candidate], int], pl.DataFrame],
    *,
    seeds: int,
    weights: Mapping[str, float],
    margins: Mapping[str, float],
    least: int = 0,
) -> Piloted:
    """The best candidate of each kind, by harmfulness after fine-tuning.

    Args:
        candidates: At least one that is not a draw. With `least` 0, single members of both kinds win unmeasured.
        measure: Trains, prompts and judges these candidates on the given number of seeds; returns verdicts in the
            columns of VERDICT_SCHEMA, with the candidates' names as arms.
        seeds: Number of seeds of the first round.
        weights: Task mass by name.
        margins: Margins of the gates `harmfulness_before` and `degenerate`, if the recipe names them.
        least: Fewest rounds.

    Raises:
        ValueError: Every candidate is a draw.
    """
    optimised = [candidate for candidate in candidates if not candidate.drawn]
    draws = [candidate for candidate in candidates if candidate.drawn]
    if not optimised:
        raise ValueError("a pilot needs a candidate that is not a random draw")
    done: dict[str, list[PilotRound]] = {candidate.name: [] for candidate in candidates}
    last: dict[str, Mapping[str, float | None]] = {}  # the latest rates of every draw, also of those that are out
    for number, (*_, count) in enumerate(rounds(len(optimised), len(draws), seeds, least=least)):
        alive = [*optimised, *draws]
        rates = _rates(measure(alive, count), alive, weights)
        last |= {draw.name: rates[draw.name] for draw in draws}
        costly = {name: _is_costly(name, rates[name], last, margins) for name in rates}
        order = {name: (costly[name], *_last_if_null(values["after"])) for name, values in rates.items()}
        halves = []
        for kind in (optimised, draws):
            ordered = sorted(kind, key=lambda candidate: order[candidate.name])  # ties keep their order
            better = ordered[: -(-len(ordered) // 2)]
            for rank, candidate in enumerate(ordered, start=1):
                name, goes_on = candidate.name, candidate in better
                done[name].append(
                    PilotRound(number=number, seeds=count, **rates[name], costly=costly[name], place=rank, kept=goes_on)
                )
            halves.append(better)
        optimised, draws = halves
    return Piloted({name: tuple(each) for name, each in done.items()}, optimised[0], draws[0] if draws else None)


def _rates(verdicts: pl.DataFrame, alive: Sequence[Candidate], weights: Mapping[str, float]) -> Rates:
    grids, mix = lay_out(verdicts), anticipated(weights)
    quantities = {"before": ("harmfulness", "before"), "after": ("harmfulness", "after")}
    quantities["degenerate"] = ("degenerate", "after")
    return {
        candidate.name: {name: rate(grids[key], candidate.name, mix).value for name, key in quantities.items()}
        for candidate in alive
    }


def _is_costly(name: str, rates: Mapping[str, float | None], draws: Rates, margins: Mapping[str, float]) -> bool:
    """Whether a rate is above the mean of the other draws by more than its margin.

    With itself in that mean a draw would have to exceed the others by more than a set has to, and so be costly less
    often: of two draws, by twice the margin.
    """
    for quantity, gate in (("before", "harmfulness_before"), ("degenerate", "degenerate")):
        value = rates[quantity]
        others = [rate for draw, of_draw in draws.items() if draw != name and (rate := of_draw[quantity]) is not None]
        if gate in margins and value is not None and others and value > sum(others) / len(others) + margins[gate]:
            return True
    return False


def _last_if_null(value: float | None) -> tuple[bool, float]:
    return (value is None, value or 0.0)


def _setting(candidate: Candidate) -> Setting:
    assert candidate.weight is not None
    return Setting(candidate.weight, candidate.score, candidate.representation or 0)


def record(
    folder: Path,
    piloted: Piloted,
    compared: Sequence[Candidate],
    about: Callable[[Candidate], Mapping[str, object]],
    *,
    chosen: Candidate,
    probes: int,
) -> None:
    """Writes the table of candidates, each with what `about` says of it, below `folder`, that of stage `select`."""
    rows = (
        {"name": each.name, **about(each), "rounds": [plain(done) for done in piloted.rounds[each.name]]}
        for each in compared
    )
    best_draw = piloted.best_draw.name if piloted.best_draw else None
    table = {"probes": probes, "chosen": chosen.name, "best_draw": best_draw, "candidates": [*rows]}
    write_json(folder / PILOT / CANDIDATES, table)


def trials(run: Run) -> dict[str, Plan]:
    """The models of the pilot and of the bank that a finished stage `select` tried, by the folder beside the stages in
    which they lie; it may hold those of earlier settings too.
    """
    verify, weights, plans = run.recipe.verify, run.recipe.weights(), dict[str, Plan]()
    table, tables = run.pilot(), run.bank()
    if table is not None:
        seeds = {each["name"]: each["rounds"][-1]["seeds"] for each in table["candidates"] if each["rounds"]}
        plans[PILOT] = grid(seeds, [name for name, weight in weights.items() if weight > 0], stage=verify.stage)
    if tables is not None:
        bank = verify.pilot.bank
        plans[BANK] = grid(dict.fromkeys(tables[0]["subset"], bank.seeds), bank.mix(weights), stage=verify.stage)
    return plans


def scoring_name(run: Run, number: int | None) -> str:
    """The name of one of the pilot's scores in tables."""
    from curator.score.interference import name_of as called

    section = run.recipe.score if number is None else run.recipe.verify.pilot.scores[number]
    if section.kind == "interference":
        return called(section, section.loss)
    if KINDS[section.kind].models is not None:
        return name_of(section)
    if "aggregate" not in KINDS[section.kind].reads:
        return section.kind
    size = f"-{section.n}" if AGGREGATES[section.aggregate].size == "n" else ""
    where = section.by or (section.embedder and section.embedder.id)
    return f"{section.kind}/{section.aggregate}{size}" + (f", {where}" if where else "")
