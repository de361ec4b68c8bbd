"""The trainings and evaluations of a recipe, piece by piece, before anything is read: the rows and tokens of each
training, and the number of answers. Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar

from curator.experiment.plan import (
    Candidate,
    Cell,
    Plan,
    Tally,
    bank_grid,
    candidates,
    confirmed,
    regime_grid,
    rehearsed_rows,
    rows_by_part,
    seeds_of,
    setting_name,
    steps_by_exposure,
)
from curator.experiment.plan import grid as plan_of
from curator.forecast.measured import INSTRUCTION, Measured
from curator.recipe import Recipe, share
from curator.recipe.source import Source
from curator.recipe.sweep import TaskSetting, name_at, settings_by_name, settings_of
from curator.recipe.task import TaskSection
from curator.recipe.training import Training
from curator.recipe.verify import CURATED, NONE, REPEATED
from curator.sandbox import NAMES
from curator.wording import these

FULL = "full"


class Load(NamedTuple):
    """The rows and tokens of one training, over all its steps.

    Attributes:
        cell: The model that it makes; null for instruction tuning.
        rows, tokens: Null if unknown.
        counted: Whether the tokens of its rows were counted; otherwise they are at most `max_tokens` per row.
    """

    cell: Cell | None
    section: Training
    rows: int | None
    tokens: int | None
    counted: bool = False


def trainings(recipe: Recipe, grid: Plan, known: Measured) -> list[Load]:
    """The trainings of a grid, in its order: every alignment, then every fine-tuning."""
    verify = recipe.verify
    keep = Tally(0, 0, 0.0)
    if verify.keep is not None:
        keep = known.tallies.get("keep") or Tally.at_most(verify.keep.rows, verify.align)
    reference = _plus(arm_rows(recipe, Cell(CURATED, 0), known), keep)
    aligned = []
    for cell in grid.aligned:
        rows = _plus(arm_rows(recipe, cell, known), keep)
        aligned.append(_load(cell, verify.align, rows, _alignment_steps(recipe, rows, reference)))
    tasks, swept = {task.name: task for task in recipe.tasks}, settings_by_name(recipe)
    finetuned = [
        # The search for the regime passes a recipe that has the setting.
        _finetuning(recipe, cell, tasks[cell.task or ""], swept.get(cell.tuned or "", TaskSetting()), known)
        for cell in grid.finetuned
    ]
    return aligned + finetuned


def instruction_tuning(recipe: Recipe, known: Measured) -> Load | None:
    """The tuning of the base on instructions; null if the recipe has none."""
    section, align = recipe.model.instruction, recipe.verify.align
    if section is None:
        return None
    rows = known.tallies.get(INSTRUCTION) or Tally.at_most(section.rows, align)
    return _load(None, align, rows, align.steps_over(rows.rows))


def pilot_grid(recipe: Recipe) -> Plan:
    """The models of the pilot, or of a bank's confirmation, each candidate with all its seeds; empty without either."""
    if not recipe.select.piloted:
        return Plan((), ())
    seeds = seeds_of(_compared(recipe), recipe.verify.pilot.seeds)
    return plan_of(seeds, [task.name for task in recipe.tasks if task.anticipated], stage=recipe.verify.stage)


def pilot_trainings(recipe: Recipe, known: Measured) -> list[Load]:
    """The trainings of the pilot. The winning set represents all optimised ones, since only the models of the others
    are kept.
    """
    arms, curated = dict(known.arms), arm_rows(recipe, Cell(CURATED, 0), known)
    if curated is not None:
        arms |= {(candidate.name, 0): curated for candidate in _compared(recipe) if not candidate.drawn}
    return trainings(recipe, pilot_grid(recipe), replace(known, arms=arms))


def _compared(recipe: Recipe) -> Sequence[Candidate]:
    pilot = recipe.verify.pilot
    return (
        confirmed(pilot.bank) if recipe.select.by else candidates(pilot, len(recipe.representations), recipe.covering)
    )


def bank_plan(recipe: Recipe) -> Plan:
    """The models of the bank; empty without a bank."""
    if recipe.select.by != "bank":
        return Plan((), ())
    return bank_grid(recipe.verify, recipe.verify.pilot.bank.mix(recipe.weights()))


def regime_plan(recipe: Recipe) -> Plan:
    """The models of the search for the regime; empty without such a search."""
    return regime_grid(recipe.verify, [task.name for task in recipe.tasks if task.anticipated])


def regime_trainings(recipe: Recipe, known: Measured) -> list[Load]:
    """The trainings of the search for the regime: the control's alignments, then every setting's fine-tunings."""
    grid, verify = regime_plan(recipe), recipe.verify
    loads = trainings(recipe, replace(grid, finetuned=()), known)
    for section in verify.regime.settings(verify.finetune) if verify.regime else ():
        cells = tuple(cell for cell in grid.finetuned if cell.setting == setting_name(section))
        tried = recipe.model_copy(update={"verify": verify.model_copy(update={"finetune": section})})
        loads += trainings(tried, replace(grid, aligned=(), finetuned=cells), known)
    return loads


def arm_rows(recipe: Recipe, cell: Cell, known: Measured) -> Tally | None:
    """The alignment set of an arm or of a candidate of the pilot; null if its size is unknown.

    Another seed of the arm replaces one that an earlier run did not draw, and the mean row of the pool replaces rows
    that have not been chosen yet.
    """
    drawn = known.arms.get((cell.arm, cell.seed)) or next(
        (tally for (arm, _), tally in known.arms.items() if arm == cell.arm), None
    )
    if drawn is not None:
        return drawn
    section, pool = recipe.verify.arm_training, known.tallies.get("pool")
    given = next((arm.data for arm in recipe.verify.arms if arm.name == cell.arm), None)
    if given is not None:
        return known.tallies.get(f"arm {cell.arm}") or _at_most(source_rows([given]), section)
    if cell.arm == FULL and recipe.select.data is None:
        # Before the pool is read: as many rows as its sources may have.
        return pool or _at_most(source_rows(recipe.pool.sources), section)
    size = recipe.select.k if recipe.select.data is None else source_rows([recipe.select.data])
    if size is None and (CURATED, 0) in known.arms:
        size = known.arms[CURATED, 0].rows
    if size is not None and recipe.select.repeats is not None and cell.arm in REPEATED:
        size *= max(recipe.select.repeats.groups.values())  # an upper limit, since the chosen groups are unknown
    return _at_most(size, section) if size is None or pool is None else pool.sample(size)


def finetuning_steps(recipe: Recipe, task: TaskSection, setting: TaskSetting, known: Measured) -> int | None:
    """Optimiser steps of each fine-tuning on a task at a setting; null if its rows are unknown."""
    verify, section = recipe.verify, setting.training(recipe.verify.finetune)
    rows = _setting_rows(task, setting, section, known)
    if rows is None:
        return section.steps
    rehearsed = rehearsed_rows(rows.rows, verify.rehearsal_share) if verify.stage == "rehearsal" else 0
    return section.steps_over(rows.rows + rehearsed)


def unrehearsed(recipe: Recipe) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """A warning if rehearsed fine-tunings take fewer rows of a set than it has, by the key."""
    verify, k = recipe.verify, recipe.select.k
    if verify.stage != "rehearsal" or k is None:
        return
    counts = {}
    for task in recipe.tasks:
        for setting in settings_of(recipe, task):
            rows = _setting_rows(task, setting, setting.training(verify.finetune), Measured())
            if rows is not None:
                counts[name_at(task.name, setting.name)] = rehearsed_rows(rows.rows, verify.rehearsal_share)
    few = {name: count for name, count in counts.items() if count < k}
    if few:
        listed = ", ".join(f"{count:,} on {name!r}" for name, count in few.items())
        yield (
            ("verify", "rehearsal_share"),
            f"fine-tuning mixes in only the first of the {these(k, 'row', 'rows')} of a set ({listed}), so the others "
            "do not count; raise rehearsal_share, fine-tune on more rows, or lower select.k",
        )


def _finetuning(recipe: Recipe, cell: Cell, task: TaskSection, setting: TaskSetting, known: Measured) -> Load:
    verify, section = recipe.verify, setting.training(recipe.verify.finetune)
    rows, steps = _setting_rows(task, setting, section, known), finetuning_steps(recipe, task, setting, known)
    if rows is not None and verify.stage == "rehearsal" and cell.arm != NONE:
        rehearsed = rehearsed_rows(rows.rows, verify.rehearsal_share)
        arm = arm_rows(recipe, cell, known)
        rows += Tally.at_most(rehearsed, section) if arm is None else arm.sample(rehearsed)
    return _load(cell, section, rows, steps)


def _setting_rows(task: TaskSection, setting: TaskSetting, section: Training, known: Measured) -> Tally | None:
    rows = _task_rows(task, section, known)
    if rows is None or setting.rows is None:
        return rows
    return rows.sample(sum(rows_by_part(task, setting.rows).values()))


def _task_rows(task: TaskSection, section: Training, known: Measured) -> Tally | None:
    """The rows that every arm is fine-tuned on: those of the task, of an attack and of a defence."""
    parts = [known.tallies.get(f"{part} {task.name}") for part in ("train", "regime", "defence")]
    counted = [part for part in parts if part is not None]
    if counted:
        return sum(counted[1:], counted[0])
    if task.rows is None:
        return None
    return Tally.at_most(sum(rows_by_part(task, task.rows).values()), section)


def _alignment_steps(recipe: Recipe, rows: Tally | None, reference: Tally | None) -> int | None:
    section, exposure = recipe.verify.align, recipe.verify.exposure
    if rows is not None and reference is not None:
        return steps_by_exposure(section, exposure, rows, reference)
    if exposure == "epochs":
        return None if rows is None else section.steps_over(rows.rows)
    return section.steps if reference is None else section.steps_over(reference.rows)


def _load(cell: Cell | None, section: Training, rows: Tally | None, steps: int | None) -> Load:
    if steps is None:
        return Load(cell, section, None, None)
    if rows is None:  # whole batches, because the ends of epochs are unknown
        return Load(cell, section, steps * section.batch, steps * section.batch * section.max_tokens)
    seen = section.rows_seen(rows.kept, steps)
    return Load(cell, section, seen, round(seen * rows.mean), rows.counted)


def _plus(rows: Tally | None, more: Tally) -> Tally | None:
    return None if rows is None else rows + more


def _at_most(rows: int | None, section: Training) -> Tally | None:
    return None if rows is None else Tally.at_most(rows, section)


Number = TypeVar("Number", int, float)


def total(parts: Iterable[Number | None]) -> Number | None:
    """The sum; null if a part is unknown."""
    values = list(parts)
    return None if None in values else sum(part for part in values if part is not None)


def source_rows(sources: Iterable[Source]) -> int | None:
    """Number of rows of sources; null if it is unknown without reading a user's file or contacting the Hub."""
    return total(map(_rows_of, sources))


def _rows_of(source: Source) -> int | None:
    if source.rows is not None or source.sandbox not in NAMES or source.where:
        return source.rows
    from curator.sandbox import rows

    return len(rows(source.sandbox))


def prompts(recipe: Recipe, kind: str, known: Measured) -> int | None:
    """Probes of a kind: `harmful`, `benign`, or `pilot`, the harmful ones kept for the pilot and the regime; null if
    unknown.
    """
    if kind in known.tallies:
        return known.tallies[kind].rows
    count = source_rows(recipe.probes.benign if kind == "benign" else recipe.probes.harmful)
    if count is None or kind == "benign":
        return count
    kept = round((share(recipe) or 0.0) * count)
    return kept if kind == "pilot" else count - kept


def answers_of(recipe: Recipe, cells: Iterable[Cell], known: Measured) -> int | None:
    """Number of answers of the grid's models; null if the number of probes is unknown.

    Harmful probes are evaluated once more for each length of a prefilled opening, and all probes as often as the recipe
    says; test rows once.
    """
    harmful, benign = (prompts(recipe, kind, known) for kind in ("harmful", "benign"))
    if harmful is None or benign is None:
        return None
    probes = (harmful * (1 + len(recipe.probes.depths)) + benign) * recipe.verify.generate.samples
    tests: Mapping[str, int] = {task.name: task.test.rows for task in recipe.tasks}
    return sum(probes + (sum(tests.values()) if cell.task is None else tests[cell.task]) for cell in cells)


def pilot_answers(recipe: Recipe, grid: Plan, known: Measured) -> int | None:
    """Number of answers of the models of the pilot or of the search for the regime, to the probes reserved for both;
    null if the number of probes is unknown.
    """
    probes = prompts(recipe, "pilot", known)
    return None if probes is None else probes * len(grid.asked) * recipe.verify.generate.samples
