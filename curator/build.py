"""The pipeline: the only file that knows the order of the stages.

Each stage is a function of `curator.steps` from what lies on disk to its own folder; `run.make` decides whether it
has to run. What a stage needs of heavy libraries is imported when it runs, so that a finished run is passed over in
no time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from curator.engine import engaged
from curator.judge import stage as judging
from curator.pool import stage as pool_stage
from curator.provenance import folder_identity
from curator.publish import stage as publish_stage
from curator.recipe import Recipe, scores_of, share
from curator.recipe.file import dump
from curator.recipe.inputs import content, fingerprint, sources
from curator.report import judge_error as judge_errors
from curator.report import stage as reporting
from curator.represent import stage as representing
from curator.run import STAGES, Silent, Site, Tell
from curator.run.folder import Made, key_of, make, opened, read_json, write_json, write_text
from curator.score import every as scoring
from curator.score import stage as score_stage
from curator.steps import forgetting, grid, looking, piloting, selecting, verifying

# Raised when a stage's code changes what it makes from equal settings and inputs.
VERSIONS = dict.fromkeys(STAGES, 1) | {
    "pool": 4,
    "represent": 2,
    "select": 3,
    "train": 2,
    "judge": 3,
    "report": 7,
    "publish": 3,
}


class Step(NamedTuple):
    """One stage: the settings and earlier stages that decide its result, and the function that makes it; whether run
    folders of one suite take it from each other as a whole.
    """

    name: str
    settings: Any
    after: tuple[str, ...]
    work: Callable[[Site, Path], Mapping[str, Any]]
    grid: bool = False
    shared: bool = False


def build(
    recipe: Recipe,
    root: Path,
    *,
    until: str = STAGES[-1],
    base: Path = Path("."),
    tell: Tell | None = None,
    shelf: Path | None = None,
) -> dict[str, Made]:
    """Runs a recipe into its run folder, keeping every stage that is already there under the same key.

    Args:
        recipe: What to run.
        root: The run folder; made where missing.
        until: Last stage to run, one of STAGES.
        base: Folder that relative paths of sources start from.
        tell: Whom to tell of progress.
        shelf: A folder by which several run folders find what one of them has finished under an equal key.

    Returns:
        What was made or kept, by stage.

    Raises:
        CuratorError: Bad input, a full disk, a busy run folder: whatever a user can mend.
    """
    made: dict[str, Made] = {}
    with opened(root), engaged(recipe.engine):
        site = Site(recipe, root, base, tell or Silent(), shelf)
        steps = _steps(site)
        keys: dict[str, str] = {}
        for step in steps:
            keys[step.name] = key_of(step.name, VERSIONS[step.name], step.settings, [keys[name] for name in step.after])
        # Written first: it says which of the finished stages belong to this recipe, and which to an earlier one.
        write_text(root / "recipe.yaml", dump(recipe))
        write_json(root / "run.json", {"name": recipe.name, "stages": keys})
        verifying.prepare(site, until, keys)
        for step in steps:

            def work(folder: Path, step: Step = step) -> Mapping[str, Any]:
                return step.work(site, folder)

            own = shelf / site.folder(step.name).name if shelf is not None and step.shared else None
            made[step.name] = make(site.folder(step.name), keys[step.name], work, grid=step.grid, shelf=own)
            site.tell.finished(step.name, made[step.name])
            if step.name == until:
                break
    return made


def _steps(site: Site) -> list[Step]:
    r, v = site.recipe, site.recipe.verify
    model, sources = _identities(site)
    # Left out where null, so that runs from before there was such a setting are kept.
    base = (
        r.model.model_dump(exclude=None if r.model.quantise else {"quantise"}),
        model,
        (v.align.model_dump(), r.seed) if r.model.instruction else None,
    )
    keep = v.keep.model_dump() if v.keep else None
    given = r.select.data.model_dump() if r.select.data else None
    own = ([arm.model_dump() for arm in v.arms if arm.data], given, share(site.recipe))
    data = (r.pool.model_dump(), [task.model_dump() for task in r.tasks], r.probes.model_dump(), keep, own)
    sizes = (r.select.k, r.select.budget_tokens, r.select.objective == "conditional-gain")
    arms = ([arm.model_dump() for arm in v.arms], v.most_seeds)
    compared = (scoring.settings(r), [one.model_dump() for one in scores_of(site.recipe)])
    chosen = (r.select.model_dump(), arms, r.seed, piloting.settings(site))
    training = (grid.settings(site), arms, looking.settings(site))
    shown = (v.gates.model_dump(), v.control, r.judges.headline, judge_errors.settings(site), r.name)
    return [
        Step("base", base, (), selecting.base, shared=True),
        Step("pool", (data, sources, r.seed), ("base",), pool_stage.pool, shared=True),
        Step(
            "represent",
            representing.settings(r),
            ("base", "pool"),
            representing.represent,
            shared=True,
        ),
        Step("scores", (r.score.model_dump(), r.weights(), sizes, compared), ("represent",), score_stage.scores),
        Step("select", chosen, ("pool", "scores"), selecting.select),
        Step("train", training, ("base", "pool", "select"), verifying.train, grid=True),
        Step("answer", (verifying.settings(site), forgetting.settings(site)), ("train",), verifying.answer, grid=True),
        Step("judge", judging.settings(site), ("answer",), judging.judge, grid=True),
        Step("report", shown, ("judge",), reporting.report),
        Step("publish", (r.name, r.publish.model_dump()), ("report",), publish_stage.publish),
    ]


def _identities(site: Site) -> tuple[Any, Any]:
    """The content of the model folder, a template's file and every source; unchanged files are not read again."""
    path = site.root / "identities.json"
    known = read_json(path) if path.exists() else {}
    found = {}
    for source in sources(site.recipe):
        name = key_of(source.model_dump(include={"file", "hub", "sandbox", "config", "split", "revision"}))
        found[name] = fingerprint(source, site.base, known.get(name))
    write_json(path, found)
    template = Path(site.recipe.model.chat_template or "")
    text = template.read_text(encoding="utf-8") if template.is_file() else None
    return (folder_identity(site.recipe.model.id), text), {name: content(one) for name, one in found.items()}
