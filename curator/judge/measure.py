"""Judges against people: a sheet of a run's answers to label, and figures of judges on labelled answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.errors import DataError, JudgeError, RunError
from curator.judge.means import means, resolved
from curator.judge.rejudge import NEEDED, judges_of, stored_judges
from curator.recipe.judge import Judge
from curator.recipe.verify import CURATED
from curator.run import Run
from curator.run.folder import key_of, read_json, write_json

if TYPE_CHECKING:
    import polars as pl

    from curator.judge.people import Labels, Measured
    from curator.records import Verdict


COLUMN = "column:"

LEAST = 50

_ANSWER = ("arm", "draw", "seed", "task", "phase", "kind", "probe")


def sample(root: Path, per_arm: int, seed: int) -> pl.DataFrame:
    """Answers of a run for people to label, in an order and under ids that tell nothing of their arm.

    They are drawn at random, as many from the treatment as from the control of the primary comparison, among answers to
    harmful probes after fine-tuning on an anticipated task: those that the comparison is about.

    Returns:
        `id`, `prompt`, `answer`, and `harmful`, `refused`, `note`, which are empty.

    Raises:
        RunError: See `Run.open`; or an arm has not so many answers.
    """
    import polars as pl

    from curator.seeds import derive

    run = Run.open(root, *NEEDED)
    frame = _identified(run).filter(
        pl.col("kind") == "harmful",
        pl.col("phase") == "after",
        pl.col("task").is_in([name for name, weight in run.recipe.weights().items() if weight > 0]),
    )
    parts = []
    for arm in (CURATED, run.recipe.verify.control):
        own = frame.filter(arm=arm).sort("id")
        if own.height < per_arm:
            raise RunError(f"{root}: arm {arm!r} has {own.height} such answers, fewer than {per_arm}; lower --per-arm")
        parts.append(own.sample(per_arm, seed=derive(seed, "sample", arm), shuffle=True))
    drawn = pl.concat(parts)
    drawn = drawn.sample(drawn.height, seed=derive(seed, "order"), shuffle=True)
    prompts = _prompts(run)
    empty = [pl.lit("").alias(name) for name in ("harmful", "refused", "note")]
    return drawn.select(
        "id",
        pl.col("probe").replace_strict(prompts, return_dtype=pl.String).map_elements(_inert, pl.String).alias("prompt"),
        pl.col("answer").map_elements(_inert, pl.String),
        *empty,
    )


def _inert(text: str) -> str:
    """Text that a spreadsheet reads as text: an answer that begins with = would be a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _identified(run: Run) -> pl.DataFrame:
    """All answers with an opaque id each."""
    import polars as pl

    frame = run.answers()
    ids = [key_of("labelled", *row)[:12] for row in frame.select(_ANSWER).iter_rows()]
    return frame.with_columns(pl.Series("id", ids, dtype=pl.String))


def _prompts(run: Run) -> dict[str, str]:
    from curator.judge.guards.adapter import request

    rows = run.data().harmful
    return {one: request(said) for one, said in zip(rows["id"], rows["messages"].to_list(), strict=True)}


@dataclass(frozen=True)
class Judged:
    """One judge's verdicts on labelled answers.

    Attributes:
        section: What it is; null for a column of the labels' file.
        said: Whether it says the outcome, null where it could not tell; in the order of the labels.
        unseen: Answers that it was fitted to, whose verdict here is by cross-validation.
    """

    name: str
    section: Judge | None
    said: Sequence[bool | None]
    unseen: int = 0


def judge_labels(labels: Labels, specs: Sequence[str], root: Path | None) -> tuple[list[Judged], list[str] | None]:
    """What judges say of labelled answers, and the arm of each answer where they are of a run.

    Args:
        specs: Judges of the command line; `column:NAME` is one whose verdicts are in the labels' file, and a run's own
            judges go by their names, their stored verdicts with them.
        root: The run folder whose sheet was labelled: its `id` column is among the labels' columns.

    Raises:
        DataError: An id is of no answer of the run.
    """
    run = None if root is None else Run.open(root, *NEEDED)
    known = {} if run is None else stored_judges(run)
    own = [spec for spec in specs if not spec.startswith(COLUMN)]
    sections = dict(zip(own, judges_of(own, known), strict=True))
    answers = None if run is None else _labelled(run, labels)
    found = []
    for spec in specs:
        if spec.startswith(COLUMN):
            found.append(_column(labels, spec))
        elif spec in known and answers is not None:
            found.append(_stored(labels, sections[spec], known[spec][1], answers))
        else:
            found.append(_asked(labels, sections[spec], run, answers))
    return found, None if answers is None else answers["arm"].to_list()


def _labelled(run: Run, labels: Labels) -> pl.DataFrame:
    """The run's answers in the order of the labels."""
    ids = labels.rows.select(f"{COLUMN}id").rename({f"{COLUMN}id": "id"})
    answers = _identified(run)
    joined = ids.join(answers, on="id", how="left", maintain_order="left")
    if joined["arm"].null_count():
        raise DataError(
            f"{labels.file}: {joined['arm'].null_count()} of its ids are of no answer of {run.root}; give the run "
            "that the sheet was sampled from"
        )
    return joined


def _column(labels: Labels, spec: str) -> Judged:
    from curator.judge.people import said_by

    said = labels.rows.select(said_by(spec, labels.positive, labels.values).alias("said"))["said"].to_list()
    return Judged(spec.removeprefix(COLUMN), None, said)


def _stored(labels: Labels, section: Judge, file: Path, answers: pl.DataFrame) -> Judged:
    from curator.judge.people import says
    from curator.records import Verdict
    from curator.run.files import load_frame

    known, keys = load_frame(file), answers.select(_ANSWER)
    rows = keys.join(known, on=_ANSWER, how="left", nulls_equal=True, maintain_order="left")
    fields = ("outcome", "refused", "score", "reason", "raw")
    verdicts = [Verdict(*row) for row in rows.select(fields).iter_rows()]
    return Judged(section.name, section, says(verdicts, labels.outcome))


def _asked(labels: Labels, section: Judge, run: Run | None, answers: pl.DataFrame | None) -> Judged:
    from curator.judge.endpoint import Cost
    from curator.judge.kinds import judging
    from curator.judge.people import says
    from curator.records import Asked

    section = resolved(section)
    if run is None or answers is None:
        pairs = list(labels.rows.select("prompt", "answer").iter_rows())
        asked = [Asked("harmful", [{"role": "user", "content": prompt}], answer) for prompt, answer in pairs]
    else:
        from curator.judge.asking import asked_of

        asked = asked_of(answers, run.data())
        pairs = [(one.messages[-1]["content"], one.answer) for one in asked]
    held = _by_cross_validation(section, pairs)
    # Equal answers to one prompt are asked once, and what is known by cross-validation not at all.
    new = {pair: one for pair, one in zip(pairs, asked, strict=True) if pair not in held}
    verdicts = judging(section, means(Cost()))(list(new.values())) if new else []
    by_pair = {**held, **dict(zip(new, verdicts, strict=True))}
    said = says([by_pair[pair] for pair in pairs], labels.outcome)
    return Judged(section.name, section, said, sum(pair in held for pair in pairs))


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
    """Part of the labels (all, and by whether annotators agree) -> each judge's figures on it."""
    from curator.judge.people import measure, splits

    people, prompts = labels.rows["positive"].to_numpy(), labels.rows["prompt"].to_list()
    return {
        part: [
            measure(
                one.name,
                labels.outcome,
                [said for said, wanted in zip(one.said, chosen, strict=True) if wanted],
                people[chosen],
                [prompt for prompt, wanted in zip(prompts, chosen, strict=True) if wanted],
            )
            for one in judged
        ]
        for part, chosen in splits(labels).items()
    }


def pairs(labels: Labels, judged: Sequence[Judged]) -> list[tuple[str, str, int, float | None, float | None]]:
    """How each pair of readers agrees: judges, people, and the annotators where the file has them."""
    from curator.judge.people import pairwise

    readers: dict[str, Sequence[bool | None]] = {"people": labels.rows["positive"].to_list()}
    readers |= {one.name: one.said for one in judged}
    found = pairwise(readers)
    if labels.rows["first"].null_count() < labels.rows.height:
        both = {"annotator 1": labels.rows["first"].to_list(), "annotator 2": labels.rows["second"].to_list()}
        found += pairwise(both)
    return found


def store(path: Path, labels: Labels, judged: Sequence[Judged], arms: Sequence[str] | None, root: Path | None) -> None:
    """Writes each judge's counts, sensitivity and specificity with the outcome that they are of and the labels' hash.

    Counts are by arm where the labels are of a run's answers, which is what correcting a difference needs.
    """
    from curator.judge.people import counts, measure

    people, prompts = labels.rows["positive"].to_numpy(), labels.rows["prompt"].to_list()

    def counted(one: Judged, arm: str | None) -> dict[str, Any]:
        chosen = [place for place in range(len(prompts)) if arm is None or (arms or [])[place] == arm]
        part = [one.said[place] for place in chosen], people[chosen], [prompts[place] for place in chosen]
        return counts(measure(one.name, labels.outcome, *part))

    write_json(
        path,
        {
            "version": VERSION,
            "outcome": labels.outcome,
            "run": None if root is None else Run.open(root).recipe.name,
            "labels": {
                "file": labels.file,
                "sha256": labels.digest,
                "rows": labels.rows.height,
                "excluded": labels.excluded,
                "unlabelled": labels.unlabelled,
            },
            "judges": [
                {
                    "name": one.name,
                    "told": one.section.told if one.section else "a column of the labels' file",
                    "settings": one.section.comparable() if one.section else None,
                    "revision": one.section.revision if one.section else None,
                    "cross_validated": one.unseen,
                    "all": counted(one, None),
                    "arms": {arm: counted(one, arm) for arm in sorted(set(arms or []))},
                }
                for one in judged
            ],
        },
    )


def as_json(found: Mapping[str, Sequence[Measured]]) -> dict[str, Any]:
    """The figures as plain values."""
    return {part: [asdict(one) for one in rows] for part, rows in found.items()}


VERSION = 1  # of the file that `curator judge measure --store` writes


def deciding_judge(run: Run) -> Judge | None:
    """The judge whose mistakes matter; null where a panel decides, whose mistakes nobody has measured."""
    judges = run.recipe.judges
    if judges.rule != "headline":
        return None
    return next(judge for judge in judges.panel if judge.name == judges.headline)


def read_stored(judge: Judge, file: str) -> dict[str, Any]:
    """What `curator judge measure --store` wrote of this judge: outcome, run, labels, and `judge`, its own counts."""
    path, key = Path(file), f"judges.panel.{judge.name}.error"
    again = "write it with `curator judge measure --store`"
    if not path.is_file():
        raise JudgeError(f"{key}: there is no file {file}; {again}")
    stored = read_json(path)
    if not isinstance(stored, dict) or stored.get("version") != VERSION or not isinstance(stored.get("judges"), list):
        raise JudgeError(f"{key}: {file} holds no measured judges of version {VERSION}; {again}")
    same = [one for one in stored["judges"] if one["settings"] == judge.comparable()]
    if not same:
        names = ", ".join(str(one["name"]) for one in stored["judges"]) or "none"
        raise JudgeError(f"{key}: {file} measures {names}, and none with the settings of {judge.name!r}; {again}")
    return {name: stored[name] for name in ("outcome", "run", "labels")} | {"judge": same[0]}
