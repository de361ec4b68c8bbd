"""Reads one source of a recipe into rows, and says of every other record why it is none."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from curator.errors import DataError
from curator.pool import categories, columns, hub, shapes
from curator.pool.choose import by_hash
from curator.pool.files import Record
from curator.pool.files import records as file_records
from curator.pool.fingerprint import content, fingerprint, locate
from curator.pool.turns import Turns, UnusableError, check_text
from curator.recipe_source import Source
from curator.records import DROPPED_SCHEMA, ROW_SCHEMA, row_id

CountTokens = Callable[[list[Turns]], list[int]]
Drop = tuple[int, str, str, str | None]

SAMPLE = 1000
"""Records looked at for the shape and the columns, before the rest is read."""


class Read(NamedTuple):
    """What a source gave.

    Attributes:
        rows: Rows in the columns of ROW_SCHEMA, sorted by id, ids unique; `tokens` null unless they were counted.
        dropped: Every other record in the columns of DROPPED_SCHEMA, sorted by line. Stages: `source` (unreadable),
            `where`, `clean` (no conversation, empty, too long), `duplicate` (`match` is the kept row's id), `rows` (not
            among those taken).
        resolved: What was read: the file's sha256 and bytes, or the data set's commit, or the sandbox's version; the
            columns used; `read`, `kept` and `dropped`, where read = kept + dropped.
    """

    rows: pl.DataFrame
    dropped: pl.DataFrame
    resolved: dict[str, Any]


class _Kept(NamedTuple):
    line: int
    turns: Turns
    categories: list[str]
    licence: str | None


def read(
    source: Source,
    *,
    prompts_only: bool = False,
    base: Path = Path("."),
    seed: int = 0,
    label: str | None = None,
    count_tokens: CountTokens | None = None,
    max_tokens: int | None = None,
) -> Read:
    """Rows of a source: filtered, recognised, checked, without exact duplicates, and at most `source.rows` of them.

    Args:
        source: What to read.
        prompts_only: Rows end with a user turn (probes); answers in the data are left aside.
        base: Folder that a relative path starts from.
        seed: Of the choice of `source.rows`, which goes by hash of (seed, id).
        label: The `source` column, where the source's own label would stand for two sources.
        count_tokens, max_tokens: Given together, rows of more tokens than that are dropped and `tokens` is filled.

    Raises:
        DataError: The source cannot be read, is empty, has more than `source.broken` unreadable records, lacks a column
            that the recipe names, has no recognised shape, or gives no row at all.
    """
    label = label or source.label
    stream, commit = _open(source, base)
    sample = list(itertools.islice(stream, SAMPLE))
    first = _readable(sample, label)
    columns.require(source.where, first, label, "where")
    fields = shapes.recognise(first, source, prompts_only=prompts_only, label=label)
    category = _category_column(source, first, label)
    turns_of = shapes.conversations(fields, source, prompts_only=prompts_only)
    unmet = columns.matches(source.where)

    kept: dict[str, _Kept] = {}
    drops: list[Drop] = []
    for line, row in itertools.chain(sample, stream):
        if isinstance(row, str):
            drops.append((line, "source", row, None))
        elif (reason := unmet(row)) is not None:
            drops.append((line, "where", reason, None))
        else:
            try:
                turns, named = turns_of(row), _named(row, category)
            except UnusableError as error:
                drops.append((line, "clean", str(error), None))
                continue
            row_key = row_id(turns)
            if row_key in kept:
                drops.append((line, "duplicate", "the same text as a kept row", row_key))
            else:
                kept[row_key] = _Kept(line, turns, named, source.licence or _licence(row))
    total = len(kept) + len(drops)
    _refuse_broken(drops, total, source, label)
    if source.where and not kept and all(stage == "where" for _, stage, _, _ in drops):
        columns.refuse_nothing_kept(source.where, first, label, total)
    rows = _frame(kept, label, source.category.pick if source.category else "first")
    if count_tokens is not None and max_tokens is not None and not rows.is_empty():
        rows = with_tokens(rows, count_tokens)
        drops += _drop_long(rows, max_tokens)
        rows = rows.filter(pl.col("tokens") <= max_tokens)
    if source.rows is not None and rows.height > source.rows:
        taken = by_hash(rows["id"], source.rows, seed=seed, purpose="rows")
        reason = f"not among the {source.rows:,} rows taken by hash"
        drops += [(line, "rows", reason, None) for line in rows.filter(~pl.col("id").is_in(list(taken)))["line"]]
        rows = rows.filter(pl.col("id").is_in(list(taken)))
    if rows.is_empty():
        raise DataError(f"{label}: none of its {total:,} rows can be used: {_commonest(drops)}")
    origin = content(fingerprint(source, base)) | ({"commit": commit} if commit else {})
    resolved = {**origin, "label": label, "columns": {**fields, **({"category": category} if category else {})}}
    counts = {"read": total, "kept": rows.height, "dropped": len(drops)}
    return Read(rows, _dropped_frame(drops, label), {**resolved, **counts})


def with_tokens(rows: pl.DataFrame, count_tokens: CountTokens) -> pl.DataFrame:
    """The rows with `tokens` filled by the function, which takes `n` conversations and returns `n` counts."""
    return rows.with_columns(pl.Series("tokens", count_tokens(rows["messages"].to_list()), dtype=pl.Int64))


def _open(source: Source, base: Path) -> tuple[Iterator[Record], str | None]:
    if source.file is not None:
        return file_records(locate(source.file, base)), None
    if source.hub is not None:
        commit = hub.resolve(source)
        return hub.records(source, commit), commit
    from curator import sandbox

    if source.sandbox not in sandbox.NAMES:
        raise DataError(
            f"sandbox: {source.sandbox!r} is no data set of the sandbox; allowed: {', '.join(sandbox.NAMES)}"
        )
    return iter(enumerate(sandbox.rows(str(source.sandbox)), 1)), None


def _readable(sample: Sequence[Record], label: str) -> list[dict[str, Any]]:
    if not sample:
        raise DataError(f"{label}: holds no rows; check the file, or remove the source")
    found = [row for _, row in sample if not isinstance(row, str)]
    if not found:
        line, reason = sample[0]
        raise DataError(f"{label}: none of its first {len(sample):,} records can be read; line {line}: {reason}")
    return found


def _refuse_broken(drops: Sequence[Drop], total: int, source: Source, label: str) -> None:
    broken = [drop for drop in drops if drop[1] == "source"]
    if len(broken) > source.broken * total:
        line, _, reason, _ = broken[0]
        raise DataError(
            f"{label}: {len(broken):,} of {total:,} records cannot be read, more than the share of {source.broken:g} "
            f"that `broken` allows; the first is line {line}: {reason}; mend the file, or raise `broken`"
        )


def _category_column(source: Source, sample: Sequence[dict[str, Any]], label: str) -> str | None:
    if source.category is not None:
        columns.require([source.category.column], sample, label, "category")
        return source.category.column
    usable = all(categories.candidates(row.get("category")) is not None for row in sample)
    return "category" if usable and any("category" in row for row in sample) else None


def _named(row: dict[str, Any], category: str | None) -> list[str]:
    if category is None:
        return []
    named = categories.candidates(columns.value(row, category))
    if named is None:
        raise UnusableError(f"{category} is no name, no list of names and no mapping from name to true or false")
    for name in named:
        check_text(name)
    return named


def _licence(row: dict[str, Any]) -> str | None:
    return next((row[name] for name in ("licence", "license") if isinstance(row.get(name), str)), None)


def _frame(kept: dict[str, _Kept], label: str, how: str) -> pl.DataFrame:
    data = {
        "id": list(kept),
        "messages": _messages([row.turns for row in kept.values()]),
        "source": [label] * len(kept),
        "line": [row.line for row in kept.values()],
        "category": categories.pick([row.categories for row in kept.values()], how),
        "licence": [row.licence for row in kept.values()],
        "tokens": [None] * len(kept),
    }
    return pl.DataFrame(data, schema=ROW_SCHEMA).sort("id")


def _messages(conversations: list[Turns]) -> pl.Series:
    # Through Arrow: polars itself infers a type for each conversation anew, at four times the cost.
    import pyarrow

    text = pyarrow.large_string()
    turns = pyarrow.large_list(pyarrow.struct([("role", text), ("content", text)]))
    return pl.Series("messages", pyarrow.array(conversations, type=turns))


def _dropped_frame(drops: Sequence[Drop], label: str) -> pl.DataFrame:
    rows = [(label, line, stage, reason, match) for line, stage, reason, match in drops]
    return pl.DataFrame(rows, schema=DROPPED_SCHEMA, orient="row").sort("line")


def _drop_long(rows: pl.DataFrame, max_tokens: int) -> list[Drop]:
    long = rows.filter(pl.col("tokens") > max_tokens)
    return [
        (line, "clean", f"the row has {tokens:,} tokens, more than max_tokens ({max_tokens:,})", None)
        for line, tokens in zip(long["line"], long["tokens"], strict=True)
    ]


def _commonest(drops: Sequence[Drop]) -> str:
    reasons = Counter(reason for _, _, reason, _ in drops).most_common(3)
    return "; ".join(f"{reason} ({count:,})" for reason, count in reasons)
