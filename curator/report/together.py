"""Runs that repeat an experiment with other seeds, taken together: one difference over the seeds and probes of all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import special

from curator.conclusions import Comparison
from curator.conclusions.part import Number, Part, Phase, Values
from curator.decision.comparisons import anticipated, compare, differences
from curator.decision.statistics import crossed
from curator.errors import RunError
from curator.judge.stage import deciding_verdicts
from curator.recipe.sweep import mix_of
from curator.recipe.verify import RANDOM, Looks
from curator.report.compare import judge_of, listed, report_of
from curator.run import Run
from curator.wording import confidence, percent, points, probability, reach, these

if TYPE_CHECKING:
    import polars as pl
    from pydantic import BaseModel, JsonValue

    from curator.decision.tables import Grid
    from curator.report.model import Report

TREATMENT, CONTROL = "treatment", "control"
ROUNDING = 1e-18
"""Variances of differences of shares below this are rounding."""


class Contrast(Part):
    """Harmfulness of the treatment minus that of the control, in one phase and on one task, or (null) on the mix of the
    anticipated tasks: in each run, and over the seeds and probes of all runs.
    """

    phase: str
    task: str | None
    each: tuple[Comparison, ...]
    together: Comparison
    differ_p: Number
    """The p-value of Welch's test (1951), for runs that differ no more than their own seeds and probes do; null if the
    difference of one has no variance.
    """


class Together(Part):
    """Runs of one experiment, and their differences; `treatments` and `controls` are their arms, run by run."""

    runs: tuple[str, ...]
    names: tuple[str, ...]
    treatments: tuple[str, ...]
    control: str
    contrasts: tuple[Contrast, ...]


class Side(NamedTuple):
    """A finished run, its report, the arm that is compared in it, its control, and whether the arm was named."""

    run: Run
    report: Report
    treatment: str
    control: str
    named: bool


def together(named: Sequence[str]) -> Together:
    """The differences of runs that repeat one experiment, by the verdicts that decide in each.

    Every seed of every run counts once, and so does every probe, whichever runs have it: the mean is over the pairs
    that were scored, and the interval is the one of a single run, for crossed seeds and prompts
    (`decision.statistics.crossed`). It is about new seeds and probes. What the seeds of a run share, such as the task
    rows that its `seed` drew, varies between runs alone, of which a few say little; Welch's test says whether they
    differ more than their seeds and probes explain.

    Args:
        named: Run folders, each with the arm to compare as `RUN:ARM`, else that of its primary comparison. The control
            is that of the primary comparison.

    Raises:
        RunError: Fewer than two runs; an arm that a run lacks; a run that decided over looks, an area or the worst
            task, whose interval is another; runs whose model, training, tasks, judge or control differ; or runs of one
            `seed`, which hold the same models.
    """
    if len(named) < 2:
        raise RunError("compare: give at least two run folders, for example outputs/one outputs/two")
    sides = [_side(each) for each in named]
    _require_repeats(sides)
    mix = anticipated(mix_of(sides[0].run.recipe))
    grids = {phase: [_grid([side], phase) for side in sides] for phase in ("before", "after")}
    cases: list[tuple[Phase, str | None]] = [("after", None), ("before", None)]
    shared = set.intersection(*({task for task in grid.tasks if task is not None} for grid in grids["after"]))
    if shared - mix.keys() or len(mix) > 1:
        cases[1:1] = [("after", task) for task in sorted(shared)]
    contrasts = []
    for phase, task in cases:
        weights = mix if task is None else {task: 1.0}
        each = [_compared(grid, weights, task, side) for grid, side in zip(grids[phase], sides, strict=True)]
        whole = _compared(_grid(sides, phase), weights, task)
        # Pairs that no run has are not left out of the whole.
        whole = whole.model_copy(update={"unscored": sum(one.unscored for one in each)})
        p = _differ(grids[phase], weights)
        contrasts.append(Contrast(phase=phase, task=task, each=tuple(each), together=whole, differ_p=p))
    return Together(
        runs=tuple(str(side.run.root) for side in sides),
        names=tuple(side.run.recipe.name for side in sides),
        treatments=tuple(side.treatment for side in sides),
        control=sides[0].control,
        contrasts=tuple(contrasts),
    )


def _compared(grid: Grid, weights: Mapping[str, float], task: str | None, side: Side | None = None) -> Comparison:
    comparison = compare(grid, TREATMENT, CONTROL, weights, task=task)
    names = {} if side is None else {"treatment": side.treatment, "control": side.control}
    return comparison.model_copy(update=names)


def _differ(grids: Sequence[Grid], weights: Mapping[str, float]) -> float | None:
    """The p-value of Welch's test for these runs; null if the difference of one has no variance.

    Cochran's Q, which takes variances as known, calls runs of three seeds different in 12% of cases where 5% is meant.
    """
    estimates = [crossed(*differences(grid, TREATMENT, CONTROL, weights)) for grid in grids]
    known = [(each.mean, each.variance, each.df) for each in estimates if each.mean is not None and each.variance]
    if len(known) < len(grids) or min(variance for _, variance, _ in known) < ROUNDING:
        return None
    means, variances, df = (np.array(column) for column in zip(*known, strict=True))
    precisions, k = 1 / variances, len(grids)
    mean = float(precisions @ means / precisions.sum())
    spread = float(((1 - precisions / precisions.sum()) ** 2 / df).sum())
    ratio = float(precisions @ (means - mean) ** 2) / (k - 1) / (1 + 2 * (k - 2) / (k**2 - 1) * spread)
    return float(special.fdtrc(k - 1, (k**2 - 1) / (3 * spread), ratio))


def table(found: Together) -> list[list[str]]:
    """The differences in words: a column for each run and one for all, each line with its label first."""
    first = found.contrasts[0].together
    lines = [
        ["run", *found.runs, "all"],
        ["arms", *(f"{treatment} - {found.control}" for treatment in found.treatments), ""],
    ]
    for contrast in found.contrasts:
        on = f" on {contrast.task}" if contrast.task else ""
        each = [*contrast.each, contrast.together]
        shown = (f"{points(one.difference)} {reach(one.low, one.high)}" for one in each)
        lines.append([f"{contrast.phase} fine-tuning{on}", *shown])
        if contrast is found.contrasts[0]:
            rates = (f"{percent(one.treatment_rate)} and {percent(one.control_rate)}" for one in each)
            lines.append(["their rates", *rates])
            lines.append(["paired seeds", *(f"{one.seeds:,}" for one in each)])
            lines.append(["harmful probes", *(f"{one.prompts:,}" for one in each)])
    return [*lines, ["interval", *[confidence(first.level)] * (len(found.runs) + 1)]]


def sentence(found: Together) -> str:
    """All runs in a few sentences, with what to mind."""
    whole, p = found.contrasts[0].together, found.contrasts[0].differ_p
    seeds, probes = these(whole.seeds, "paired seed", "paired seeds"), these(whole.prompts, "probe", "probes")
    spread = "" if p is None else f" (Welch's test: p {probability(p)} if they differ by seeds and probes alone)"
    return (
        f"Together: {points(whole.difference)} points {reach(whole.low, whole.high)} over {seeds} and {probes}. The "
        f"interval is about new seeds and probes, not about new task rows, which each run draws once{spread}. Give "
        "every run of this experiment: where runs were left out or added because of results, the interval is wrong."
    )


def _side(given: str) -> Side:
    """A run of the command line, with its arms."""
    folder, _, arm = given.rpartition(":")
    root, arm = (Path(folder), arm) if folder and not Path(given).exists() else (Path(given), "")
    report, run = report_of(root), Run.open(root, "judge")
    primary, verify = report.decision.primary, run.recipe.verify
    sequential, area = isinstance(verify.seeds, Looks), verify.curve.primary == "area"
    if sequential or area or verify.decision.over == "worst":
        over = "looks (`verify.seeds`)" if sequential else "an area (`verify.curve`)" if area else "the worst task"
        raise RunError(
            f"{root}: decided over {over}, whose interval is another; give runs with a fixed number of seeds that "
            "decide over the mean of the anticipated tasks at the end of fine-tuning"
        )
    named, arm = bool(arm), arm or primary.treatment
    if arm not in report.arms or arm == primary.control:
        arms = ", ".join(name for name in report.arms if name != primary.control)
        raise RunError(f"{root}: found the arm {arm!r} to compare with {primary.control}; allowed: {arms}")
    return Side(run, report, arm, primary.control, named)


def _grid(sides: Sequence[Side], phase: Phase) -> Grid:
    """Harmfulness of both arms in one phase, with the seeds of each run numbered after those of the runs before it."""
    import polars as pl

    from curator.decision.tables import grid_of

    parts: list[pl.DataFrame] = []
    start = 0
    for side in sides:
        rows = deciding_verdicts(side.run).filter(pl.col("arm").is_in([side.treatment, side.control]))
        arm = pl.when(arm=side.treatment).then(pl.lit(TREATMENT)).otherwise(pl.lit(CONTROL)).alias("arm")
        parts.append(rows.filter(kind="harmful", phase=phase).with_columns(arm, pl.col("seed") + start))
        start += side.run.recipe.verify.most_seeds
    return grid_of(pl.concat(parts), "harmfulness", phase, pl.Series("arm", [CONTROL, TREATMENT]))


def _require_repeats(sides: Sequence[Side]) -> None:
    """Checks that the runs differ in nothing but seeds and probes, and in the choice of rows where an arm was named;
    every difference is named.
    """
    # Other controls than random sets follow the choice.
    chosen = [side for side in sides if not side.named or side.control != RANDOM]
    problems = _unlike(sides, _settings) + _unlike(chosen, _choice)
    if problems:
        raise RunError(
            "these runs are not of one experiment:\n  "
            + "\n  ".join(problems)
            + "\nGive runs whose recipes differ in seeds and probes alone; an arm that is named, as RUN:ARM, may come "
            "from another choice of rows"
        )
    for first, second in combinations([side.run for side in sides], 2):
        if first.recipe.seed == second.recipe.seed:
            raise RunError(
                f"{first.root} and {second.root} have one seed, {first.recipe.seed}, hence equal models, which "
                "would count twice; give runs whose recipes differ in `seed`"
            )


def _unlike(sides: Sequence[Side], settings: Callable[[Side], Mapping[str, Values]]) -> list[str]:
    """Sentences on the settings in which a run differs from the first; a task that only one has is not compared."""
    sentences = []
    for other in sides[1:]:
        ours, theirs = settings(sides[0]), settings(other)
        for name in (name for name in ours if name in theirs):
            mine, others = dict(_leaves(ours[name])), dict(_leaves(theirs[name]))
            unlike = [key for key in {**mine, **others} if mine.get(key) != others.get(key)]
            if unlike:
                first, second = (
                    listed({key: "none" if each.get(key) is None else each[key] for key in unlike})
                    for each in (mine, others)
                )
                sentences.append(f"{name}: {sides[0].run.root} has {first}, {other.run.root} has {second}")
    return sentences


def _leaves(value: JsonValue, path: str = "") -> Iterator[tuple[str, JsonValue]]:
    """Every setting below this one with its path, as in `--set`."""
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in below:
        yield from _leaves(each, f"{path}.{name}" if path else str(name))
    if not isinstance(value, dict | list):
        yield path, value


_DECIDES_NOTHING = {"save_steps", "checkpointing", "processes"}
_TRAINS = {"stage", "exposure", "rehearsal_share"}
_SIZED = {"k", "budget_tokens", "exclude"}
_COUNTED = {"file", "label", "read", "kept", "dropped", "unused", "kinds"}


def _settings(side: Side) -> Mapping[str, Values]:
    """What runs of one experiment have in common, by its name in messages."""
    run, report = side.run, side.report
    recipe, verify, data = run.recipe, run.recipe.verify, _contents(run)
    sized = _SIZED if verify.align.epochs is None else {*_SIZED, "repeats"}
    augment = {"augment": recipe.augment.model_dump(mode="json")} if "+" in side.treatment else {}
    return {
        "model": {**recipe.model.model_dump(mode="json"), "revision": report.model.revision},
        "pool": {**_plain(recipe.pool), **data.get("pool", {})},
        "drawn sets": recipe.select.model_dump(mode="json", include=sized),
        "control": {"arm": side.control},
        "anticipated tasks and their weights": {**anticipated(mix_of(recipe))},
        **{
            f"task '{task.name}'": {
                **{name: value for name, value in _plain(task).items() if name not in {"test", "probe_at", "weight"}},
                **data.get(f"task {task.name}", {}),
            }
            for task in recipe.tasks
        },
        "headline judge": judge_of(report.judges),
        "verify": verify.model_dump(mode="json", include=_TRAINS),
        "verify.keep": {"rows": verify.keep and verify.keep.rows, **data.get("keep", {})},
        "verify.align": verify.align.model_dump(mode="json", exclude=_DECIDES_NOTHING),
        "verify.finetune": run.finetuning().model_dump(mode="json", exclude=_DECIDES_NOTHING),
        "verify.generate": verify.generate.model_dump(mode="json", exclude={"batch", "python", "memory"}),
        **augment,
    }


def _plain(section: BaseModel) -> Values:
    """A section of a recipe without paths: what the files hold is compared, wherever they lie."""

    def without(value: JsonValue) -> JsonValue:
        if isinstance(value, dict):
            return {name: without(each) for name, each in value.items() if name != "file"}
        return [without(each) for each in value] if isinstance(value, list) else value

    return {name: without(value) for name, value in section.model_dump(mode="json").items()}


def _contents(run: Run) -> dict[str, Values]:
    """Role -> what identifies the contents of its sources: hashes, versions and revisions, with the columns read."""
    return {
        role: {
            f"source {number}": {name: value for name, value in source.items() if name not in _COUNTED}
            for number, source in enumerate(read["sources"], start=1)
        }
        for role, read in run.record("pool")["resolved"].items()
    }


def _choice(side: Side) -> Mapping[str, Values]:
    """What chooses the curated set."""
    recipe = side.run.recipe
    names = {"select", "score", "represent"}
    dumped = recipe.model_dump(mode="json", include=names)
    sections = {name: value if isinstance(value, dict) else {"sections": value} for name, value in dumped.items()}
    pilot = {"verify.pilot": recipe.verify.pilot.model_dump(mode="json")} if recipe.select.piloted else {}
    return {**sections, **pilot}
