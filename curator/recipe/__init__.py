"""The schema of recipes: the sections of the file as frozen models, with all defaults.

A room takes its own section or plain arguments; only stages, keys, audit and cli use a whole `Recipe`.
`curator.recipe.file` reads files, applies `--set` and reports mistakes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, SerializerFunctionWrapHandler, Tag, model_serializer, model_validator

from curator.recipe.augment import Augment
from curator.recipe.halves import require_models
from curator.recipe.judge import Judges
from curator.recipe.model import Instruction as Instruction
from curator.recipe.model import Model as Model
from curator.recipe.pool import Embedder, PoolSection
from curator.recipe.probes import Probes
from curator.recipe.refusals import require_refusals
from curator.recipe.represent import Represent, Representations, number_of, require_distinct
from curator.recipe.score import Score, parts_of
from curator.recipe.select import OBJECTIVES, Select
from curator.recipe.source import Count, Name, Section, require_all, sources_of_other_rows
from curator.recipe.sweep import require_sense
from curator.recipe.task import TaskSection as TaskSection
from curator.recipe.unverified import JUDGES, PROBES, VERIFY, lacking, refuse_unverifiable
from curator.recipe.verify import BEST_RANDOM, RANDOM_CAPPED, RECOVERY, Pilot, Verify

FORMER_DRAWS = 2
"""The default of `verify.pilot.random_draws` before it followed the number of candidates."""


class Publish(Section):
    """What the data set folder holds beside the curated rows."""

    controls: bool = False
    """Add the sets that the curated set was compared with."""


class Engine(Section):
    """Where the work runs. It changes results by rounding alone: by `threads`, by vectors that another run has kept,
    and by the device that `kind` and `gpus_per_worker` choose, with its `model.dtype: auto`.
    """

    kind: Literal["local", "ray"] = "local"
    """`local` runs processes on this machine; `ray` spreads them over a cluster."""
    workers: Count = 1
    """Number of processes that work at the same time."""
    threads: Count | None = None
    """Threads of each process; null divides this machine's cores by `workers`."""
    cache: Annotated[
        Annotated[bool, Tag("@switch")] | Annotated[str, Field(min_length=1), Tag("@folder")],
        Discriminator(lambda value: "@switch" if isinstance(value, bool) else "@folder"),
    ] = True
    """Where vectors are kept by content, so that other runs find them: a folder, `.vectors` beside the run folder
    (true), or nowhere (false).
    """
    address: Annotated[str, Field(pattern=r"^(auto|(ray://)?[^/:\s]+:\d{1,5})$")] | None = None
    """The Ray cluster: `auto`, `HOST:PORT` of its head, or `ray://HOST:PORT`. Null starts one on this machine and stops
    it at the end.
    """
    gpus_per_worker: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.0
    """GPUs of each worker on a cluster; with 0 it computes on the CPU."""
    retries: Annotated[int, Field(ge=0, le=1000)] = 3
    """How often a piece is made again after its worker or node has died."""
    mix: bool = False
    """Go on with a grid whose pieces were computed on other devices, in other dtypes or by other library versions.
    Without it such a run stops and names the pieces that differ.
    """
    report_to: Literal["trackio", "wandb", "mlflow"] | None = None
    """An experiment tracker that receives losses and learning rates of every training, and the final figures of every
    arm. It receives no prompt and no answer.
    """

    @model_validator(mode="after")
    def _ray(self) -> Engine:
        settings = {name: Engine.model_fields[name].default for name in ("address", "gpus_per_worker", "retries")}
        given = [name for name, default in settings.items() if getattr(self, name) != default]
        if self.kind == "local" and given:
            raise ValueError(
                f"{given[0]} has no effect: only kind: ray reads it, and the kind is local; add kind: ray, or remove it"
            )
        if self.gpus_per_worker > 1.0 and not self.gpus_per_worker.is_integer():
            raise ValueError(f"gpus_per_worker: found {self.gpus_per_worker:g}; allowed: at most 1, or a whole number")
        return self


class Suite(Section):
    """How `curator suite` turns this recipe into several runs: one for each size and each task, that task alone with
    weight 1. No other command reads it.
    """

    k: Annotated[list[Count], Field(min_length=1)]
    """Sizes of the sets, each in place of `select.k`."""
    each: Literal["task"] = "task"
    """What gets a run of its own beside each size."""

    @model_validator(mode="after")
    def _distinct(self) -> Suite:
        self.refuse_repeated("k")
        return self


class Recipe(Section):
    """One experiment, from a pool to a verified data set.

    Without `probes`, `verify` and `judges` rows can be chosen, and the choice cannot be verified.
    """

    name: Name
    """Name of the experiment; the run folder is `outputs/NAME`."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Every stage derives its own random seed from this one."""
    model: Model
    pool: PoolSection
    tasks: Annotated[list[TaskSection], Field(min_length=1)]
    """What users are expected to fine-tune on. Similarity is measured against the anticipated tasks."""
    probes: Probes = PROBES
    represent: Representations = Represent()
    """What turns rows into vectors: one way, or a list of several."""
    score: Score = Score()
    select: Select
    verify: Verify = VERIFY
    augment: Augment = Augment()
    judges: Judges = JUDGES
    publish: Publish = Publish()
    engine: Engine = Engine()
    suite: Suite | None = None

    @model_validator(mode="after")
    def _agree(self) -> Recipe:
        require_all(
            self._names,
            partial(refuse_unverifiable, self),
            self._refuse_whole_weights,
            partial(require_sense, self),
            partial(require_models, self),
            partial(require_refusals, self),
            self._room_for_processes,
            self._refuse_unread,
            self._refuse_unpiloted,
            self._refuse_uncapped,
            self._refuse_unlearned,
            self._refuse_unweighted,
            self._vectors_by_name,
        )
        return self

    def _names(self) -> None:
        names = [task.name for task in self.tasks]
        if "anticipated" in names:
            raise ValueError("tasks: the name 'anticipated' is reserved for the weighted mix of tasks; choose another")
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"tasks: duplicate name {name!r}; give each task its own")
        if not any(task.anticipated for task in self.tasks):
            raise ValueError("tasks: no task is anticipated; similarity needs at least one with anticipated: true")
        require_distinct(self.representations)

    def _refuse_unpiloted(self) -> None:
        piloted = self.select.piloted and (self.select.by == "bank" or self.verify.pilot.random_draws != 0)
        if any(arm.name == BEST_RANDOM for arm in self.verify.arms) and not piloted:
            raise ValueError(
                f"verify: arm {BEST_RANDOM!r} is the best of the pilot's random draws; set select.weight to auto and "
                "verify.pilot.random_draws to 1 or more, or select.by to bank, or remove the arm"
            )

    def _refuse_uncapped(self) -> None:
        capped = self.select.answers is not None and self.select.answers.shares
        if any(arm.name == RANDOM_CAPPED for arm in self.verify.arms) and not capped:
            raise ValueError(
                f"verify: arm {RANDOM_CAPPED!r} is a random set within the caps of select.answers, which the recipe "
                "does not set; add select.answers, or remove the arm"
            )

    def _refuse_unlearned(self) -> None:
        section = self.verify.log_odds
        if section is None or section.kind != "pilot":
            return
        if not self.select.piloted:
            raise ValueError(
                "verify: log_odds learns its openers from the answers of the pilot, and there is no pilot when "
                "select.weight is a number; set select.weight to auto, or give log_odds the texts refuse and comply"
            )
        if self.select.by is None and max(self.verify.pilot.tries(len(self.representations))) == 1:
            raise ValueError(
                "verify: log_odds learns its openers from the answers of the pilot, which trains nothing for a single "
                "candidate; add to pilot.weights, or give log_odds the texts refuse and comply"
            )

    def _refuse_unweighted(self) -> None:
        objective = self.select.objective
        if not OBJECTIVES[objective].row_weights and set(self.pool.weights().values()) != {1.0}:
            raise ValueError(
                f"pool: sources have weights, which objective {objective!r} cannot use; remove weight, or choose "
                "another objective"
            )
        try:
            self.select.refuse_uneven(self.pool.weights().values())
        except ValueError as error:
            raise ValueError(f"select: {error}") from error
        if len(self.representations) < 2 and any(part.kind == "consensus" for part in every_part(self)):
            raise ValueError(
                "score: consensus needs several representations, and represent has one; give represent a list, or use "
                "another score"
            )

    def _vectors_by_name(self) -> None:
        """The keys that name a representation."""
        parts = [("score: by", part.by) for part in every_part(self)]
        named = [("select: cover_by", self.select.cover_by), *parts]
        for key, name in named:
            if name is not None and len(self.representations) == 1:
                raise ValueError(
                    f"{key} has no effect: it chooses among several representations, and there is one; remove it"
                )
            if name is not None:
                try:
                    number_of(name, self.representations)
                except ValueError as error:
                    raise ValueError(f"{key} {error}") from error
        if self.select.weight == "auto" and self.select.cover_by and self.verify.pilot.represent == "every":
            raise ValueError(
                "select: cover_by names one representation, and verify.pilot.represent 'every' tries all of them for "
                "coverage; remove one of the two keys"
            )

    def _refuse_unread(self) -> None:
        """Refuses settings that have no effect because of another section."""
        require_all(
            self._of_the_pilot,
            self._of_the_hub,
            self._of_the_tasks,
            self._of_curves,
            self._of_other_rows,
            self._of_recovery,
            self._of_rehearsals,
        )

    def _of_the_pilot(self) -> None:
        pilot = self.verify.pilot
        if self.select.by == "bank":
            reason = "only select.weight: auto reads it, and candidates of select.by: bank come from its trials"
            names = set(Pilot.model_fields) - {"scores", "seeds", "share_of_probes", "bank"}
            pilot.refuse_unread(*sorted(names), reason=reason, prefix="verify: pilot.")
            self._of_the_bank()
        else:
            pilot.refuse_unread("bank", reason="only select.by: bank reads it", prefix="verify: pilot.")
            self._without_a_bank()
        if self.select.piloted and self.verify.regime is not None:
            chosen = "select.by: bank" if self.select.by == "bank" else "select.weight: auto"
            reason = f"with {chosen} verify.pilot.share_of_probes is used instead"
            self.verify.regime.refuse_unread("share_of_probes", reason=reason, prefix="verify: regime.")

    def _without_a_bank(self) -> None:
        pilot = self.verify.pilot
        if self.select.weight != "auto":
            found = "the weight is a number" if self.select.coverage is None else "select.coverage finds the weight"
            reason = f"only select.weight: auto reads it, and {found}"
            # Run folders of earlier versions hold every resolved value, and this was the default then.
            read = {"random_draws"} if pilot.random_draws == FORMER_DRAWS else set()
            names = (name for name in Pilot.model_fields if name not in {*read, "bank"})
            pilot.refuse_unread(*names, reason=reason, prefix="verify: pilot.")
        elif len(self.representations) == 1:
            reason = "it chooses among several representations, and there is one"
            pilot.refuse_unread("represent", reason=reason, prefix="verify: pilot.")

    def _of_the_bank(self) -> None:
        bank, known = self.verify.pilot.bank, [task.name for task in self.tasks if task.anticipated]
        unknown = [name for name in bank.tasks if name not in known] if bank.tasks != "all" else []
        if unknown:
            raise ValueError(
                f"verify: pilot.bank.tasks names {unknown[0]!r}, which is not an anticipated task; allowed: all, or a "
                f"list of {', '.join(known)}"
            )

    def _of_the_hub(self) -> None:
        if self.model.id == "sandbox:":
            self.model.refuse_unread("revision", reason="only a model on the Hub has revisions", prefix="model: ")

    def _of_the_tasks(self) -> None:
        for task in self.tasks:
            if not task.anticipated:
                task.refuse_unread(
                    "weight",
                    reason=f"only anticipated tasks have a weight, and {task.name!r} is not one",
                    prefix="tasks: ",
                )

    def _of_curves(self) -> None:
        curve = self.verify.curve
        if not any(task.checkpoints for task in self.tasks):
            reason = "only tasks with probe_at have a curve, and none has it"
            curve.refuse_unread("level", "primary", reason=reason, prefix="verify: curve.")
        missing = [task.name for task in self.tasks if task.anticipated and not task.checkpoints]
        if curve.primary == "area" and missing:
            raise ValueError(
                f"verify: curve.primary is 'area', and task {missing[0]!r} has no curve; set its probe_at, for example "
                "to [0.1, 0.25, 0.5, 1.0], or set curve.primary to end"
            )
        if curve.primary == "area" and self.suite is not None:
            raise ValueError(
                "verify: curve.primary is 'area', and a suite compares runs by harmfulness after fine-tuning; set "
                "curve.primary to end, or remove suite"
            )

    def _of_recovery(self) -> None:
        arms = [arm.name for arm in self.verify.arms if arm.name in RECOVERY]
        if self.augment.recovery is None and arms:
            raise ValueError(
                f"verify: arm {arms[0]!r} needs an opener before each refusal, and augment.recovery is not set; add "
                "`augment: {recovery: {}}` for the built-in openers, or remove the arm"
            )
        if not arms:
            reason = f"only the arms {' and '.join(RECOVERY)} read it, and verify.arms has neither"
            self.augment.refuse_unread("recovery", reason=reason, prefix="augment: ")

    def _of_rehearsals(self) -> None:
        if self.select.repeats is not None:
            self.select.repeats.require_passes(self.verify.stage)
        if self.select.by == "bank" and self.verify.stage == "rehearsal":
            reason = "which trains on the first rows of a set, and select.by: bank learns from whole sets"
            raise ValueError(f"verify: stage is 'rehearsal', {reason}; set stage to upstream, or remove by")

    def _of_other_rows(self) -> None:
        for where, source in sources_of_other_rows(self):
            reason = "only sources of the pool have a weight"
            source.refuse_unread("weight", reason=reason, prefix=f"{where}.")

    def _refuse_whole_weights(self) -> None:
        """Refuses settings that do not work with 4-bit weights."""
        if self.model.quantise is None:
            return
        for name in ("align", "finetune"):
            if getattr(self.verify, name).method == "full":
                raise ValueError(
                    f"verify: {name}.method is 'full', and a model with model.quantise trains adapters only; set it to "
                    "lora"
                )
        scores = (self.score, *self.verify.pilot.scores)
        if any(part.kind == "interference" for score in scores for part in parts_of(score)):
            raise ValueError(
                "score: interference needs gradients of all weights, which model.quantise rules out; use another score"
            )
        if self.verify.forgetting is not None and self.verify.forgetting.interference:
            raise ValueError(
                "verify: forgetting.interference needs gradients of all weights, which model.quantise rules out; set "
                "it to false"
            )
        if self.verify.generate.engine == "vllm":
            raise ValueError("verify: generate.engine is 'vllm', which does not read quantised weights; remove it")

    def _room_for_processes(self) -> None:
        """Refuses a training in several processes that the model or the engine does not support."""
        gpus = self.engine.gpus_per_worker
        for name in ("align", "finetune"):
            processes = getattr(self.verify, name).processes
            if processes > 1 and self.model.quantise is not None:
                raise ValueError(
                    f"verify: {name}.processes is {processes}, and a model with model.quantise trains in one process; "
                    "set it to 1"
                )
            if processes > 1 and 0 < gpus < processes:
                raise ValueError(
                    f"engine: gpus_per_worker is {gpus:g}, and verify.{name}.processes is {processes} with one GPU "
                    f"each; set gpus_per_worker to {processes}, or lower processes"
                )

    @model_serializer(mode="wrap")
    def _given(self, dump: SerializerFunctionWrapHandler) -> dict[str, object]:
        """The settings without the placeholders of missing sections."""
        return {name: value for name, value in dump(self).items() if name not in self.lacks}

    @property
    def lacks(self) -> tuple[str, ...]:
        """The missing sections without which the chosen rows cannot be verified."""
        return lacking(self.model_fields_set)

    @property
    def representations(self) -> tuple[Represent, ...]:
        """The representations, which turn rows into vectors; see `covering` and `score.by` for their uses."""
        return tuple(self.represent) if isinstance(self.represent, list) else (self.represent,)

    @property
    def covering(self) -> int:
        """The number of the representation that coverage is computed in."""
        name = self.select.cover_by
        return 0 if name is None else number_of(name, self.representations)

    def weights(self) -> dict[str, float]:
        """Task mass p_t by name: weights of anticipated tasks scaled to sum 1, 0 for the others."""
        total = sum(task.weight for task in self.tasks if task.anticipated)
        return {task.name: task.weight / total if task.anticipated else 0.0 for task in self.tasks}


def scores_of(recipe: Recipe) -> Sequence[Score]:
    """The scores that the pilot or the bank compares and stage `scores` computes; empty if none are listed."""
    return recipe.verify.pilot.scores if recipe.select.piloted else ()


def every_part(recipe: Recipe) -> list[Score]:
    """The scores that the recipe selects by or its pilot compares, with the parts of a rank sum in place of the sum."""
    return [part for score in (recipe.score, *scores_of(recipe)) for part in parts_of(score)]


def embedders_of(recipe: Recipe) -> list[Embedder]:
    """The embedders of prompts for scores of content, each once."""
    parts = (part for part in every_part(recipe) if part.kind == "content")
    return list(dict.fromkeys(part.embedder or recipe.pool.embedder for part in parts))


def share(recipe: Recipe) -> float | None:
    """Share of the harmful probes that is reserved for the pilot and the regime, which use the same; null without
    either.
    """
    if recipe.select.piloted:
        return recipe.verify.pilot.share_of_probes
    return recipe.verify.regime.share_of_probes if recipe.verify.regime is not None else None


def steps_taken(recipe: Recipe) -> list[Score]:
    """Every step on a task for which interference is computed: those of the recipe's scores, and both of the default
    size if forgetting asks for them. Each gives both losses.
    """
    parts = [part for part in every_part(recipe) if part.kind == "interference"]
    if recipe.verify.forgetting is not None and recipe.verify.forgetting.interference:
        parts += [Score(kind="interference"), Score(kind="interference", step="gradient")]
    steps: dict[Any, Score] = {}
    for part in parts:
        steps.setdefault((part.step, part.size, part.rows), part)
    return list(steps.values())
