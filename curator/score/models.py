"""Scores computed with models: how likely an answer is under the base, and how alignment and fine-tuning change that.

All of them except `own-distribution` and `metagradient` are cross-fitted: a row is scored by models that were aligned
on the other half of the pool (`score.halves`). Written with theta_0 the base, theta_a a model aligned on a half,
theta_f(t, c) checkpoint c of fine-tuning it on task t, and l_i the mean loss of row i's answer in nats a token (of its
first 16 tokens, by default):

- `own-distribution`: -l_i(theta_0). Large: the base model itself would give such an answer.
- `depth`: the share of the KL divergence between theta_a and theta_0 that lies beyond the fifth answer token, in [0, 1]
  (`score.depth`). Large: alignment changes the whole answer, not only its beginning.
- `forgetting`: for each task the mean over checkpoints (the end among them) and seeds of max(0, l_i(theta_f(t, c)) -
  l_i(theta_a)). Large: fine-tuning makes the model forget the answer, so the row is vulnerable.
- `geometry`: for each task the mean over linear layers m and seeds of cos(-g_im, A_m) - cos(-g_im, T_m), in [-2, 2],
  with g_im the gradient of l_i (of the whole answer) at theta_a, A = theta_a - theta_0 and T = theta_f(t, end) -
  theta_a (`score.geometry`). Large: the row pulls the weights as alignment did, and not as the task does.
  SQSD (arXiv 2605.04572) reads such pulls at a checkpoint where safety is lost fastest; here it is the aligned model.

- `metagradient`: for each task d/dw_i of the pilot probes' mean log P(complying) - log P(refusing) after fine-tuning,
  with w_i the weight of row i in alignment (`score.metagradient`). Large: models comply more if the row counts more.

A positive lambda (`select.weight`) avoids rows of a large score, a negative one prefers them: rows that are vulnerable,
deep, likely or geometrically safe are preferred by a negative weight. A task that is not anticipated is not trained on;
its score is the anticipated tasks' weighted mean, which is also what selection uses.

Letters: `n` rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curator.errors import ModelError
from curator.keys.pieces import measures_key
from curator.model.load import load_config, window_of
from curator.model.losses import too_long
from curator.recipe.halves import alignments_of, scores_of_models
from curator.recipe.score import KINDS, Score, name_of
from curator.records import Scores
from curator.run.files import load_row_values
from curator.run.folder import key_of
from curator.run.readers import role_files
from curator.score.halves import PARTS, Half, HalfModels, Workshop, halved
from curator.score.passes import BASE, Course, PassJob, run_pass
from curator.seeds import derive
from curator.train import PRELOAD
from curator.train.job import Count, Rows, Weights, executed, texts_of

if TYPE_CHECKING:
    import polars as pl

    from curator.run import Run

Column = NDArray[np.float64]


class Question(NamedTuple):
    """The model jobs behind a score, and the function that gives its value for every row by task once they are done."""

    jobs: Sequence[PassJob]
    read: Callable[[], Mapping[str, Column]]


def of_models(run: Run, folder: Path, *, k: int) -> dict[str, Scores]:
    """Every score of models that the recipe asks for, by name; models and their results are pieces below `folder`.

    Args:
        k: Number of rows to select.

    Raises:
        DataError: The pool is too small for the halves that the recipe asks for, or see `require_trials`.
        ModelError: A row is longer than the model has positions for, a metagradient cannot be taken of the model, or a
            training or the computation of losses fails.
        RecipeError: See `require_trials`.
    """
    from curator.engine import runner

    recipe, sections, progress = run.recipe, scores_of_models(run.recipe), run.progress_of("scores")
    if not sections:
        return {}
    pool, mass, alignments = run.data().pool.rows, recipe.weights(), alignments_of(recipe)
    _require_room(run, pool)
    ids = tuple(pool["id"])
    halves = {each.rows: halved(ids, each, k=k, seed=recipe.seed) for each in alignments}
    execute = runner(recipe.engine, preload=PRELOAD, folder=run.root, gpus=recipe.verify.processes)
    tasks = sum(weight > 0 for weight in mass.values())
    trainings = sum(len(halves[each.rows]) * (1 + each.tuned * tasks) for each in alignments)
    workshop = Workshop(run, folder.absolute(), execute, Count(progress, trainings))
    if any(part.kind == "metagradient" for part in sections):
        _require_trials(workshop, pool)
    models = {each.rows: workshop.train(halves[each.rows], tuned=each.tuned) for each in alignments}
    passes = Passes(workshop, ids)
    questions = [
        QUESTIONS[part.kind](part, passes, [each for each in models.get(part.rows, []) if each.half.seed < part.seeds])
        for part in sections
    ]
    jobs = {job.folder: job for question in questions for job in question.jobs}
    count = Count(progress, len(jobs))
    count.begin(jobs.values())
    for finished in executed(run_pass, list(jobs.values()), execute, mix=recipe.engine.mix):
        count.tick(finished)
    return {
        name_of(part): _scores(part, ids, question.read(), mass)
        for part, question in zip(sections, questions, strict=True)
    }


def _require_room(run: Run, pool: pl.DataFrame) -> None:
    """Refuses rows that the model has no positions for before any model is trained on a half.

    Raises:
        ModelError: There is one.
    """
    base = run.record("base")
    window, longest = window_of(load_config(base["tokenizer"], revision=base["revision"])), pool["tokens"].max()
    if isinstance(longest, int) and longest > window:
        raise ModelError(too_long(longest, window))


def _require_trials(workshop: Workshop, pool: pl.DataFrame) -> None:
    """Refuses metagradients that cannot be taken before any model is trained on a half; see `require_trials`."""
    from curator.score.metagradient import require_trials

    common = workshop.common
    config = load_config(common.tokenizer, revision=common.tokenizer_revision)
    require_trials(list(_courses(workshop).values()), pool["messages"].to_list(), config, common.load_tokenizer())


@dataclass(frozen=True)
class Passes:
    """Makes the jobs that evaluate models on rows of the pool, and reads their results.

    Attributes:
        workshop: The run's workshop. `ids`: ids of the `n` rows of the pool.
    """

    workshop: Workshop
    ids: tuple[str, ...]

    def job(
        self,
        measure: str,
        what: str,
        weights: Weights,
        half: Half | None,
        *,
        others: Sequence[tuple[str, Weights]] = (),
        course: Course | None = None,
    ) -> PassJob:
        """The job that evaluates a half's model on the rows it scores, or, without a half, the base model on all rows.

        Args:
            measure: A name in `passes.MEASURES`.
            what: Which of the half's models it is, for the folder.
            others: Models that are evaluated beside it, by name.
            course: The trainings of a metagradient.
        """
        common, recipe = self.workshop.common, self.workshop.run.recipe
        rows = Rows(self.pool, self.ids if half is None else half.scored)
        batch_tokens = recipe.representations[0].batch_tokens
        keys = [weights.key, *(other.key for _, other in others)]
        keys += [key_of(*course.facts())] if course else []
        return PassJob(
            root=common.root,
            folder=self.workshop.place(f"{measure}/{what}", half),
            key=measures_key(measure, keys, common.chat_template, texts_of(rows), batch_tokens),
            weights=weights,
            tokenizer=common.tokenizer,
            tokenizer_revision=common.tokenizer_revision,
            chat_template=common.chat_template,
            shelf=common.shelf,
            rows=rows,
            batch_tokens=batch_tokens,
            measure=measure,
            others=tuple(others),
            course=course,
        )

    @cached_property
    def pool(self) -> str:
        """The file of the pool's rows."""
        return str(role_files(self.workshop.common.root)["pool"])

    @cached_property
    def position(self) -> Mapping[str, int]:
        """The position of each row among `ids`."""
        return {row_id: number for number, row_id in enumerate(self.ids)}

    def said(self, job: PassJob, name: str) -> Column:
        """A column of a finished job's results, `(m,)` in the order of its rows."""
        return load_row_values(job.root / job.folder)[name].to_numpy()

    def over_halves(self, models: Sequence[HalfModels], value: Callable[[HalfModels], Column]) -> Column:
        """`(n,)` each row's value by the models of the half that does not hold it, the mean over seeds.

        Args:
            value: Gives the values of the rows that a half's models score, in their order.
        """
        total, times = np.zeros(len(self.ids)), np.zeros(len(self.ids))
        for each in models:
            rows = [self.position[row_id] for row_id in each.half.scored]
            total[rows] += value(each)
            times[rows] += 1
        return np.asarray(total / times, dtype=np.float64)


def _own_distribution(section: Score, passes: Passes, _models: Sequence[HalfModels]) -> Question:
    job = passes.job("losses", "base", passes.workshop.common.weights, None)
    return Question([job], lambda: {"": -passes.said(job, section.loss)})


def _depth(_section: Score, passes: Passes, models: Sequence[HalfModels]) -> Question:
    base = passes.workshop.common.weights
    jobs = {
        each.half: passes.job("depth", "aligned", each.aligned, each.half, others=[(BASE, base)]) for each in models
    }
    return Question(
        list(jobs.values()),
        lambda: {"": passes.over_halves(models, lambda each: passes.said(jobs[each.half], "depth"))},
    )


def _forgetting(section: Score, passes: Passes, models: Sequence[HalfModels]) -> Question:
    before = {each.half: passes.job("losses", "aligned", each.aligned, each.half) for each in models}
    after = {
        (each.half, task): [
            passes.job("losses", f"{task}-{number}", weights, each.half) for number, weights in enumerate(left)
        ]
        for each in models
        for task, left in each.tuned.items()
    }

    def risen(each: HalfModels, task: str) -> Column:
        start = passes.said(before[each.half], section.loss)
        ends = [passes.said(job, section.loss) for job in after[each.half, task]]
        return np.asarray(np.mean([np.maximum(0.0, end - start) for end in ends], axis=0), dtype=np.float64)

    return Question(
        [*before.values(), *(job for jobs in after.values() for job in jobs)],
        lambda: {task: passes.over_halves(models, partial(risen, task=task)) for task in models[0].tuned},
    )


def _geometry(_section: Score, passes: Passes, models: Sequence[HalfModels]) -> Question:
    base = passes.workshop.common.weights
    jobs = {
        each.half: passes.job(
            "pulls", "aligned", each.aligned, each.half,
            others=[(BASE, base), *((task, left[-1]) for task, left in each.tuned.items())],
        )
        for each in models
    }  # fmt: skip

    def apart(each: HalfModels, task: str) -> Column:
        return passes.said(jobs[each.half], BASE) - passes.said(jobs[each.half], task)

    return Question(
        list(jobs.values()),
        lambda: {task: passes.over_halves(models, partial(apart, task=task)) for task in models[0].tuned},
    )


def _metagradient(_section: Score, passes: Passes, _models: Sequence[HalfModels]) -> Question:
    # A job for each task: that of a finished task is kept if another is interrupted.
    jobs = {
        task: passes.job("metagradient", task, passes.workshop.common.weights, None, course=course)
        for task, course in _courses(passes.workshop).items()
    }
    return Question(list(jobs.values()), lambda: {task: passes.said(job, task) for task, job in jobs.items()})


def _courses(workshop: Workshop) -> dict[str, Course]:
    """The trainings of the metagradient of each anticipated task, by its name."""
    recipe = workshop.run.recipe
    odds = recipe.verify.log_odds
    assert odds is not None  # a recipe without it is refused
    return {
        task.name: Course(
            align=recipe.verify.align,
            finetune=recipe.verify.finetune,
            keep=workshop.rows_of("keep"),
            tasks=((task.name, workshop.rows_of(*(f"{part} {task.name}" for part in PARTS))),),
            probes=workshop.rows_of("pilot"),
            refuse=tuple(odds.refuse),
            comply=tuple(odds.comply),
            seed=derive(recipe.seed, "scores", "metagradient"),
        )
        for task in recipe.tasks
        if task.anticipated
    }


QUESTIONS: dict[str, Callable[[Score, Passes, Sequence[HalfModels]], Question]] = {
    "own-distribution": _own_distribution,
    "depth": _depth,
    "forgetting": _forgetting,
    "geometry": _geometry,
    "metagradient": _metagradient,
}
"""The question of each kind of score. Values are by anticipated task; a score that depends on no task has the name
""."""

RANGES = {"own-distribution": (-math.inf, 0.0), "depth": (0.0, 1.0), "forgetting": (0.0, math.inf)}
RANGES |= {"geometry": (-2.0, 2.0), "metagradient": (-math.inf, math.inf)}


def _scores(section: Score, ids: tuple[str, ...], by_task: Mapping[str, Column], mass: Mapping[str, float]) -> Scores:
    combined = by_task.get("")
    if combined is None:
        combined = np.sum([mass[task] * values for task, values in sorted(by_task.items())], axis=0)
    low, high = RANGES[section.kind]
    settings = {name: getattr(section, name) for name in KINDS[section.kind].reads}
    return Scores(
        ids=ids,
        name=name_of(section),
        combined=combined,
        tasks={task: by_task.get(task, combined) for task in mass},
        nearest={},
        low=low,
        high=high,
        parameters={**settings, **({"halves": 2} if KINDS[section.kind].aligns else {}), "weights": dict(mass)},
    )
