"""Comparison of judges with people: a sheet of a run's answers to label, and figures of judges on labelled answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.errors import DataError, JudgeError, RunError
from curator.judge.rejudge import NEEDED, judges_of, revision_of, stored_judges
from curator.judge.resources import ready, verdicts_on, version_of
from curator.recipe.judge import Judge
from curator.recipe.package import path_of
from curator.recipe.sweep import mix_of
from curator.recipe.verify import CURATED
from curator.run import Run
from curator.run.folder import key_of, read_json, write_json
from curator.wording import these

if TYPE_CHECKING:
    import polars as pl

    from curator.judge.people import Labels, Measured
    from curator.records import Verdict

VERSION = 1  # version of the file that `curator judge measure --store` writes
COLUMN = "column:"  # prefix for a judge whose verdicts are in the labels' file
LEAST = 50  # fewest labelled answers per arm for a correction


def sample(root: Path, per_arm: int, seed: int) -> pl.DataFrame:
    """Answers of a run for people to label, in an order and under ids that do not reveal their arm.

    They are drawn at random, the same number from treatment and control of the primary comparison, among answers to
    harmful probes after fine-tuning on an anticipated task.

    Returns:
        `id`, `prompt`, `answer`, and the empty columns `harmful`, `refused` and `note`.

    Raises:
        RunError: See `Run.open`; or an arm has fewer answers.
    """
    import polars as pl

    from curator.judge.guards.adapter import request
    from curator.judge.people import inert
    from curator.seeds import derive

    run = Run.open(root, *NEEDED)
    frame = _identified(run).filter(
        pl.col("kind") == "harmful",
        pl.col("phase") == "after",
        pl.col("task").is_in([name for name, weight in mix_of(run.recipe).items() if weight > 0]),
    )
    parts = []
    for arm in (CURATED, run.recipe.verify.control):
        answers = frame.filter(arm=arm).sort("id")
        if answers.height < per_arm:
            raise RunError(
                f"--per-arm: found {per_arm:,}, but arm {arm!r} of {root} has "
                f"{these(answers.height, 'answer', 'answers')} after fine-tuning; lower it"
            )
        parts.append(answers.sample(per_arm, seed=derive(seed, "sample", arm), shuffle=True))
    drawn = pl.concat(parts)
    drawn = drawn.sample(drawn.height, seed=derive(seed, "order"), shuffle=True)
    probes = run.data().harmful
    prompts = {row_id: request(turns) for row_id, turns in zip(probes["id"], probes["messages"].to_list(), strict=True)}
    empty = [pl.lit("").alias(name) for name in ("harmful", "refused", "note")]
    return drawn.select(
        "id",
        pl.col("probe").replace_strict(prompts, return_dtype=pl.String).map_elements(inert, pl.String).alias("prompt"),
        pl.col("answer").map_elements(inert, pl.String),
        *empty,
    )


def _identified(run: Run) -> pl.DataFrame:
    """All answers with an opaque id each."""
    import polars as pl

    from curator.records import ANSWER_COLUMNS, DURING

    frame = run.answers()
    # These columns were added after sheets had been labelled, so an id includes them only if they have other values
    # than then.
    later = ("at", "prefill", "sample")
    names = [name for name in ANSWER_COLUMNS if name not in later]
    plain = ((frame["phase"] != DURING) & (frame["prefill"] == 0) & (frame["sample"] == 0)).to_list()
    columns = zip(frame.select(names).iter_rows(), frame.select(later).iter_rows(), plain, strict=True)
    ids = [key_of("labelled", *row, *(() if usual else more))[:12] for row, more, usual in columns]
    return frame.with_columns(pl.Series("id", ids, dtype=pl.String))


@dataclass(frozen=True)
class Judged:
    """One judge's verdicts on labelled answers.

    Attributes:
        section: The judge's settings, with the version of its model (see `resources.version_of`) as its revision; null
            for a column of the labels' file.
        flags: Whether it gives the outcome, null if it gives no verdict; in the order of the labels.
        unseen: Number of answers that it was fitted to, whose verdicts here come from cross-validation.
    """

    name: str
    section: Judge | None
    flags: Sequence[bool | None]
    unseen: int = 0


def judge_labels(labels: Labels, specs: Sequence[str], root: Path | None) -> tuple[list[Judged], list[str] | None]:
    """Judges' verdicts on labelled answers, and the arm of each answer if they come from a run.

    Args:
        specs: Judges from the command line; `column:NAME` is one whose verdicts are in the labels' file, and a run's
            own judges are given by name and used with their stored verdicts.
        root: The run folder whose sheet was labelled: the labels have its `id` column.

    Raises:
        DataError: An id does not belong to an answer of the run.
        JudgeError, ModelError: See `resources.ready`; told before the first of them judges.
    """
    run = None if root is None else Run.open(root, *NEEDED)
    known = {} if run is None else stored_judges(run)
    named = [spec for spec in specs if not spec.startswith(COLUMN)]
    sections = {
        spec: section if spec in known else ready(section)
        for spec, section in zip(named, judges_of(named, known), strict=True)
    }
    answers = None if run is None else _labelled(run, labels)
    judged = []
    for spec in specs:
        if spec.startswith(COLUMN):
            name = spec.removeprefix(COLUMN)
            judged.append(Judged(name, None, labels.rows[f"verdict:{name}"].to_list()))
        elif spec in known and answers is not None:
            assert run is not None
            section = sections[spec].model_copy(update={"revision": revision_of(run, spec)})
            judged.append(_stored(labels, section, known[spec][1], answers))
        else:
            judged.append(_judged_now(labels, sections[spec], run, answers))
    return judged, None if answers is None else answers["arm"].to_list()


def _labelled(run: Run, labels: Labels) -> pl.DataFrame:
    """The run's answers in the order of the labels."""
    ids = labels.rows.select(f"{COLUMN}id").rename({f"{COLUMN}id": "id"})
    answers = _identified(run)
    joined = ids.join(answers, on="id", how="left", maintain_order="left")
    if joined["arm"].null_count():
        raise DataError(
            f"{labels.file}: {these(joined['arm'].null_count(), 'id is', 'ids are')} not in {run.root}; give the run "
            "that the sheet was sampled from"
        )
    return joined


def _stored(labels: Labels, section: Judge, file: Path, answers: pl.DataFrame) -> Judged:
    from curator.judge.people import says
    from curator.judge.questions import VERDICT_COLUMNS
    from curator.records import ANSWER_COLUMNS, Verdict
    from curator.run.files import load_answers

    names = answers.select(ANSWER_COLUMNS)
    rows = names.join(load_answers(file), on=ANSWER_COLUMNS, how="left", nulls_equal=True, maintain_order="left")
    verdicts = [Verdict(*row) for row in rows.select(VERDICT_COLUMNS).iter_rows()]
    return Judged(section.name, section, says(verdicts, labels.outcome))


def _judged_now(labels: Labels, section: Judge, run: Run | None, answers: pl.DataFrame | None) -> Judged:
    from curator.judge.guards.adapter import request
    from curator.judge.people import says
    from curator.judge.questions import question_of, questions_of

    if run is None or answers is None:
        given = labels.rows.select("prompt", "answer").iter_rows()
        questions = [question_of("harmful", [{"role": "user", "content": prompt}], answer) for prompt, answer in given]
    else:
        questions = questions_of(answers, run.data(), run.recipe.judges.reasoning)
    pairs = [(request(question.messages), question.answer) for question in questions]
    held = _by_cross_validation(section, pairs)
    # Answers whose verdict is known from cross-validation are not judged again.
    new = [question for pair, question in zip(pairs, questions, strict=True) if pair not in held]
    given_now = iter(verdicts_on(section, new))
    verdicts = [held[pair] if pair in held else next(given_now) for pair in pairs]
    section = section.model_copy(update={"revision": version_of(section)})
    return Judged(section.name, section, says(verdicts, labels.outcome), sum(pair in held for pair in pairs))


def _by_cross_validation(section: Judge, pairs: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], Verdict]:
    """Verdicts of an embedding judge on answers that it was fitted to, as if it had not seen their prompts."""
    if section.embedding is None:
        return {}
    from curator.judge.embedding import answer_key, load_head, unseen, verdict
    from curator.judge.phrases import degenerate

    folder = Path(section.embedding)
    fitted = load_head(folder)[1]
    known, bar = unseen(folder), fitted if section.threshold is None else section.threshold
    keys = {pair: answer_key(*pair) for pair in pairs}
    return {
        pair: verdict("harmful", known[key], bar)
        for pair, key in keys.items()
        if key in known and degenerate(pair[1]) is None
    }


def figures(labels: Labels, judged: Sequence[Judged]) -> dict[str, list[Measured]]:
    """Part of the labels (all, and by agreement of annotators) -> each judge's figures on it."""
    from curator.judge.people import measure, splits

    people, prompts = labels.rows["positive"].to_numpy(), labels.rows["prompt"].to_list()
    return {
        part: [
            measure(
                judge.name,
                labels.outcome,
                list(compress(judge.flags, chosen)),
                people[chosen],
                list(compress(prompts, chosen)),
            )
            for judge in judged
        ]
        for part, chosen in splits(labels).items()
    }


def pairs(labels: Labels, judged: Sequence[Judged]) -> list[tuple[str, str, int, float | None, float | None]]:
    """The agreement of each pair of raters: judges, people, and the annotators if the file has them."""
    from curator.judge.people import pairwise

    readers: dict[str, Sequence[bool | None]] = {"people": labels.rows["positive"].to_list()}
    readers |= {judge.name: judge.flags for judge in judged}
    rows = pairwise(readers)
    if labels.rows["first"].null_count() < labels.rows.height:
        both = {"annotator 1": labels.rows["first"].to_list(), "annotator 2": labels.rows["second"].to_list()}
        rows += pairwise(both)
    return rows


def refuse_others(path: Path) -> None:
    """Refuses to overwrite a file that is not a measurement of `store`, such as the labels themselves.

    Raises:
        RunError: There is such a file.
    """
    if not path.exists():
        return
    try:
        stored = read_json(path)
    except RunError:
        stored = None
    if not (isinstance(stored, dict) and {"version", "labels", "judges"} <= stored.keys()):
        raise RunError(
            f"--store {path}: already exists, and is not a measurement that this command wrote; choose another name, "
            "or remove it first"
        )


def store(path: Path, labels: Labels, judged: Sequence[Judged], arms: Sequence[str] | None, root: Path | None) -> None:
    """Writes each judge's counts, sensitivity and specificity with their outcome, the labels' hash, the exact revision
    of the judge's model and the key of the run's answers.

    Counts are by arm if the labels are for a run's answers, as the correction of a difference needs.
    """
    from curator.judge.people import counts, measure

    people, prompts = labels.rows["positive"].to_numpy(), labels.rows["prompt"].to_list()
    run = None if root is None else Run.open(root, *NEEDED)

    def counted(judge: Judged, arm: str | None) -> dict[str, Any]:
        rows = [row for row in range(len(prompts)) if arm is None or (arms or [])[row] == arm]
        part = [judge.flags[row] for row in rows], people[rows], [prompts[row] for row in rows]
        return counts(measure(judge.name, labels.outcome, *part))

    write_json(
        path,
        {
            "version": VERSION,
            "outcome": labels.outcome,
            "run": None if run is None else run.recipe.name,
            "answers": None if run is None else run.done("answer")["key"],
            "labels": {
                "file": labels.file,
                "sha256": labels.digest,
                "rows": labels.rows.height,
                "excluded": labels.excluded,
                "unlabelled": labels.unlabelled,
            },
            "judges": [
                {
                    "name": judge.name,
                    "told": judge.section.told if judge.section else "a column of the labels' file",
                    "settings": judge.section.comparable() if judge.section else None,
                    "revision": judge.section.revision if judge.section else None,
                    "cross_validated": judge.unseen,
                    "all": counted(judge, None),
                    "arms": {arm: counted(judge, arm) for arm in sorted(set(arms or []))},
                }
                for judge in judged
            ],
        },
    )


def as_json(parts: Mapping[str, Sequence[Measured]]) -> dict[str, Any]:
    """The figures as plain values."""
    return {part: [asdict(judge) for judge in judges] for part, judges in parts.items()}


def deciding_judge(run: Run) -> Judge | None:
    """The judge whose errors matter; null if a panel decides, whose errors have not been measured."""
    judges = run.recipe.judges
    if judges.rule != "headline":
        return None
    return next(judge for judge in judges.panel if judge.name == judges.headline)


def read_stored(judge: Judge, file: str, revision: str | None) -> dict[str, Any]:
    """The record of this judge from `curator judge measure --store`: outcome, run, answers (the key of the run's
    answers, null if unknown), labels, and `judge`, its own counts, those at `revision` if several were measured.

    Raises:
        JudgeError: There is no such file, it has another version, or it has no figures for a judge with these settings.
    """
    path, key = Path(path_of(file)), f"judges.panel.{judge.name}.error"
    again = "write it with `curator judge measure --store`"
    if not path.is_file():
        raise JudgeError(f"{key}: no file {file}; {again}")
    stored = read_json(path, again)
    if not isinstance(stored, dict) or stored.get("version") != VERSION or not isinstance(stored.get("judges"), list):
        raise JudgeError(f"{key}: {file} has no measured judges of version {VERSION}; {again}")
    same = [entry for entry in stored["judges"] if entry["settings"] == judge.comparable()]
    if not same:
        names = ", ".join(str(entry["name"]) for entry in stored["judges"]) or "none"
        raise JudgeError(f"{key}: {file} has figures of {names}, but none with the settings of {judge.name!r}; {again}")
    exact = [entry for entry in same if entry.get("revision") == revision]
    known = {name: stored[name] for name in ("outcome", "run", "labels")}
    return {**known, "answers": stored.get("answers"), "judge": (exact or same)[0]}
