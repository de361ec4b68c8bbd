"""The trainings of a suite, what its runs share, and the cost on a GPU, before anything is read or trained. Imports
nothing heavy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from curator.experiment.plan import BASE, Cell, plan
from curator.forecast.cards import GPU
from curator.forecast.estimate import kept_bytes
from curator.forecast.measured import INSTRUCTION, Measured, measured
from curator.forecast.speed import ANSWERING, operations
from curator.forecast.workload import (
    FULL,
    Load,
    answers_of,
    bank_plan,
    instruction_tuning,
    pilot_answers,
    pilot_grid,
    pilot_trainings,
    regime_plan,
    regime_trainings,
    total,
    trainings,
)
from curator.keys import Inputs, base_settings
from curator.keys.pieces import answers_key, training_key
from curator.model.size import ModelSize, model_size
from curator.recipe import Recipe
from curator.recipe.sweep import settings_by_name
from curator.recipe.verify import CURATED, NONE, RANDOM, RANDOM_RECOVERY
from curator.run.folder import key_of
from curator.suite.run import Variant, standing
from curator.wording import model_name, number

UNREAD = Inputs(None, None, {})
"""Inputs without files, since a plan does not read files: runs of one suite that name the same file read the same."""

_NOTE = (
    f"Hours assume one 80 GB GPU that sustains {GPU / 1e12:g} TFLOP/s in training and a tenth of that when answering. "
    "They exclude representing rows and judging answers. 'shared' counts trainings that another run of the suite "
    "makes, if no task contains a prompt of the pool. The figures are of a suite without finished runs."
)


class Piece(NamedTuple):
    """A training, or the answers of one model: everything that decides it (equal pieces are made once), its tokens, its
    operations, and the bytes that it stores; null if unknown. `counted`: whether the tokens were counted.
    """

    what: str
    kind: str
    tokens: int | None
    operations: float | None
    disk: int | None
    counted: bool = True


@dataclass(frozen=True)
class Cost:
    """The pieces that a run makes itself, and those that it takes from earlier runs. Hours are for one GPU that
    sustains GPU FLOP/s.

    Tokens are at most `max_tokens` per row, unless an earlier run with the same data has counted them.
    """

    trainings: int = 0
    shared: int = 0
    tokens: int | None = 0
    answers: int | None = 0
    hours: float | None = 0.0
    disk: int | None = 0


def planned(variants: Sequence[Variant], root: Path) -> dict[str, Any]:
    """The plan as plain values: `runs` in order (name, status, problem, and the fields of Cost), `recipes` and `total`
    (sums of them), and `notes` in words.

    Args:
        root: The suite's folder, whose finished runs and counted tokens are used.
    """
    seen: set[str] = set()
    runs, total_cost = [], Cost()
    parts: dict[str, Cost] = {}
    assumed: dict[str, None] = {}
    for variant in variants:
        facts = {"name": variant.name, "status": standing(variant, root).status, "problem": variant.problem}
        if variant.recipe is not None:
            known = measured(variant.recipe, root / variant.name)
            size = model_size(variant.recipe.model.id, variant.recipe.model.revision)
            run_pieces = list(pieces(variant, known, size))
            cost = _cost(run_pieces, seen)
            total_cost = _sum(total_cost, cost)
            parts[variant.source] = _sum(parts.get(variant.source, Cost()), cost)
            facts |= vars(cost)
            assumed[_assumed(variant.recipe, run_pieces, size)] = None
        runs.append(facts)
    problems = [f"{variant.name}: {variant.problem}" for variant in variants if variant.problem is not None]
    recipes = {source: vars(cost) for source, cost in parts.items()}
    return {"runs": runs, "recipes": recipes, "total": vars(total_cost), "notes": [*problems, *assumed, _NOTE]}


def table(plan: Mapping[str, Any]) -> list[list[str]]:
    """The plan as a table: names of the columns, a line per run, a line per recipe if there are several, and the
    total.
    """

    def line(name: str, cost: Mapping[str, Any]) -> list[str]:
        disk = None if cost["disk"] is None else cost["disk"] / 2**30
        figures = (cost["trainings"], cost["shared"], cost["tokens"], cost["answers"], cost["hours"], disk)
        return [name, *map(_short, figures)]

    lines = [["run", "trained", "shared", "tokens", "answers", "GPU hours", "GiB"]]
    for run in plan["runs"]:
        done = "" if run["status"] == "waiting" else f" ({run['status']})"
        lines.append(line(run["name"] + done, run) if run["problem"] is None else [run["name"] + done, *[""] * 6])
    recipes = plan["recipes"] if len(plan["recipes"]) > 1 else {}
    lines += [line(f"total of {source}", cost) for source, cost in recipes.items()]
    return [*lines, line("total", plan["total"])]


def _short(value: float | None) -> str:
    """A short form of a figure: `5.99 M`."""
    if value is None:
        return "unknown"
    if 0 < value < 0.1:
        return "<0.1"
    for size, unit in ((1e9, " G"), (1e6, " M")):
        if value >= size:
            return f"{value / size:,.3g}{unit}"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.2g}"


def pieces(variant: Variant, known: Measured, size: ModelSize | None) -> Iterator[Piece]:
    """Everything that a run trains and evaluates. `what` names the path of a piece in the run folder and everything
    that decides it; pieces that depend on the chosen rows belong to this run only.
    """
    recipe = variant.recipe
    assert recipe is not None
    verify = recipe.verify
    grid = plan(verify, settings_by_name(recipe))
    tuning = instruction_tuning(recipe, known)
    template = recipe.model.chat_template
    start = key_of("base", base_settings(recipe, UNREAD))
    if tuning is not None:
        yield _training(training_key(start, verify.align, None, recipe.seed, template, INSTRUCTION), tuning, size)
    yield from _pilot(variant, known, size)
    start_of = dict.fromkeys((BASE, *grid.unaligned), start)
    tasks = {task.name: task for task in recipe.tasks}
    for load in trainings(recipe, grid, known):
        cell = load.cell
        assert cell is not None
        if cell.task is None:
            section, before = verify.align, start
            rows, steps = _rows_of(variant, cell), _steps_of(variant, cell)
        else:
            rehearsed = (_rows_of(variant, cell), verify.rehearsal_share) if grid.rehearsal else None
            section, before, steps = load.section, start_of[Cell(cell.arm, cell.seed)], None
            searched = variant.name if verify.finds_regime else None  # each run has its own setting of fine-tuning
            facts = tasks[cell.task].model_dump(exclude={"weight", "anticipated", "metric", "sweep"})
            rows = facts, rehearsed, searched
        # The grid derives the seed of a training from the cell's seed, and the rows of the task from the recipe's seed.
        seed = recipe.seed, cell.task, cell.seed
        start_of[cell] = training_key(before, section, steps, seed, template, rows)
        yield _training(key_of(start_of[cell], cell.folder), load, size)
    for cell in grid.asked:
        test_tasks = [tasks[name].model_dump(exclude={"sweep"}) for name in tasks if cell.task in (None, name)]
        questions = test_tasks, recipe.probes.model_dump()
        what = answers_key(start_of[cell], template, questions, verify.generate.model_dump())
        yield _answering(key_of(what, cell.folder), variant, answers_of(recipe, [cell], known), size)


def _pilot(variant: Variant, known: Measured, size: ModelSize | None) -> Iterator[Piece]:
    """The trainings and answers of the pilot and of the search for the regime, which other runs do not share, because
    their sets are specific to this run.
    """
    recipe = variant.recipe
    assert recipe is not None
    regime = regime_trainings(recipe, known) if recipe.verify.finds_regime else []
    trials = trainings(recipe, bank_plan(recipe), known)
    for name, loads in (("bank", trials), ("pilot", pilot_trainings(recipe, known)), ("regime", regime)):
        for load in loads:
            yield _training(key_of(name, variant.name, load.cell), load, size)
    grids = ("bank", bank_plan(recipe)), ("pilot", pilot_grid(recipe)), ("regime", regime_plan(recipe))
    for name, grid in grids:
        if grid.asked and (name != "regime" or regime):
            yield _answering(key_of(name, variant.name), variant, pilot_answers(recipe, grid, known), size)


def _training(what: str, load: Load, size: ModelSize | None) -> Piece:
    spent = None
    if load.tokens is not None and size is not None:
        spent = float(load.tokens * operations(load.section) * size.parameters)
    return Piece(what, "trained", load.tokens, spent, kept_bytes(load.section, size), load.counted)


def _answering(what: str, variant: Variant, answers: int | None, size: ModelSize | None) -> Piece:
    assert variant.recipe is not None
    spent = None
    if answers is not None and size is not None:
        spent = 2.0 * answers * variant.recipe.verify.generate.max_new_tokens * size.parameters / ANSWERING
    return Piece(what, "asked", answers, spent, 0)


def _rows_of(variant: Variant, cell: Cell) -> Any:
    """Everything that decides the rows of an arm, as far as it is known before they are chosen."""
    recipe = variant.recipe
    assert recipe is not None
    arm = next((arm for arm in recipe.verify.arms if arm.name == cell.arm), None)
    keep = recipe.verify.keep.model_dump() if recipe.verify.keep else None
    pool = recipe.pool.model_dump(), recipe.probes.model_dump(include={"harmful", "benign"}), keep, recipe.seed
    if cell.arm == NONE:
        return None
    if arm is not None and arm.data is not None:
        return pool, arm.data.model_dump()
    if cell.arm == FULL and recipe.select.data is None:
        return FULL, pool
    if cell.arm in (RANDOM, RANDOM_RECOVERY) and recipe.select.data is None and recipe.select.k is not None:
        openers = [recipe.augment.model_dump()] if cell.arm == RANDOM_RECOVERY else []
        return RANDOM, pool, recipe.select.k, cell.seed, *openers
    return cell.arm, cell.seed, variant.name


def _steps_of(variant: Variant, cell: Cell) -> Any:
    """Everything that decides the length of an arm's alignment; see `experiment.design`."""
    recipe = variant.recipe
    assert recipe is not None
    verify = recipe.verify
    if verify.exposure == "tokens" and cell.arm != CURATED:
        return variant.name
    if verify.align.steps is not None:
        return verify.align.steps
    if verify.exposure == "epochs":
        return "its own rows"
    return recipe.select.k if recipe.select.data is None and recipe.select.repeats is None else variant.name


def _cost(run_pieces: Sequence[Piece], seen: set[str]) -> Cost:
    new = [piece for piece in run_pieces if piece.what not in seen]
    seen.update(piece.what for piece in new)
    trained = [piece for piece in new if piece.kind == "trained"]
    spent = [piece.operations for piece in new]
    return Cost(
        trainings=len(trained),
        shared=sum(piece.kind == "trained" for piece in run_pieces) - len(trained),
        tokens=total([piece.tokens for piece in trained]),
        answers=total([piece.tokens for piece in new if piece.kind == "asked"]),
        hours=None if None in spent else sum(operations or 0.0 for operations in spent) / GPU / 3600,
        disk=total([piece.disk for piece in trained]),
    )


def _sum(first: Cost, second: Cost) -> Cost:
    def both(name: str) -> Any:
        left, right = getattr(first, name), getattr(second, name)
        return None if left is None or right is None else left + right

    return Cost(**{name: both(name) for name in vars(first)})


def _assumed(recipe: Recipe, run_pieces: Sequence[Piece], size: ModelSize | None) -> str:
    counted = all(piece.counted for piece in run_pieces)
    name = model_name(recipe.model.id)
    tokens = "an earlier run counted the tokens" if counted else "tokens are an upper limit (max_tokens per row)"
    if size is None:
        return f"{name}: {tokens}; hours and disk are unknown, because the model's size is not known on this machine."
    return f"{name}: {tokens}; {number(size.parameters)} parameters by {size.source}."
