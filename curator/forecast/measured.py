"""Measurements of an earlier run in the recipe's run folder, as far as they still apply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.errors import RecipeError
from curator.experiment.plan import Tally
from curator.provenance import resolved_threads
from curator.recipe import Recipe, share
from curator.recipe.task import TaskSection
from curator.recipe.training import Training
from curator.run import current
from curator.run.readers import drawn_sets, pieces, recipe_file, report_file, role_files, traits_of

if TYPE_CHECKING:
    from curator.conclusions import Comparison

SPREAD = ("sd_seed", "sd_prompt", "sd_residual")
INSTRUCTION = "instruction"


@dataclass(frozen=True)
class Measured:
    """Figures of an earlier run; figures that are unknown for this recipe are missing or null.

    Attributes:
        tallies: By role: `pool`, `keep` and `arm <name>` as alignment reads them, `<part> <task>` as fine-tuning does,
            `instruction`; and `harmful`, `benign`, `pilot`, of which only the number of rows is meaningful.
        arms: (arm, seed) -> its alignment set, without the keep rows.
        align, finetune, instruct: Tokens per second of one training.
        answers: Answers per second of one process.
        spread: Spread of the paired difference: sd_seed, sd_prompt, sd_residual.
        gates: Gate -> the spread of its cost.
    """

    tallies: Mapping[str, Tally] = field(default_factory=dict)
    arms: Mapping[tuple[str, int], Tally] = field(default_factory=dict)
    align: float | None = None
    finetune: float | None = None
    instruct: float | None = None
    answers: float | None = None
    spread: Mapping[str, float] | None = None
    gates: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def estimated(self) -> bool:
        """Whether the tally of a role is an estimate, because no run has counted its tokens."""
        return any(not tally.counted for tally in self.tallies.values())


def measured(recipe: Recipe, root: Path) -> Measured:
    """The measurements of the run in `root` for this recipe: rows if it reads the same data, arms if it chooses in the
    same way, speeds if it trains or evaluates the same model in the same way, and the spread if model, tasks and
    training are the same.
    """
    former = former_of(root)
    if former is None or former.model != recipe.model:
        return Measured()
    ours, theirs = recipe.verify, former.verify
    # Another number of threads a process, or another kind of device, has another speed.
    same_engine = _engine(recipe) == _engine(former)
    same_data = _read(recipe) == _read(former)
    tallies, arms = _data(root, recipe, chosen=_chosen(recipe) == _chosen(former)) if same_data else ({}, {})
    tuned = _tuned(root) if (ours.align, recipe.seed) == (theirs.align, former.seed) else None
    if tuned is not None:
        tallies[INSTRUCTION] = _instructions(tuned, ours.align)
    same_training = all(
        (_tasks(recipe) == _tasks(former), ours.align == theirs.align, ours.finetune == theirs.finetune)
    )
    deciding = ours.decision.over == theirs.decision.over and ours.curve.primary == theirs.curve.primary
    # If methods are swept, the speed is an average over all of them.
    methods, former_methods = ([task.sweep and task.sweep.method for task in each.tasks] for each in (recipe, former))
    like = methods == former_methods and _alike(ours.finetune, theirs.finetune)
    spread, gates = _spreads(root) if same_training and deciding else (None, {})
    align = _speed(root, "before") if same_engine and _alike(ours.align, theirs.align) else None
    instruct = _per_second([tuned]) if tuned is not None and same_engine else None
    return Measured(
        tallies=tallies,
        arms=arms,
        # Both train in the same way, so one replaces the other if only one was done.
        align=align or instruct,
        instruct=instruct or align,
        finetune=_speed(root, "after") if same_engine and like else None,
        answers=_answers(root) if same_engine and ours.generate == theirs.generate else None,
        spread=spread,
        gates=gates,
    )


def _engine(recipe: Recipe) -> tuple[object, ...]:
    engine = recipe.engine
    return engine.kind, engine.gpus_per_worker, resolved_threads(engine)


def section_of(recipe: Recipe, role: str) -> Training:
    """The training that reads a role's rows."""
    aligned = role in ("pool", "keep") or role.startswith("arm ")
    return recipe.verify.arm_training if aligned else recipe.verify.finetune


def kinds_noted(recipe: Recipe, root: Path) -> tuple[str, ...]:
    """Remarks of a run in `root` with the same choice of rows on arms whose rows are of another kind than the pool's;
    empty without such a run.
    """
    former = former_of(root)
    alike = former is not None and (_read(recipe), _chosen(recipe)) == (_read(former), _chosen(former))
    if former is None or former.model != recipe.model or not alike or current(root, "select") is None:
        return ()
    import polars as pl

    from curator.selection.composition import refusals, remarks

    traits = traits_of(root)
    if traits is None:
        return ()
    drawn = drawn_sets(root).filter(pl.col("arm").is_in([arm.name for arm in recipe.verify.arms]))
    sentences = remarks(refusals(traits, drawn), composable=recipe.select.may_compose("refusal"))
    return tuple(f"select: in {root}, {sentence}" for sentence in sentences)


def former_of(root: Path) -> Recipe | None:
    """The recipe of the run in `root`; null if there is none, or it is of another version of curator."""
    from curator.recipe.file import read

    try:
        return read(recipe_file(root), whole=False) if recipe_file(root).exists() else None
    except RecipeError:  # written by another version of curator, and not comparable
        return None


def _read(recipe: Recipe) -> Any:
    """Everything that decides the rows of every role."""
    verify = recipe.verify
    given = [arm.data for arm in verify.arms if arm.data is not None]
    return (
        recipe.pool, _tasks(recipe, sweep=None), recipe.probes.harmful, recipe.probes.benign, verify.keep, given,
        recipe.select.data,
        share(recipe), recipe.seed,
    )  # fmt: skip


def _tasks(recipe: Recipe, **changes: None) -> list[TaskSection]:
    """The tasks without the points at which checkpoints are evaluated, which decide neither rows nor trainings."""
    return [task.model_copy(update={"probe_at": None, **changes}) for task in recipe.tasks]


def _chosen(recipe: Recipe) -> object:
    """Everything that decides the arms' rows among those that were read. With a pilot this includes all that it trains,
    evaluates and judges; the number of seeds does not change sets.
    """
    if not recipe.select.piloted:
        return recipe.representations, recipe.score, recipe.select
    verify = recipe.verify.model_copy(update={"arms": [], "seeds": 1, "forgetting": None, "control": "random"})
    return recipe.representations, recipe.score, recipe.select, verify, recipe.judges


def _alike(first: Training, second: Training) -> bool:
    """Whether a token takes the same time in both trainings."""
    names = ("method", "rank", "micro_batch", "max_tokens", "checkpointing", "processes")
    return all(getattr(first, name) == getattr(second, name) for name in names)


def _data(root: Path, recipe: Recipe, *, chosen: bool) -> tuple[dict[str, Tally], dict[tuple[str, int], Tally]]:
    """The tallies by role and, if rows were `chosen` as by this recipe, of every arm and seed."""
    if current(root, "pool") is None:
        return {}, {}
    import polars as pl

    from curator.run.files import load_columns

    # A run of an earlier version has its pool in another file, and its arms cannot be counted.
    verify, files = recipe.verify, {role: file for role, file in role_files(root).items() if file.exists()}
    tallies = {
        role: Tally.of(load_columns(file, "tokens")["tokens"], section_of(recipe, role)) for role, file in files.items()
    }
    if not chosen or "pool" not in files or current(root, "select") is None:
        return tallies, {}
    given = [role for role in files if role.startswith("arm ")]
    lengths = pl.concat([load_columns(files[role], "id", "tokens") for role in ("pool", *given)]).unique("id")
    drawn = drawn_sets(root).join(lengths, on="id", how="left")
    arms = {
        (str(arm), int(seed)): Tally.of(part["tokens"], verify.arm_training)
        for (arm, seed), part in drawn.group_by("arm", "seed")
    }
    return tallies, arms


def _tuned(root: Path) -> dict[str, Any] | None:
    done = current(root, "base")
    return done["record"].get("trained") if done is not None else None


def _instructions(trained: Mapping[str, Any], section: Training) -> Tally:
    """The instruction rows, as counted by their training, because their tokens are not counted earlier."""
    kept, seen = trained["rows"], section.rows_seen(trained["rows"], trained["steps"])
    return Tally(kept + trained["dropped"], kept, kept * trained["tokens"] / seen)


def _speed(root: Path, phase: str) -> float | None:
    stages = ("train", "pilot/train", "bank/train", "regime/train")
    return _per_second([piece["record"] for stage in stages for piece in pieces(root, stage, phase)])


def _per_second(trained: Sequence[Mapping[str, Any]]) -> float | None:
    seconds = sum(training["seconds"] for training in trained)
    return sum(training["tokens"] for training in trained) / seconds if seconds else None


def _answers(root: Path) -> float | None:
    stages, phases = ("answer", "regime/answer", "pilot/answer", "bank/answer"), ("before", "after")
    evaluated = [piece for stage in stages for phase in phases for piece in pieces(root, stage, phase)]
    seconds = sum(done["seconds"] for done in evaluated)
    return sum(done["record"]["answers"] for done in evaluated) / seconds if seconds else None


def _spreads(root: Path) -> tuple[dict[str, float] | None, dict[str, dict[str, float]]]:
    """The spreads of the primary comparison, and of the cost of each gate that compares the same arms."""
    if current(root, "report") is None:  # there is none, or it belongs to an earlier recipe
        return None, {}
    from curator.decision.decide import GATES
    from curator.report.model import read_report

    report = read_report(report_file(root))
    primary = report.decision.primary
    gates = {}
    for pair in report.comparisons:
        same = (pair.treatment, pair.control, pair.task) == (primary.treatment, primary.control, None)
        for name, what in GATES.items():
            spread = _spread(pair)
            if same and pair.role != "primary" and (pair.quantity, pair.phase) == what and spread is not None:
                gates[name] = spread
    return _spread(primary), gates


def _spread(pair: Comparison) -> dict[str, float] | None:
    spread = {name: getattr(pair, name) for name in SPREAD if getattr(pair, name) is not None}
    return spread if len(spread) == len(SPREAD) else None
