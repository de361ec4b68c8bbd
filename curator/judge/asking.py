"""Questions for judges, and what they have said already: no answer is judged twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl

from curator.records import VERDICT_SCHEMA, Asked, Data, Verdict
from curator.run.files import load_frame, save_frame
from curator.run.folder import key_of


def asked_of(answers: pl.DataFrame, data: Data) -> list[Asked]:
    """Every answer with the conversation that it answers, in the frame's order.

    A test row's last assistant turn is no part of the conversation but its reference.
    """
    frames = [data.harmful, data.benign, data.pilot, *(task.test for task in data.tasks)]
    turns = {one: said for frame in frames for one, said in zip(frame["id"], frame["messages"].to_list(), strict=True)}
    found = []
    for kind, probe, answer in answers.select("kind", "probe", "answer").iter_rows():
        said = turns[probe]
        known = said[-1]["content"] if said[-1]["role"] == "assistant" else None
        found.append(Asked(kind, said if known is None else said[:-1], answer, known))
    return found


def verdict_frame(answers: pl.DataFrame, judge: str, verdicts: Sequence[Verdict]) -> pl.DataFrame:
    """The verdicts on `answers`, one a row, in the columns of VERDICT_SCHEMA."""
    return answers.with_columns(
        pl.lit(judge).alias("judge"),
        *(
            pl.Series(name, [getattr(verdict, name) for verdict in verdicts], dtype=VERDICT_SCHEMA[name])
            for name in ("outcome", "refused", "score", "reason", "raw")
        ),
    ).select(list(VERDICT_SCHEMA))


CHUNK = 512  # answers between two savings; a guard model takes about a minute for them

_SAID = ("outcome", "refused", "score", "reason", "raw")

_SCHEMA = {"question": pl.String(), **{name: VERDICT_SCHEMA[name] for name in _SAID}}


def judged(
    asked: Sequence[Asked],
    judge: Callable[[Sequence[Asked]], list[Verdict]],
    folder: Path,
    *,
    progress: Callable[[int, int], None],
) -> list[Verdict]:
    """The verdict on every answer, in order; only answers that `folder` does not know are put to the judge.

    Equal answers to the same prompt are put once, in the order of their hashes, CHUNK at a time, each chunk saved when
    it is done.

    Args:
        judge: From `judging`.
        folder: Of this judge and these settings alone; it grows.
        progress: Told of (distinct answers judged, distinct answers).
    """
    keys = [question_key(one) for one in asked]
    known = _read(folder)
    new = {key: one for key, one in zip(keys, asked, strict=True) if key not in known}
    order, total = sorted(new), len(set(keys))
    progress(total - len(order), total)
    for start in range(0, len(order), CHUNK):
        part = order[start : start + CHUNK]
        verdicts = judge([new[key] for key in part])
        _add(folder, part, verdicts)
        known.update(zip(part, verdicts, strict=True))
        progress(total - len(order) + start + len(part), total)
    return [known[key] for key in keys]


def question_key(one: Asked) -> str:
    """A hash of everything that a judge is shown."""
    return key_of(one.kind, one.messages, one.answer, one.reference)


def _read(folder: Path) -> dict[str, Verdict]:
    return {
        key: Verdict(*said)
        for part in sorted(folder.glob("*.parquet"))
        for key, *said in load_frame(part).select(list(_SCHEMA)).iter_rows()
    }


def _add(folder: Path, keys: Sequence[str], verdicts: Sequence[Verdict]) -> None:
    rows = [(key, *(getattr(verdict, name) for name in _SAID)) for key, verdict in zip(keys, verdicts, strict=True)]
    place = len(list(folder.glob("*.parquet")))
    save_frame(folder / f"{place:05d}.parquet", pl.DataFrame(rows, schema=_SCHEMA, orient="row"))
