"""More judges on a run's stored answers: their verdicts are added below stage `judge`, and nothing is overwritten.

On the command line a judge is a word (`exact`, `guard:ID`, `NAME=...`) or a mapping as in a recipe; see `judge_of`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.conclusions.part import plain
from curator.errors import JudgeError
from curator.judge.resources import ready
from curator.judge.stage import utility_of, verdicts_of
from curator.keys.pieces import added_key
from curator.recipe.judge import Judge
from curator.recipe.sweep import mix_of
from curator.recipe.verify import CURATED
from curator.run import Run, current, require
from curator.run.folder import finished, make, opened
from curator.run.names import ADDED, PANEL, VERDICTS, panel_file

if TYPE_CHECKING:
    import polars as pl

    from curator.run import Progress


NEEDED = ("pool", "answer")
"""Stages that judges read."""

_BARE = {"phrases": {"refusal": "phrases"}, "exact": {"sandbox": "exact"}}

_SPEC = (
    "allowed: phrases, exact, guard:ID, classifier:ID, embedding:FOLDER, optionally with NAME= in front, or a mapping "
    "as in a recipe, e.g. '{name: mine, guard: my/model, convention: wildguard}'"
)


def rejudge(root: Path, specs: Sequence[str], progress: Progress) -> dict[str, Any]:
    """Runs judges on a run's answers, each on those that it has not judged yet.

    Args:
        specs: Judges of the command line; the recipe's panel if there are none.

    Returns:
        `judges`: name, told, kept (its verdicts were there already), outcomes of answers to harmful probes, `unscored`
        (why such answers have no outcome, and how many for each reason, the most first), and the primary comparison by
        its verdicts (difference, low, high, and what it says `alone`, with the `reason` where that is nothing), which
        decides nothing; `agreement`: each pair, as in a report; both of all judges whose verdicts the run holds, those
        named now first.

    Raises:
        JudgeError: A judge has the name of another one of the run.
        JudgeError, ModelError: See `resources.ready`. Both are told before one of them judges.
        RunError: See `Run.open`; or another process of curator is using the folder.
    """
    import polars as pl

    from curator.judge.people import agreement, outcome_counts
    from curator.run.files import load_answers

    require(root, *NEEDED)  # before the folder is locked, which would create a missing one
    with opened(root, option=None):
        run = Run.open(root, *NEEDED, progress=progress)
        known = stored_judges(run)
        judges = judges_of(specs, known) if specs else list(run.recipe.judges.panel)
        for judge in judges:
            _require_same(run, judge, known)
            if judge.name not in known:
                ready(judge)
        kept = {judge.name: _verdicts(run, judge, known) for judge in judges}
        stored = stored_judges(run)
        order = [*kept, *(name for name in stored if name not in kept)]
        verdicts = {name: load_answers(stored[name][1]) for name in order}
    return {
        "judges": [
            {
                "name": name,
                "told": stored[name][0].told,
                "kept": kept.get(name, True),
                "outcomes": outcome_counts(verdicts[name], name),
                "unscored": _reasons(verdicts[name]),
                **_difference(run, verdicts[name]),
            }
            for name in order
        ],
        "agreement": [plain(pair) for pair in agreement(pl.concat(list(verdicts.values())), order)],
    }


def _require_same(run: Run, judge: Judge, known: Mapping[str, tuple[Judge, Path]]) -> None:
    """Checks that the run has no other judge of this name."""
    in_panel = {section.name: section for section in run.recipe.judges.panel}
    other = known[judge.name][0] if judge.name in known else in_panel.get(judge.name)
    if other is not None and other.deciding() != judge.deciding():
        raise JudgeError(
            f"judge {judge.name!r}: the run has another judge of this name, and its verdicts are kept; give this one "
            "another name with NAME= in front"
        )


def _verdicts(run: Run, judge: Judge, known: Mapping[str, tuple[Judge, Path]]) -> bool:
    """Makes the judge's verdicts unless they exist; returns whether they existed."""
    if judge.name in known and known[judge.name][1].parent.parent.name == PANEL:
        return True
    answers = run.done("answer")["key"]
    marks = run.recipe.judges.reasoning
    key = added_key(judge, answers, marks)

    def work(folder: Path) -> Mapping[str, Any]:
        from curator.run.files import save_frame

        progress = run.progress_of("judge")
        verdicts, revision, cost = verdicts_of(judge, run.answers(), run.data(), folder, progress, marks=marks)
        save_frame(folder / VERDICTS, verdicts)
        return {"judge": judge.model_dump(), "answers": answers, "revision": revision, "cost": cost}

    return make(run.folder("judge") / ADDED / judge.name, key, work, option=None).kept


def _reasons(verdicts: pl.DataFrame) -> dict[str, int]:
    import polars as pl

    from curator.records import PHASES

    counted = pl.col("kind") == "harmful", pl.col("phase").is_in(PHASES), pl.col("outcome") == "unscored"
    unscored = verdicts.filter(*counted)
    counts = unscored.group_by("reason").len().sort("len", "reason", descending=[True, False])
    return dict(counts.iter_rows())


def _difference(run: Run, verdicts: pl.DataFrame) -> dict[str, Any]:
    """The primary comparison by one judge's verdicts, and its outcome by the run's own rule without gates."""
    import polars as pl

    from curator.decision.comparisons import anticipated
    from curator.decision.curve import laid_out, primary_of
    from curator.decision.decide import assess

    verify, (level, _, _) = run.recipe.verify, run.stop()
    judged = verdicts
    if verify.decision.over == "worst":  # the metrics decide which settings count, whatever the judge
        judged = pl.concat([verdicts, utility_of(run, run.answers(), run.data())]).with_columns(judge=pl.lit("both"))
    assessment = assess(
        laid_out(judged), anticipated(mix_of(run.recipe)), treatment=CURATED, control=verify.control,
        level=level, thresholds=verify.decision, margin=verify.gates.utility, primary=primary_of(verify.curve),
    )  # fmt: skip
    figures = {name: getattr(assessment.comparison, name) for name in ("difference", "low", "high")}
    return {**figures, "alone": assessment.side, "reason": assessment.reason}


def judge_of(text: str) -> Judge:
    """The judge that an argument of the command line names.

    Raises:
        JudgeError: It names no judge, or an impossible one.
    """
    from pydantic import ValidationError

    try:
        return Judge.model_validate(_mapping(text))
    except ValidationError as error:
        problems = []
        for problem in error.errors():
            parts = ".".join(map(str, problem["loc"])), problem["msg"].removeprefix("Value error, ")
            problems.append(": ".join(part for part in parts if part))
        raise JudgeError(f"judge {text!r}: {'; '.join(problems)}") from None


def _mapping(text: str) -> dict[str, Any]:
    if text.lstrip().startswith("{"):
        from ruamel.yaml import YAML
        from ruamel.yaml.error import YAMLError

        try:
            mapping = YAML(typ="safe", pure=True).load(text)
        except YAMLError:
            raise JudgeError(f"judge {text!r}: not a YAML mapping; {_SPEC}") from None
        return dict(mapping)
    given, equals, rest = text.partition("=")
    named = bool(equals) and re.fullmatch(r"[A-Za-z0-9._+-]+", given) is not None
    spec = rest if named else text
    kind, colon, value = spec.partition(":")
    if spec in _BARE:
        mapping = _BARE[spec]
    elif colon and value and kind in ("guard", "classifier", "embedding"):
        mapping = {kind: value}
    else:
        raise JudgeError(f"judge {text!r}: found {spec!r}; {_SPEC}")
    name = given if named else re.sub(r"[^A-Za-z0-9._+-]", "-", (value or spec).rstrip("/").rpartition("/")[2])
    return {"name": name, **mapping}


def stored_judges(run: Run) -> dict[str, tuple[Judge, Path]]:
    """Every judge with verdicts in a run folder: those of its recipe, and those added later; with the folders of their
    verdicts.
    """
    stage, stored = run.folder("judge"), {}
    if current(run.root, "judge") is not None:
        for judge in run.recipe.judges.panel:
            stored[judge.name] = judge, stage / panel_file(judge.name)
    answers = run.done("answer")["key"]
    for folder in sorted((stage / ADDED).glob("*")):
        done = finished(folder)
        if done is not None and done["record"]["answers"] == answers and folder.name == done["record"]["judge"]["name"]:
            stored[folder.name] = Judge.model_validate(done["record"]["judge"]), folder / VERDICTS
    return stored


def revision_of(run: Run, name: str) -> str | None:
    """The version of the model that gave the stored verdicts of a judge; see `resources.version_of`."""
    done = finished(run.folder("judge") / ADDED / name)
    if stored_judges(run)[name][1].parent.parent.name == ADDED and done is not None:
        revision: str | None = done["record"]["revision"]
        return revision
    return dict(run.record("judge")["revisions"]).get(name)


def judges_of(specs: Sequence[str], known: dict[str, tuple[Judge, Path]]) -> list[Judge]:
    """The judges of the command line: a run's own by name, others by `judge_of`.

    Raises:
        JudgeError: Two judges have the same name.
    """
    judges = [known[spec][0] if spec in known else judge_of(spec) for spec in specs]
    names = [judge.name for judge in judges]
    for name in names:
        if names.count(name) > 1:
            raise JudgeError(f"two judges have the name {name!r}; put another NAME= in front of one")
    return judges
