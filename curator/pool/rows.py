"""The kept rows of one source: in Arrow's columns instead of Python objects, and not more than wanted.

So a source larger than memory can be read: beyond SPILL the text of kept rows is in a memory-mapped file, and memory
holds the start of each text, about 100 bytes per id, and the reasons for drops. Which of a row's categories counts is
known only at the end, because the rarest is determined over the whole source.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from curator.pool.turns import Turns
from curator.records import CHUNK as PART
from curator.records import DROPPED_SCHEMA, MESSAGES, ROW_SCHEMA, Conversations, CountTokens, Drop
from curator.run.files import mapped, save_mapped
from curator.run.folder import TEMPORARY
from curator.seeds import by_hash
from curator.wording import these

CHUNK, CHUNK_TEXT = 8192, 2**23
"""Most rows, and characters in them, held as Python objects before they become columns."""

SPILL = 2**24
"""Characters of a source that are held in memory before further text goes to a file."""

UNWRITTEN = "the model's chat template cannot write a conversation of these roles or this text"
"""The reason for dropping a row without a number of tokens."""

_NAMED = {**{name: kind for name, kind in ROW_SCHEMA.items() if name != "category"}, "named": pl.List(pl.String)}


class Row(NamedTuple):
    """A row that was kept: its id, line, turns, the categories it names, and its licence."""

    id: str
    line: int
    turns: Turns
    named: list[str]
    licence: str | None


class SourceRows:
    """The rows and drops of a source so far.

    Args:
        label: The `source` column.
        rows: The most rows wanted, chosen by hash of (seed, id); null for all.
        count_tokens, max_tokens: Given together, longer rows are dropped and `tokens` is filled.
        scratch: Folder for the text of a large source; its space is freed when the rows are released.
    """

    def __init__(
        self,
        label: str,
        *,
        rows: int | None,
        seed: int,
        count_tokens: CountTokens | None,
        max_tokens: int | None,
        scratch: Path,
    ) -> None:
        self.label, self._most_rows, self._seed = label, rows, seed
        self._count_tokens, self._max_tokens, self._scratch = count_tokens, max_tokens, scratch
        self._waiting_length = self._length = 0
        self._seen: set[int] = set()
        self._waiting: list[Row] = []
        self._frames: list[pl.DataFrame] = []
        self._drops: list[pl.DataFrame] = []
        self._waiting_drops: list[tuple[Any, ...]] = []
        self._category_counts: Counter[str] = Counter()
        self.total = 0
        self.first_broken: tuple[int, str] | None = None
        self.reasons: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()

    def drop(self, line: int, stage: str, drop: Drop) -> None:
        """Drops a record."""
        self.total += 1
        self._leave(line, stage, drop)
        if drop.kind == "broken-records":
            self.first_broken = self.first_broken or (line, drop.reason)

    def keep(self, row: Row) -> None:
        """Keeps a row unless its text has been kept before."""
        number = int(row.id, 16)  # an int takes half the memory of the text
        if number in self._seen:
            self.drop(row.line, "duplicate", Drop("exact-duplicates", "the same text as a kept row", row.id))
            return
        self.total += 1
        self._seen.add(number)
        self._category_counts.update(row.named)
        self._waiting.append(row)
        self._waiting_length += sum(len(turn["content"]) for turn in row.turns)
        if len(self._waiting) >= CHUNK or self._waiting_length >= CHUNK_TEXT:
            self._flush()

    @property
    def distinct(self) -> int:
        """Number of distinct texts that were kept, before long and surplus rows are dropped."""
        return len(self._seen)

    def finish(self, how: str) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The rows in the columns of ROW_SCHEMA, by id, and the dropped in those of DROPPED_SCHEMA, by line.

        Args:
            how: The rule for several categories, see `pick_category`.
        """
        self._flush()
        self._fit()
        rows = pl.concat([pl.DataFrame(schema=_NAMED), *self._frames])
        picked = pick_category(rows["named"].to_list(), how, self._category_counts)
        rows = rows.with_columns(pl.Series("category", picked, dtype=pl.String)).select(list(ROW_SCHEMA)).sort("id")
        return rows, pl.concat([pl.DataFrame(schema=DROPPED_SCHEMA), *self._drops, self._dropped()]).sort("line")

    def _leave(self, line: int, stage: str, drop: Drop) -> None:
        self.reasons[drop.reason] += 1
        self.kinds[drop.kind] += 1
        self._waiting_drops.append((line, stage, drop.reason, drop.match, drop.kind))
        if len(self._waiting_drops) >= CHUNK:
            self._drops.append(self._dropped())
            self._waiting_drops = []

    def _dropped(self) -> pl.DataFrame:
        rows = [(self.label, *drop) for drop in self._waiting_drops]
        return pl.DataFrame(rows, schema=DROPPED_SCHEMA, orient="row")

    def _flush(self) -> None:
        if not self._waiting:
            return
        frame = pl.DataFrame(
            {
                "id": [row.id for row in self._waiting],
                "messages": _messages([row.turns for row in self._waiting]),
                "source": [self.label] * len(self._waiting),
                "line": [row.line for row in self._waiting],
                "licence": [row.licence for row in self._waiting],
                "tokens": [None] * len(self._waiting),
                "named": [row.named for row in self._waiting],
            },
            schema=_NAMED,
        )
        self._length += self._waiting_length
        self._waiting, self._waiting_length = [], 0
        if self._count_tokens is not None and self._max_tokens is not None:
            frame = with_tokens(frame, self._count_tokens)
            for line in frame.filter(pl.col("tokens").is_null())["line"]:
                self._leave(line, "clean", Drop("unwritten", UNWRITTEN))
            for line, tokens in frame.filter(pl.col("tokens") > self._max_tokens).select("line", "tokens").iter_rows():
                reason = f"the row has {these(tokens, 'token', 'tokens')}, more than max_tokens ({self._max_tokens:,})"
                self._leave(line, "clean", Drop("too-long", reason))
            frame = frame.filter(pl.col("tokens") <= self._max_tokens)
        self._frames.append(frame if self._length < SPILL else _spilled(frame, self._scratch))
        held = sum(part.height for part in self._frames)
        if self._most_rows is not None and held > 2 * self._most_rows + CHUNK:
            self._fit()  # rarely enough that sorting by hash stays cheap

    def _fit(self) -> None:
        """Drops rows that later rows cannot bring back among those wanted."""
        if self._most_rows is None or not self._frames:
            return
        rows = pl.concat(self._frames)
        if rows.height > self._most_rows:
            chosen = rows["id"].is_in(list(by_hash(rows["id"], self._most_rows, seed=self._seed, purpose="rows")))
            for line in rows.filter(~chosen)["line"]:
                reason = f"not among the {these(self._most_rows, 'row', 'rows')} taken by hash"
                self._leave(line, "rows", Drop("not-taken", reason))
            rows = rows.filter(chosen)
        self._frames = [rows]


def with_tokens(rows: pl.DataFrame, count_tokens: CountTokens) -> pl.DataFrame:
    """The rows with `tokens` filled by the function, which takes `n` conversations and returns `n` counts."""
    texts = Conversations(rows)
    counts = [count for start in range(0, len(texts), PART) for count in count_tokens(texts[start : start + PART])]
    return rows.with_columns(pl.Series("tokens", counts, dtype=pl.Int64))


def _spilled(rows: pl.DataFrame, folder: Path) -> pl.DataFrame:
    """The same rows, with their text in an unlinked file, whose space is freed when it is no longer mapped."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".text.", suffix=TEMPORARY, dir=folder) as hidden:
        save_mapped(Path(hidden) / "rows.arrow", rows)
        return mapped(Path(hidden) / "rows.arrow")


def _messages(conversations: list[Turns]) -> pl.Series:
    # Through Arrow: polars infers a type for each conversation, at four times the cost.
    import pyarrow

    text = pyarrow.large_string()
    turns = pyarrow.large_list(pyarrow.struct([("role", text), ("content", text)]))
    return pl.Series("messages", pyarrow.array(conversations, type=turns), dtype=MESSAGES)


def category_candidates(field: object) -> list[str] | None:
    """The categories that a value names, in the data's order: a name, a list of names, or a mapping from name to
    true/false.

    Null if the value is none of these; an empty list if it names no category.
    """
    if field is None:
        return []
    if isinstance(field, list):
        named = [name for name in field if name is not None]
        return _not_empty(named) if all(isinstance(name, str) for name in named) else None
    if isinstance(field, dict):
        flags = all(isinstance(flag, bool | None) for flag in field.values())
        return _not_empty(name for name, flag in field.items() if flag) if flags else None
    if isinstance(field, str | int | float | Decimal):
        return _not_empty([str(field)])
    return None


def _not_empty(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in names if name.strip()))


def pick_category(rows: Sequence[Sequence[str]], how: str, counts: Mapping[str, int] | None = None) -> list[str | None]:
    """One category per row, null if it has none: its `first`, or the one that is `rarest` over all these rows.

    Ties go to the first in alphabetical order, so that the order of rows does not matter. If these rows are part of
    more rows, `counts` are the counts over all of them.
    """
    if how == "first":
        return [names[0] if names else None for names in rows]
    counts = Counter(name for names in rows for name in names) if counts is None else counts
    return [min(names, key=lambda name: (counts[name], name)) if names else None for names in rows]
