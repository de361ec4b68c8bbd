"""Reads sources by role, and records every dropped row with its reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from curator.pool.decontaminate import ProbeIndex
from curator.pool.sources import Read, read
from curator.pool.words import TELLING, Claims, claims_of, ids_with_system, prompt_id, prompt_ids
from curator.recipe.source import Source, labels
from curator.records import DROPPED_SCHEMA, ROW_SCHEMA, Conversations, CountTokens, Drop, Messages
from curator.seeds import by_hash
from curator.wording import these

SCHEMA = {"role": pl.String, **DROPPED_SCHEMA}
TEST = "test of "
"""Start of the roles of held-out rows, before the task's name."""
HARMFUL, BENIGN = PROBES = ("harmful probes", "benign probes")
AGAIN = Drop("exact-duplicates", "the same text as a kept row of an earlier source")


@dataclass(frozen=True)
class Reading:
    """One source to read: the source, its label in the `source` column, and other arguments of `sources.read`;
    `limited` says whether `count_tokens` is passed.
    """

    source: Source
    label: str
    prompts_only: bool
    seed: int
    scratch: Path | None
    limited: bool
    max_tokens: int | None


def read_one(reading: Reading, count_tokens: CountTokens | None, base: Path = Path(".")) -> Read:
    """The result of reading a source; `base` is the folder that a relative path starts from. Raises like
    `sources.read`.
    """
    return read(
        reading.source, prompts_only=reading.prompts_only, base=base, seed=reading.seed, label=reading.label,
        count_tokens=count_tokens, max_tokens=reading.max_tokens, scratch=reading.scratch,
    )  # fmt: skip


ReadAll = Callable[[Sequence[Reading]], Sequence[Read]]
"""Reads several sources at once, elsewhere; returns their results in order."""


@dataclass
class Ledger:
    """What was read and what was dropped, by role.

    Attributes:
        seed: Seed of choices by hash.
        sources: Role -> its sources as they were read.
        dropped: Role -> frames of dropped rows, in the columns of DROPPED_SCHEMA.
        claims: Prompts of the roles so far, each with the role that had it first.
        tested: The whole prompts of test rows so far, likewise.
        scratch: Folder for the text of large sources.
        read_all: Reads the sources of a role; null to read them here, one after the other.
        uncompared: Number of the pool's rows that the embedder reads only in part.
        probes: Probes that no row of a later role may contain, by shared words; null if only equal prompts count.
    """

    seed: int
    sources: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    dropped: dict[str, list[pl.DataFrame]] = field(default_factory=dict)
    claims: Claims = field(default_factory=dict)
    tested: Claims = field(default_factory=dict)
    probes: ProbeIndex | None = None
    scratch: Path | None = None
    read_all: ReadAll | None = None
    uncompared: int = 0

    def read(self, role: str, sources: Sequence[Source], **options: Any) -> pl.DataFrame:
        """Rows of all the sources of a role, sorted by id, each id once: the first source that has it keeps it.

        Two sources with the same label become `name` and `name#2`, also if the first is one of `beside`, sources of
        another role whose rows they join. Other options go to `sources.read`.
        """
        frames = [pl.DataFrame(schema=ROW_SCHEMA)]
        self.sources[role], self.dropped[role] = [], []
        for result in self._read_each(sources, **options):
            self.sources[role].append(result.resolved)
            self.dropped[role].append(result.dropped)
            frames.append(result.rows)
        rows = pl.concat(frames)
        again = ~rows["id"].is_first_distinct()
        return self._leave_out(role, rows, again, "duplicate", AGAIN, match="id")

    def _read_each(
        self,
        sources: Sequence[Source],
        *,
        beside: Sequence[Source] = (),
        prompts_only: bool = False,
        count_tokens: CountTokens | None = None,
        max_tokens: int | None = None,
    ) -> Iterable[Read]:
        limited = count_tokens is not None
        readings = [
            Reading(source, label, prompts_only, self.seed, self.scratch, limited, max_tokens)
            for source, label in zip(sources, labels([*beside, *sources])[len(beside) :], strict=True)
        ]
        if self.read_all is not None and len(readings) > 1:
            return self.read_all(readings)
        return (read_one(reading, count_tokens) for reading in readings)

    def claim(self, role: str, rows: pl.DataFrame) -> None:
        """Claims the prompts of these rows for the role, unless an earlier role has them."""
        self.claims = claims_of(role, rows) | self.claims
        if role.startswith(TEST):
            rows_of = zip(rows["id"], Conversations(rows), strict=True)
            self.tested = {prompt_id(messages): (role, row) for row, messages in rows_of} | self.tested

    def unclaimed(self, role: str, rows: pl.DataFrame, *, stage: str) -> pl.DataFrame:
        """The rows whose prompt no role has claimed, and whose turns contain no probe and no prompt of a test row.

        A row with the prompt of a test or training row is dropped at `stage`, a row with a probe as a leak. A test
        row's whole prompt is looked for at every turn, alone and with all earlier turns, but at turns of fewer than
        TELLING words not alone.
        """
        conversations = Conversations(rows)
        leaks = [self._probe_claimed(messages) for messages in conversations]
        if self.probes is not None:
            for row, leak in enumerate(self.probes.leaks(conversations)):
                if leak is not None and leaks[row] is None:
                    reason = f"it holds {leak.overlap:.0%} of the words of a probe in: {leak.role}"
                    leaks[row] = Drop("probe-words", reason, leak.probe)
        rows = self.leave(role, rows, leaks, stage="leak")
        return self.leave(role, rows, [self._claimed_before(turns) for turns in Conversations(rows)], stage=stage)

    def _claimed_before(self, messages: Messages) -> Drop | None:
        role, row = self.claims.get(prompt_id(messages), ("", ""))
        if role:
            return Drop("other-role", f"its prompt also stands in: {role}", row)
        if sum(turn["role"] == "user" for turn in messages) == 1:
            return None
        for prompt in sorted(prompt_ids(messages, least=TELLING)):
            role, row = self.tested.get(prompt, ("", ""))
            if role:
                return Drop("other-role", f"one of its prompts also stands in: {role}", row)
        return None

    def _probe_claimed(self, messages: Messages) -> Drop | None:
        for prompt in sorted(prompt_ids(messages) | ids_with_system(messages)):
            role, probe = self.claims.get(prompt, ("", ""))
            if role in PROBES:
                return Drop("other-role", f"its prompt also stands in: {role}", probe)
        return None

    def leave(self, role: str, rows: pl.DataFrame, drops: Sequence[Drop | None], *, stage: str) -> pl.DataFrame:
        """The rows without a drop; the others are recorded with the reason of their drop."""
        why = {
            name: pl.Series(name, [drop and getattr(drop, name) for drop in drops], dtype=pl.String)
            for name in ("reason", "match", "kind")
        }
        leaving = why["kind"].is_not_null()
        left = rows.select("source", "line", pl.lit(stage).alias("stage")).with_columns(**why).filter(leaving)
        self.dropped[role].append(left)
        return rows.filter(~leaving).sort("id")

    def take(self, role: str, rows: pl.DataFrame, count: int, *, purpose: str) -> pl.DataFrame:
        """`count` of the rows, chosen by hash."""
        chosen = rows["id"].is_in(list(by_hash(rows["id"], count, seed=self.seed, purpose=purpose)))
        return self._leave_out(
            role, rows, ~chosen, "rows", Drop("not-taken", f"not among the {these(count, 'row', 'rows')} taken by hash")
        )

    def drops(self, roles: Iterable[str] | None = None) -> pl.DataFrame:
        """Rows dropped in these roles (null: all), in the columns of SCHEMA."""
        frames = [pl.DataFrame(schema=SCHEMA)]
        for role in self.dropped if roles is None else roles:
            frames += [frame.select(pl.lit(role).alias("role"), *DROPPED_SCHEMA) for frame in self.dropped[role]]
        return pl.concat(frames)

    def counts(self, role: str) -> dict[str, int]:
        """The number of a role's records that were `read`, `kept` and `dropped`, where read = kept + dropped."""
        total = sum(source["read"] for source in self.sources[role])
        dropped = sum(frame.height for frame in self.dropped[role])
        return {"read": total, "kept": total - dropped, "dropped": dropped}

    def account(self, role: str) -> str:
        """A summary of a role's records for messages: "999 read; dropped: 14 duplicate, 200 rows"."""
        stages = self.drops([role]).group_by("stage", maintain_order=True).len().rows()
        dropped = ", ".join(f"{count:,} {stage}" for stage, count in stages)
        return f"{self.counts(role)['read']:,} read; dropped: {dropped or 'none'}"

    def _leave_out(
        self, role: str, rows: pl.DataFrame, which: pl.Series, stage: str, drop: Drop, *, match: str | None = None
    ) -> pl.DataFrame:
        """The rows without `which`, which are dropped for one reason; `match` is the column with their matches."""
        left = rows.filter(which).select(
            "source",
            "line",
            pl.lit(stage).alias("stage"),
            pl.lit(drop.reason).alias("reason"),
            (pl.lit(None, pl.String) if match is None else pl.col(match)).alias("match"),
            pl.lit(drop.kind).alias("kind"),
        )
        self.dropped[role].append(left)
        return rows.filter(~which).sort("id")
