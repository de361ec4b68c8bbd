"""What a suite will train, share and cost on a GPU, before anything is read or trained. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from curator.check.estimate import ANSWERING, GPU, kept_bytes, operations
from curator.check.measured import Measured, measured
from curator.check.workload import (
    FULL,
    Load,
    answers_of,
    instruction_tuning,
    pilot_answers,
    pilot_grid,
    pilot_trainings,
    total,
    trainings,
)
from curator.experiment.plan import BASE, Cell, plan
from curator.model.size import ModelSize, model_size
from curator.recipe import Recipe
from curator.recipe.verify import CURATED, NONE, RANDOM
from curator.run.folder import key_of
from curator.suite.run import standing
from curator.suite.variants import Variant
from curator.wording import number


class Piece(NamedTuple):
    """A training, or one model asked: what decides it (equal pieces are made once), its tokens, its operations, and
    the bytes that it leaves; null where they cannot be known. `counted`: whether the tokens were counted.
    """

    what: str
    kind: str
    tokens: int | None
    operations: float | None
    disk: int | None
    counted: bool = True


@dataclass(frozen=True)
class Cost:
    """What a run makes itself, and what it takes from runs before it. Hours are of one GPU that sustains GPU FLOP/s.

    Tokens are at most `max_tokens` a row, unless an earlier run of the same data has counted them.
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
        root: The suite's folder, whose finished runs are known and whose counted tokens are used.
    """
    seen: set[str] = set()
    runs, whole = [], Cost()
    parts: dict[str, Cost] = {}
    assumed: dict[str, None] = {}
    for variant in variants:
        found = {"name": variant.name, "status": standing(variant, root).status, "problem": variant.problem}
        if variant.recipe is not None:
            known = measured(variant.recipe, root / variant.name)
            size = model_size(variant.recipe.model.id, variant.recipe.model.revision)
            made = list(pieces(variant, known, size))
            cost = _cost(made, seen)
            whole = _sum(whole, cost)
            parts[variant.source] = _sum(parts.get(variant.source, Cost()), cost)
            found |= vars(cost)
            assumed[_assumed(variant.recipe, made, size)] = None
        runs.append(found)
    problems = [f"{one.name}: {one.problem}" for one in variants if one.problem is not None]
    recipes = {source: vars(cost) for source, cost in parts.items()}
    return {"runs": runs, "recipes": recipes, "total": vars(whole), "notes": [*problems, *assumed, _NOTE]}


_NOTE = (
    f"Hours are of one 80 GB GPU that sustains {GPU / 1e12:g} TFLOP/s in training and a tenth of it in answering, an "
    "assumption; what represents rows and what judges answers comes on top. 'shared' counts trainings that another run "
    "of the suite makes, as long as no task holds a prompt of the pool. All is what a suite makes from nothing."
)


def table(found: Mapping[str, Any]) -> list[list[str]]:
    """The plan in words: names of the columns, a line a run, a line a recipe where there are several, and all."""

    def line(name: str, cost: Mapping[str, Any]) -> list[str]:
        disk = None if cost["disk"] is None else cost["disk"] / 2**30
        figures = (cost["trainings"], cost["shared"], cost["tokens"], cost["answers"], cost["hours"], disk)
        return [name, *map(_short, figures)]

    lines = [["run", "trained", "shared", "tokens", "answers", "GPU hours", "GiB"]]
    for one in found["runs"]:
        done = "" if one["status"] == "waiting" else f" ({one['status']})"
        lines.append(line(one["name"] + done, one) if one["problem"] is None else [one["name"] + done, *[""] * 6])
    recipes = found["recipes"] if len(found["recipes"]) > 1 else {}
    lines += [line(f"all of {source}", cost) for source, cost in recipes.items()]
    return [*lines, line("all", found["total"])]


def _short(value: float | None) -> str:
    """A figure in few characters: `5.99 M`."""
    if value is None:
        return "unknown"
    if 0 < value < 0.1:
        return "<0.1"
    for size, unit in ((1e9, " G"), (1e6, " M")):
        if value >= size:
            return f"{value / size:,.3g}{unit}"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.2g}"


def pieces(variant: Variant, known: Measured, size: ModelSize | None) -> Iterator[Piece]:
    """Everything that a run trains and asks. `what` names the place of a piece in the run folder and all that decides
    it; what depends on the chosen rows belongs to this run alone.
    """
    r = variant.recipe
    assert r is not None
    v = r.verify
    grid = plan(v, [task.name for task in r.tasks])
    start = key_of("base", r.model.model_dump(), (v.align.model_dump(), r.seed) if r.model.instruction else None)
    tuning = instruction_tuning(r, known)
    if tuning is not None:
        yield _training(key_of(start, "instruction"), tuning, size)
    yield from _pilot(variant, known, size)
    made = dict.fromkeys((BASE, *grid.unaligned), start)
    tasks = {task.name: task for task in r.tasks}
    for load in trainings(r, grid, known):
        cell = load.cell
        assert cell is not None
        if cell.task is None:
            made[cell] = key_of(start, _rows_of(variant, cell), _steps_of(variant, cell), v.align.model_dump(), r.seed)
        else:
            rehearsed = (_rows_of(variant, cell), v.rehearsal_share) if grid.rehearsal else None
            facts = tasks[cell.task].model_dump(exclude={"weight", "anticipated", "metric"})
            before = made[Cell(cell.arm, cell.seed)]
            made[cell] = key_of(before, facts, v.finetune.model_dump(), r.seed, rehearsed)
        yield _training(key_of(made[cell], cell.folder), load, size)
    for cell in grid.asked:
        asked = [tasks[name].model_dump() for name in tasks if cell.task in (None, name)]
        what = key_of("asked", cell.folder, made[cell], asked, r.probes.model_dump(), v.generate.model_dump())
        yield _answering(what, variant, answers_of(r, [cell], known), size)


def _pilot(variant: Variant, known: Measured, size: ModelSize | None) -> Iterator[Piece]:
    """What the pilot trains and asks, which no other run shares: its sets are this run's own."""
    r = variant.recipe
    assert r is not None
    for load in pilot_trainings(r, known):
        yield _training(key_of("pilot", variant.name, load.cell), load, size)
    if pilot_grid(r).asked:
        yield _answering(key_of("pilot", variant.name), variant, pilot_answers(r, known), size)


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
    """What decides the rows of an arm, as far as that is known before they are chosen."""
    r = variant.recipe
    assert r is not None
    own = next((arm for arm in r.verify.arms if arm.name == cell.arm), None)
    pool = (r.pool.model_dump(), r.probes.model_dump(), r.verify.keep.model_dump() if r.verify.keep else None, r.seed)
    if cell.arm == NONE:
        return None
    if own is not None and own.data is not None:
        return pool, own.data.model_dump()
    if cell.arm == FULL and r.select.data is None:
        return FULL, pool
    if cell.arm == RANDOM and r.select.data is None and r.select.k is not None:
        return RANDOM, pool, r.select.k, cell.seed
    return cell.arm, cell.seed, variant.name


def _steps_of(variant: Variant, cell: Cell) -> Any:
    """What decides how long an arm is aligned: see `experiment.design`."""
    r = variant.recipe
    assert r is not None
    v = r.verify
    if v.exposure == "tokens" and cell.arm != CURATED:
        return variant.name
    if v.align.steps is not None:
        return v.align.steps
    if v.exposure == "epochs":
        return "its own rows"
    return r.select.k if r.select.data is None else variant.name


def _cost(found: Sequence[Piece], seen: set[str]) -> Cost:
    new = [one for one in found if one.what not in seen]
    seen.update(one.what for one in new)
    trained = [one for one in new if one.kind == "trained"]
    spent = [one.operations for one in new]
    return Cost(
        trainings=len(trained),
        shared=sum(one.kind == "trained" for one in found) - len(trained),
        tokens=total([one.tokens for one in trained]),
        answers=total([one.tokens for one in new if one.kind == "asked"]),
        hours=None if None in spent else sum(one or 0.0 for one in spent) / GPU / 3600,
        disk=total([one.disk for one in trained]),
    )


def _sum(first: Cost, second: Cost) -> Cost:
    def both(name: str) -> Any:
        one, other = getattr(first, name), getattr(second, name)
        return None if one is None or other is None else one + other

    return Cost(**{name: both(name) for name in vars(first)})


def _assumed(recipe: Recipe, made: Sequence[Piece], size: ModelSize | None) -> str:
    counted = all(piece.counted for piece in made)
    tokens = "tokens as counted by an earlier run" if counted else "tokens at most: max_tokens a row"
    if size is None:
        return f"{recipe.model.id}: {tokens}; its size is not known on this machine, so neither are hours and disk."
    return f"{recipe.model.id}: {tokens}; {number(size.parameters)} parameters by {size.source}."
