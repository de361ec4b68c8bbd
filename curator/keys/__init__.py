"""The keys of stages: everything that decides a stage's result, from the recipe, the files that it names, and earlier
stages.

A stage with an equal key is kept, and one with a changed key is made again. So a recipe key that changes a result
belongs here, beside the code that reads it, and one that changes none stays out. A setting that was added after its
stage is left out of the key at its default, so that older run folders are kept. Imports nothing heavy, so that a
finished run is skipped at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curator.engine import device_of
from curator.errors import RecipeError
from curator.keys.pieces import dtype_part, judge_settings, reasoning_part
from curator.model.chat import DATE, is_dated, templates_in
from curator.model.dtype import chosen
from curator.provenance import file_identity, folder_identity, has_gpu
from curator.recipe import Instruction, Recipe, embedders_of, scores_of, share, steps_taken
from curator.recipe.halves import alignments_of, scores_of_models
from curator.recipe.inputs import content, fingerprint, metric_files, missing_metrics, sources, template_text
from curator.recipe.package import path_of
from curator.recipe.refusals import refusal_judge
from curator.recipe.score import decides
from curator.recipe.select import OBJECTIVES
from curator.recipe.source import Source
from curator.recipe.sweep import settings_by_name
from curator.recipe.verify import DEFAULT_CURVE, DEFAULT_THRESHOLDS, Looks, Thresholds
from curator.run import STAGES
from curator.run.folder import AGAIN, key_of, read_json, write_json
from curator.run.names import DTYPE, IDENTITIES

VERSIONS = dict.fromkeys(STAGES, 1) | {
    "base": 2,
    "pool": 11,
    "represent": 5,
    "scores": 4,
    "select": 11,
    "train": 6,
    "answer": 3,
    "judge": 6,
    "report": 19,
    "publish": 12,
}
"""Raised when a stage's code gives another result from equal settings and inputs."""

AFTER: Mapping[str, tuple[str, ...]] = {
    "base": (),
    "pool": ("base",),
    "represent": ("base", "pool"),
    "scores": ("represent",),
    "select": ("pool", "scores"),
    "train": ("base", "pool", "select"),
    "answer": ("train",),
    "judge": ("answer",),
    "report": ("judge",),
    "publish": ("report",),
}
"""The stages that each stage reads, and whose keys are therefore part of its own."""


LATER = ("answers", "coverage", "prefer", "cover_by", "within", "repeats", "by", "vulnerable")
"""Settings of `select` that were added after its key."""


@dataclass(frozen=True)
class Inputs:
    """The identity of the content of the files that a recipe names.

    Attributes:
        model: Files of the model's folder, null for a Hub id. `chat_template`: the text of its template's file. `date`:
            the date that a template gets as today's, if one of these files uses it.
        sources: Content of every source of rows, by a hash of its section in the recipe.
        dtype: The resolved `model.dtype` of the recipe, `fp32` or `bf16`.
    """

    model: Any
    chat_template: str | None
    sources: Mapping[str, Any]
    date: str | None = None
    dtype: str = "fp32"


def stage_keys(recipe: Recipe, inputs: Inputs) -> dict[str, str]:
    """The key of every stage, in the order of the stages.

    Raises:
        RecipeError: A metric of the user's own is missing.
    """
    settings = decided_by(recipe, inputs)
    keys: dict[str, str] = {}
    for stage in STAGES:
        keys[stage] = key_of(stage, VERSIONS[stage], settings[stage], [keys[earlier] for earlier in AFTER[stage]])
    return keys


def decided_by(recipe: Recipe, inputs: Inputs) -> dict[str, Any]:
    """For each stage, the settings and file contents that decide its result, beside the stages before it.

    Raises:
        RecipeError: A metric of the user's own is missing.
    """
    verify, select = recipe.verify, recipe.select
    arms = ([arm.model_dump() for arm in verify.arms], verify.most_seeds)
    return {
        "base": (*base_settings(recipe, inputs), *_kept_apart(recipe, inputs)),
        "pool": (_data(recipe), inputs.sources, recipe.seed),
        "represent": _representations(recipe),
        "scores": (
            decides(recipe.score),
            recipe.weights(),
            # The number of rows decides `per-example`; some objectives need the cover of the tasks.
            (select.k, select.budget_tokens, OBJECTIVES[select.objective].task_cover),
            (_interference(recipe), [decides(section) for section in scores_of(recipe)]),
            *_embedders(recipe),
            *_models(recipe),
        ),
        "select": (select.without_later(*LATER), arms, recipe.seed, _pilot(recipe), *_augmented(recipe, inputs)),
        "train": (_training(recipe), arms, _looks(recipe), *_curves(recipe), *_swept(recipe)),
        "answer": (_decoding(recipe), _forgetting(recipe), *_log_odds(recipe)),
        "judge": _judging(recipe, inputs),
        "report": (
            verify.gates.model_dump(),
            verify.control,
            recipe.judges.headline,
            _judge_error(recipe),
            recipe.name,
            *_thresholds(verify.decision),
            *(() if verify.curve == DEFAULT_CURVE else (["curve", verify.curve.model_dump()],)),
        ),
        "publish": (recipe.name, recipe.publish.model_dump()),
    }


def trials_key(recipe: Recipe, keys: Mapping[str, str]) -> str:
    """The key of what a pilot and a bank try: that of stage `select` without the arms and seeds of the experiment.

    Args:
        keys: The keys of the stages before it.
    """
    settings = recipe.select.without_later(*LATER), recipe.seed, _pilot(recipe)
    return key_of("trials", VERSIONS["select"], settings, [keys[earlier] for earlier in AFTER["select"]])


def inputs_of(recipe: Recipe, root: Path, shelf: Path | None = None) -> Inputs:
    """Identifies every file that the recipe names; a file with unchanged size and time is not read again.

    Args:
        root: The run folder, in which identities are recorded.
        shelf: Folder that run folders share, whose choice of the dtype holds for all of them; null for none.

    Raises:
        DataError: A file is missing or cannot be read.
        RecipeError: The chat template cannot be read as text.
    """
    path = root / IDENTITIES
    known = read_json(path, AGAIN) if path.exists() else {}
    identities = {}
    for source in sources(recipe):
        name = source_name(source)
        identities[name] = fingerprint(source, known=known.get(name))
    write_json(path, identities)
    file, folder = Path(path_of(recipe.model.chat_template or "")), Path(path_of(recipe.model.id))
    template = template_text(file) if file.is_file() else None
    texts = [template or ""] if recipe.model.chat_template else templates_in(folder)
    return Inputs(
        model=folder_identity(recipe.model.id),
        chat_template=template,
        sources={name: content(identity) for name, identity in identities.items()},
        date=DATE.isoformat() if any(map(is_dated, texts)) else None,
        dtype=_chosen_dtype(recipe, root, shelf),
    )


def _chosen_dtype(recipe: Recipe, root: Path, shelf: Path | None = None) -> str:
    """The recipe's dtype, or the one chosen for this model when the run folder was started, on any machine; where runs
    share a shelf, when the first of them was started on such a device: a choice that is measured may come out
    differently the next time.
    """
    path, model = root / DTYPE, recipe.model
    known = read_json(path, AGAIN) if path.exists() else {}
    asked = {"model": model.id, "asked": model.dtype}
    if {name: known.get(name) for name in asked} != asked:
        # A machine without a GPU is recognised before torch is loaded.
        where = device_of(recipe.engine) if recipe.engine.kind == "ray" or has_gpu() else "cpu"
        common = None if shelf is None else shelf / f"{key_of(asked, model.revision, where)}-{DTYPE}"
        if common is not None and common.exists():
            known = read_json(common, AGAIN)
        else:
            choice = chosen(model.dtype, model.id, where=where, revision=model.revision)
            known = {**asked, **choice._asdict()}
            if common is not None:
                write_json(common, known)
        write_json(path, known)
    return str(known["dtype"])


def source_name(source: Source) -> str:
    """A hash of what is read from a source, independent of the use of its rows."""
    return key_of(source.model_dump(include={"file", "hub", "sandbox", "config", "split", "revision"}))


def base_settings(recipe: Recipe, inputs: Inputs) -> Any:
    """Everything that decides the model that all arms start from."""
    model = recipe.model
    tuned = model.instruction and (recipe.verify.align.model_dump(), recipe.seed, *_rows_of(model.instruction, inputs))
    return (
        # `start` was removed, and always had the same value. The resolved dtype replaces `auto`.
        {**model.model_dump(exclude={"dtype", *(() if model.quantise else ("quantise",))}), "start": "base"},
        (inputs.model, inputs.chat_template, *([inputs.date] if inputs.date else []), *dtype_part(inputs.dtype)),
        *(["begins"] if model.chat_template == "chatml" else []),  # it had no begin token
        tuned,
    )


def _rows_of(instruction: Instruction, inputs: Inputs) -> list[Any]:
    """The content of the instruction rows; empty for a data set on the Hub, which its settings identify."""
    rows = inputs.sources.get(source_name(instruction.data))
    return [] if rows is None or instruction.data.hub else [rows]


def _kept_apart(recipe: Recipe, inputs: Inputs) -> list[Any]:
    """What decides which rows the base is not tuned on: probes and test rows; empty if it is not tuned."""
    if recipe.model.instruction is None:
        return []
    named = [*recipe.probes.harmful, *recipe.probes.benign, *(task.train for task in recipe.tasks)]
    contents = [inputs.sources.get(source_name(source)) for source in named if not source.hub]
    tasks = [(task.train.model_dump(), task.test.model_dump()) for task in recipe.tasks]
    probes = recipe.probes.model_dump(include={"harmful", "benign"})
    decontaminate = recipe.pool.clean.decontaminate
    return [contents, tasks, probes, decontaminate and decontaminate.model_dump(exclude={"neighbours"})]


def _data(recipe: Recipe) -> Any:
    keep = recipe.verify.keep.model_dump() if recipe.verify.keep else None
    given = recipe.select.data.model_dump() if recipe.select.data else None
    arms = [arm.model_dump() for arm in recipe.verify.arms if arm.data]
    tasks = [task.model_dump(exclude={"probe_at", "sweep"}) for task in recipe.tasks]
    embedder = folder_identity(recipe.pool.embedder.id)
    others = (arms, given, share(recipe))
    # The openings of answers do not change the rows.
    probes = recipe.probes.model_dump(exclude={"prefill", "opening"})
    pool, judge = recipe.pool.model_dump(exclude={"refusals"}), refusal_judge(recipe)
    pool["findings"] = recipe.pool.findings.without_later("opener")
    refusals = [] if judge is None else [["refusals", judge_settings(judge)]]
    return pool, tasks, probes, keep, others, *([embedder] if embedder else []), *refusals


def _representations(recipe: Recipe) -> Any:
    return [
        (
            section.without_later("name", "first", "side"),
            folder_identity(section.id) if section.id and section.id != "sandbox:" else None,
            file_identity(path_of(section.chat_template)) if section.chat_template else None,
        )
        for section in recipe.representations
    ]


def _interference(recipe: Recipe) -> Any:
    steps = [(step.step, step.size, step.rows) for step in steps_taken(recipe)]
    finetune = recipe.verify.finetune
    batch = (recipe.representations[0].batch_tokens, finetune.max_tokens, finetune.micro_batch)
    return [*steps, batch] if steps else []


def _embedders(recipe: Recipe) -> list[object]:
    """The identity of embedders of content other than the pool's, whose identity is in the pool's key."""
    others = [section.id for section in embedders_of(recipe) if section != recipe.pool.embedder]
    identities = [folder_identity(name) for name in others]
    return [identities] if any(identities) else []


def _models(recipe: Recipe) -> list[object]:
    """Everything that decides the models of scores and their batches; empty without such a score."""
    if not scores_of_models(recipe):
        return []
    trained, verify = alignments_of(recipe), recipe.verify
    align = [verify.align.model_dump(), recipe.seed] if trained else []
    checkpoints = {task.name: task.checkpoints for task in recipe.tasks if task.anticipated and task.checkpoints}
    finetune = [verify.finetune.model_dump(), checkpoints] if any(each.tuned for each in trained) else []
    settings = [recipe.representations[0].batch_tokens, align, finetune]
    if any(part.kind == "metagradient" for part in scores_of_models(recipe)):
        settings += [verify.align.model_dump(), verify.finetune.model_dump(), recipe.seed, _log_odds(recipe)]
    return [["models", *settings]]


def _pilot(recipe: Recipe) -> Any:
    select, verify = recipe.select, recipe.verify
    if not select.piloted:
        return None
    margins = verify.gates.harmfulness_before, verify.gates.degenerate
    pilot = {**verify.pilot.model_dump(exclude={"bank"}), "scores": [decides(each) for each in verify.pilot.scores]}
    # The bank's outcome also depends on the openers, if the recipe names them.
    openers = verify.log_odds.model_dump() if verify.log_odds and verify.log_odds.kind == "recipe" else None
    # "floor": sets by a predictor once kept their coverage only as far as one of six weights did.
    bank = [verify.pilot.bank.model_dump(), openers, "floor"] if select.by else []
    # "beside": their models once lay in the folder of stage `select`, where nothing looks for them now.
    return pilot, *bank, margins, _training(recipe), _generate(recipe), _say(recipe), recipe.weights(), "beside"


def _augmented(recipe: Recipe, inputs: Inputs) -> list[object]:
    """The openers behind which rows are trained, if any."""
    recovery = recipe.augment.recovery
    if recovery is None:
        return []
    return [recovery.tokens, recovery.openers and file_identity(str(recovery.file()))]


def _generate(recipe: Recipe) -> Mapping[str, object]:
    """How probes are answered; greedy answers, one per prompt, were the rule before there was a choice."""
    generate = recipe.verify.generate
    return generate.model_dump(exclude={"samples", "temperature"}) | generate.drawn


def _training(recipe: Recipe) -> Any:
    """Everything that decides the trainings of a grid."""
    verify = recipe.verify
    rehearsed = verify.rehearsal_share if verify.stage == "rehearsal" else None
    align, finetune = verify.align.model_dump(), verify.finetune.model_dump()
    regime = [_regime(recipe)] if verify.finds_regime else []
    return align, finetune, verify.stage, rehearsed, verify.exposure, recipe.seed, *regime


def _swept(recipe: Recipe) -> list[list[str]]:
    """The settings of tasks, if some task has other settings than the recipe's."""
    names = list(settings_by_name(recipe))
    return [] if names == [task.name for task in recipe.tasks] else [names]


def _thresholds(section: Thresholds) -> list[object]:
    """The thresholds; empty at the defaults, and later ones only if they differ from their defaults."""
    if section == DEFAULT_THRESHOLDS:
        return []
    later = {name for name in ("over", "one_seed") if getattr(section, name) == getattr(DEFAULT_THRESHOLDS, name)}
    return [section.model_dump(exclude=later)]


def _regime(recipe: Recipe) -> Sequence[object]:
    """What decides the length and learning rate that are found, beside the rows and the settings of all trainings."""
    verify = recipe.verify
    section = verify.regime and verify.regime.model_dump(exclude={"auto", "share_of_probes"})
    return section, _generate(recipe), _say(recipe), recipe.weights(), verify.control


def regime_key(recipe: Recipe, stages: Mapping[str, str]) -> str:
    """The key of the search for the regime; `stages` are the keys of the stages. It is the same for a build and for
    `curator check --measure`.
    """
    verify, select = recipe.verify, recipe.select
    plain = recipe.model_copy(update={"verify": verify.model_copy(update={"regime": None})})
    size = select.k, select.budget_tokens, *([sorted({*select.exclude})] if select.exclude else [])
    return key_of("regime", _training(plain), _regime(recipe), size, [stages[stage] for stage in ("base", "pool")])


def _looks(recipe: Recipe) -> Any:
    """What decides when adding seeds stops; null for a fixed number of seeds."""
    verify = recipe.verify
    if not isinstance(verify.seeds, Looks):
        return None
    one_seed = ["one seed"] if verify.decision.one_seed else []
    return verify.seeds.model_dump(), _generate(recipe), _say(recipe), recipe.weights(), verify.control, *one_seed


def _curves(recipe: Recipe) -> list[object]:
    """The checkpoints of trainings, and whether looks compare the area under the curves."""
    shares = {task.name: task.checkpoints for task in recipe.tasks if task.checkpoints}
    verify = recipe.verify
    area = verify.curve.primary == "area" and isinstance(verify.seeds, Looks)
    return [*([shares] if shares else []), *(["area"] if area else [])]


def _decoding(recipe: Recipe) -> Any:
    """The settings of decoding. Installing vLLM changes them; another interpreter or share of memory does not."""
    generate, probes = recipe.verify.generate, recipe.probes
    settings = {"max_new_tokens": generate.max_new_tokens, "batch": generate.batch, "engine": generate.engine}
    opening = {"prefill": probes.depths, "opening": probes.opens_with} if probes.depths else {}
    decoding = {**settings, **generate.drawn, **opening}
    if generate.engine != "vllm":
        return decoding
    from curator.train.vllm_process import there

    return {**decoding, "vllm": there(generate.python)}


def _forgetting(recipe: Recipe) -> Any:
    section, control = recipe.verify.forgetting, recipe.verify.control
    if section is None:
        return None
    # Losses are those of the control's models; an older key is one of random sets.
    of_control = () if control == "random" else (control,)
    return (section.rows, section.seeds, recipe.representations[0].batch_tokens, *of_control)


def _log_odds(recipe: Recipe) -> list[object]:
    section = recipe.verify.log_odds
    return [] if section is None else [section.model_dump()]


def _judging(recipe: Recipe, inputs: Inputs) -> Any:
    """The panel, its rule, the files of judges' folders, and the text of the user's own metrics."""
    problems = missing_metrics(recipe)
    if problems:
        raise RecipeError(problems)
    judges = recipe.judges
    # Answers without a reply are not stored; whether the stage may end with them decides only the stage's own result.
    without = [judge.name for judge in judges.panel if judge.rubric and judge.rubric.unanswered != "stop"]
    return (
        (judges.rule, judges.headline) if judges.rule != "headline" else "headline",
        [judge_settings(judge) for judge in judges.panel],
        # Python reads other encodings too, if the file names its own.
        [file.read_text(encoding="utf-8", errors="backslashreplace") for file in metric_files(recipe)],
        *([without] if without else []),
        *reasoning_part(judges.reasoning),
    )


def _say(recipe: Recipe) -> Any:
    """The judges involved in the decision, for stages that use their own verdicts before stage `judge`."""
    judges = recipe.judges
    return judges.rule, [judge_settings(judge) for judge in judges.voters], *reasoning_part(judges.reasoning)


def _judge_error(recipe: Recipe) -> Any:
    """The rule, and the content of the file with the deciding judge's error rates."""
    judges = recipe.judges
    headline = judges.voters[0] if judges.rule == "headline" else None
    return judges.rule, headline and (headline.error, file_identity(path_of(headline.error or "")))
