"""Runs that repeat an experiment with other seeds, taken together: one difference over the seeds and probes of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydantic import BaseModel

from curator.decision.comparisons import anticipated, compare
from curator.errors import RunError
from curator.judge.stage import deciding_verdicts
from curator.recipe.sweep import mix_of
from curator.report.compare import judge_of, listed, report_of
from curator.report.part import Comparison, Part, Values
from curator.run import Run
from curator.wording import confidence, percent, points, reach, these

if TYPE_CHECKING:
    import polars as pl

    from curator.decision.tables import Grid

TREATMENT, CONTROL = "treatment", "control"
REPEATED = ("align", "finetune", "keep", "exposure", "rehearsal_share", "generate")
"""Settings of `verify` that runs of one experiment have in common."""


class Contrast(Part):
    """Harmfulness of the treatment minus that of the control, in one phase and on one task, or (null) on the mix of the
    anticipated tasks: in each run, and over the seeds and probes of all runs.
    """

    phase: str
    task: str | None
    each: tuple[Comparison, ...]
    together: Comparison


class Together(Part):
    """Runs of one experiment, and their differences; `treatments` and `controls` are their arms, run by run."""

    runs: tuple[str, ...]
    names: tuple[str, ...]
    treatments: tuple[str, ...]
    controls: tuple[str, ...]
    contrasts: tuple[Contrast, ...]


class Side(NamedTuple):
    """A finished run, the arm that is compared in it, its control, and whether the arm was named."""

    run: Run
    treatment: str
    control: str
    named: bool


def together(named: Sequence[str]) -> Together:
    """The differences of runs that repeat one experiment, by the verdicts that decide in each.

    Every seed of every run counts once, and so does every probe, whichever runs have it: the mean is over the pairs
    that were scored, and the interval is the report's, for crossed seeds and prompts (`decision.statistics.crossed`).
    It allows for runs that differ, as far as their seeds do.

    Args:
        named: Run folders, each with the arm to compare as `RUN:ARM`, else that of its primary comparison. The control
            is that of the primary comparison.

    Raises:
        RunError: Fewer than two runs, an arm that a run lacks, runs whose model, training, tasks or judge differ, or
            that hold the same models, which would count twice.
    """
    if len(named) < 2:
        raise RunError("compare: give at least two run folders, for example outputs/one outputs/two")
    sides = [_side(each) for each in named]
    _require_repeats(sides)
    _require_apart(sides)
    mix = anticipated(mix_of(sides[0].run.recipe))
    grids = {phase: [_grid([side], phase) for side in sides] for phase in ("before", "after")}
    cases: list[tuple[str, str | None]] = [("after", None), ("before", None)]
    shared = set.intersection(*({task for task in grid.tasks if task is not None} for grid in grids["after"]))
    if shared - mix.keys() or len(mix) > 1:
        cases[1:1] = [("after", task) for task in sorted(shared)]

    def compared(grid: Grid, side: tuple[str, str], task: str | None) -> Comparison:
        weights = mix if task is None else {task: 1.0}
        comparison = Comparison.model_validate(compare(grid, TREATMENT, CONTROL, weights, task=task))
        return comparison.model_copy(update={"treatment": side[0], "control": side[1]})

    whole = {phase: _grid(sides, phase) for phase in grids}
    return Together(
        runs=tuple(str(side.run.root) for side in sides),
        names=tuple(side.run.recipe.name for side in sides),
        treatments=tuple(side.treatment for side in sides),
        controls=tuple(side.control for side in sides),
        contrasts=tuple(
            Contrast(
                phase=phase,
                task=task,
                each=tuple(
                    compared(grid, (side.treatment, side.control), task)
                    for grid, side in zip(grids[phase], sides, strict=True)
                ),
                together=compared(whole[phase], (TREATMENT, CONTROL), task),
            )
            for phase, task in cases
        ),
    )


def table(found: Together) -> list[list[str]]:
    """The differences in words: a column for each run and one for all, each line with its label first."""
    first = found.contrasts[0].together
    lines = [
        ["run", *found.runs, "all"],
        ["arms", *(f"{one} - {other}" for one, other in zip(found.treatments, found.controls, strict=True)), ""],
    ]
    for contrast in found.contrasts:
        on = f" on {contrast.task}" if contrast.task else ""
        each = [*contrast.each, contrast.together]
        differences = (f"{points(one.difference)} {reach(one.low, one.high)}" for one in each)
        lines.append([f"{contrast.phase} fine-tuning{on}", *differences])
        if contrast.phase == "after" and contrast.task is None:
            rates = (f"{percent(one.treatment_rate)} and {percent(one.control_rate)}" for one in each)
            lines.append(["their rates", *rates])
            lines.append(["paired seeds", *(f"{one.seeds:,}" for one in each)])
            lines.append(["harmful probes", *(f"{one.prompts:,}" for one in each)])
    return [*lines, ["interval", *[confidence(first.level)] * (len(found.runs) + 1)]]


def sentence(found: Together) -> str:
    """All runs in one sentence, with what to mind."""
    whole = found.contrasts[0].together
    seeds, probes = these(whole.seeds, "paired seed", "paired seeds"), these(whole.prompts, "probe", "probes")
    return (
        f"Together: {points(whole.difference)} points {reach(whole.low, whole.high)} over {seeds} and {probes}. Give "
        "every run of this experiment: leaving some out because of their results makes the interval wrong."
    )


def _side(given: str) -> Side:
    """A run of the command line, with its arms."""
    folder, _, arm = given.rpartition(":")
    root, arm = (Path(folder), arm) if folder and not Path(given).exists() else (Path(given), "")
    report = report_of(root)
    primary = report.decision.primary
    named, arm = bool(arm), arm or primary.treatment
    if arm not in report.arms or arm == primary.control:
        arms = ", ".join(name for name in report.arms if name != primary.control)
        raise RunError(f"{root}: found the arm {arm!r} to compare with {primary.control}; allowed: {arms}")
    return Side(Run.open(root, "judge"), arm, primary.control, named)


def _grid(sides: Sequence[Side], phase: str) -> Grid:
    """Harmfulness of both arms in one phase, with the seeds of each run numbered after those of the runs before it."""
    import polars as pl

    from curator.decision.tables import grid_of

    parts: list[pl.DataFrame] = []
    start = 0
    for side in sides:
        rows = deciding_verdicts(side.run).filter(pl.col("arm").is_in([side.treatment, side.control]))
        arm = pl.when(arm=side.treatment).then(pl.lit(TREATMENT)).otherwise(pl.lit(CONTROL)).alias("arm")
        parts.append(rows.filter(kind="harmful", phase=phase).with_columns(arm, pl.col("seed") + start))
        start += 1 + int(rows["seed"].max() or 0)  # type: ignore[arg-type]
    return grid_of(pl.concat(parts), "harmfulness", phase, pl.Series("arm", [CONTROL, TREATMENT]))


def _require_apart(sides: Sequence[Side]) -> None:
    """Checks that no two runs hold the same model of an arm that is compared."""
    keys = [
        {
            model.key
            for (arm, _, task, _), model in side.run.models().items()
            if task and arm in (side.treatment, side.control)
        }
        for side in sides
    ]
    for (one, ours), (other, theirs) in combinations(zip(sides, keys, strict=True), 2):
        if same := len(ours & theirs):
            raise RunError(
                f"{one.run.root} and {other.run.root} hold {these(same, 'fine-tuned model', 'fine-tuned models')} in "
                "common, which would count twice; give runs whose recipes have different seeds (`seed`)"
            )


def _require_repeats(sides: Sequence[Side]) -> None:
    """Checks that the runs differ in nothing but seeds and probes, and in the choice of rows where an arm was named;
    every difference is named.
    """
    first, *others = sides
    chosen = not any(side.named for side in sides)
    ours, problems = _settings(first, chosen=chosen), []
    for side in others:
        theirs = _settings(side, chosen=chosen)
        for name in ours.keys() & theirs.keys():
            keys = [key for key in {**ours[name], **theirs[name]} if ours[name].get(key) != theirs[name].get(key)]
            mine, other = ({key: each[name].get(key, "none") for key in keys} for each in (ours, theirs))
            if keys:
                problems.append(f"{name}: {first.run.root} has {listed(mine)}, {side.run.root} has {listed(other)}")
    if problems:
        raise RunError(
            "these runs are not of one experiment:\n  "
            + "\n  ".join(problems)
            + "\nGive runs whose recipes differ in seeds and probes alone; an arm that is named, as RUN:ARM, may come "
            "from another choice of rows"
        )


def _settings(side: Side, *, chosen: bool) -> Mapping[str, Values]:
    """What runs of one experiment have in common, by its name in messages, with the choice of rows if `chosen`. A task
    that only one of them has is not compared.
    """
    run, report = side.run, report_of(side.run.root)
    verify = {name: getattr(run.recipe.verify, name) for name in REPEATED} | {"finetune": run.finetuning()}
    choice = {name: getattr(run.recipe, name) for name in ("select", "score", "represent")} if chosen else {}
    sections = {"pool": run.recipe.pool, **choice, **{f"verify.{name}": value for name, value in verify.items()}}
    return {
        "model": {"id": report.model.id, "revision": report.model.revision},
        "anticipated tasks and their weights": {**anticipated(mix_of(run.recipe))},
        "headline judge": judge_of(report.judges),
        **{
            f"task '{task.name}'": task.model_dump(mode="json", exclude={"test", "probe_at", "weight"})
            for task in run.recipe.tasks
        },
        **{
            name: value.model_dump(mode="json") if isinstance(value, BaseModel) else {"value": value}
            for name, value in sections.items()
        },
    }
