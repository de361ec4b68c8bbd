"""Reads everything that the recipe names into the pool, tasks, probes and keep rows, without overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from curator.errors import DataError
from curator.pool.decontaminate import ProbeIndex
from curator.pool.ledger import BENIGN, HARMFUL, TEST, Ledger, ReadAll
from curator.pool.near import Match, near_duplicates
from curator.pool.roles import defence_rows, halves, regime_rows
from curator.pool.rows import with_tokens
from curator.pool.semantic import semantic_duplicates
from curator.recipe.model import Instruction
from curator.recipe.pool import Decontaminate, PoolSection
from curator.recipe.probes import Probes
from curator.recipe.source import Source, of_regime
from curator.recipe.task import TaskSection
from curator.recipe.verify import Keep
from curator.records import Conversations, CountTokens, Data, Drop, Embed, Pool, Task, no_rows
from curator.represent.vectors import SentenceEmbedder
from curator.seeds import by_hash
from curator.wording import these

INSTRUCTIONS = "instructions"
"""Role of the rows that the base is tuned on."""


class Gathered(NamedTuple):
    """All data of a run, and the records that were dropped.

    Attributes:
        data: The pool, tasks, keep rows and probes, every frame sorted by id.
        dropped: Every record read that is in none of them, in the columns of `ledger.SCHEMA`: `role` is `pool`,
            `given`, `keep`, `task NAME`, `test of NAME`, `regime of NAME`, `defence of NAME`, `arm NAME`, `harmful
            probes` or `benign probes`. Stages are those of `sources.read`, then `duplicate` (across sources), `split`
            (it holds a test row's prompt), `leak` (its prompt belongs to an earlier role, or it contains a probe;
            `match` is the row there), `near` and `semantic` (duplicates; `match` is the kept row) and `rows` (not
            among those taken).
        resolved: Role -> `sources`, each as it was read, and `read`, `kept`, `dropped`, where read = kept + dropped
            (`task NAME` counts its train rows and the test rows split off from the same source as kept).
        uncompared: Number of candidates that were not compared by meaning, as the embedder reads only a part of them.
    """

    data: Data
    dropped: pl.DataFrame
    resolved: dict[str, Any]
    uncompared: int = 0


def gather(
    *,
    pool: PoolSection,
    tasks: Sequence[TaskSection],
    weights: Mapping[str, float],
    probes: Probes,
    keep: Keep | None,
    count_tokens: CountTokens,
    arms: Mapping[str, Source] | None = None,
    given: Source | None = None,
    drawn: bool = True,
    pilot_share: float | None = None,
    embed: Embed | None = None,
    seed: int = 0,
    scratch: Path | None = None,
    read_all: ReadAll | None = None,
) -> Gathered:
    """Everything that a run reads, each row in one role.

    Test rows are chosen first, by hash; then no task trains on a prompt of any task's test rows; training rows are
    chosen by hash. A prompt in several roles stays in the first of these: harmful probes, benign probes, tasks, pool
    (and beside it the user's own arms and what is mixed into tasks), keep rows. Prompts are the same if they are equal
    after Unicode NFC and folded white space. A conversation also contains the prompts of its earlier turns: no role has
    one that holds a probe or a test row's prompt (see `Ledger.unclaimed`). Training rows are also dropped if they
    contain most words of a probe (`pool.clean.decontaminate`). Then near and semantic duplicates are dropped from the
    pool.

    Args:
        pool, tasks, probes, keep: Sections of the recipe.
        weights: Task mass by name.
        arms: Arm -> source of the rows that the user gives for it.
        given: Source of the curated set if it is given and not chosen; its rows join the pool.
        drawn: Whether controls are drawn from the pool, which must then have rows beside the given set.
        pilot_share: Share of the harmful probes reserved for the pilot; null without a pilot.
        embed: `n` conversations -> `(n, d)` unit vectors, for semantic duplicates.
        count_tokens: `n` conversations -> `n` counts of the whole templated conversation in the model's tokens.
        seed: Seed of every choice by hash.
        scratch: Folder for the text of sources too large for memory; see `sources.read`.
        read_all: Reads several sources of a role; null to read them one after the other.

    Raises:
        DataError: A source cannot be read; a task, the keep rows or probes have fewer rows than the recipe says; no
            pool rows or no probes are left.
    """
    ledger = Ledger(seed, scratch=scratch, read_all=read_all)
    limits: dict[str, Any] = {"count_tokens": count_tokens, "max_tokens": pool.clean.max_tokens}
    candidates = ledger.read("pool", pool.sources, **limits)
    everything = {task.name: ledger.read(f"task {task.name}", [task.train]) for task in tasks}
    # The first role that claims a prompt keeps it, so from here on the order of the statements matters.
    harmful, benign, tests = claim_evaluation(ledger, tasks, everything, probes, pool.clean.decontaminate)
    trains = {task.name: train_rows(ledger, task, everything[task.name], tests[task.name]) for task in tasks}
    for name, rows in trains.items():
        ledger.claim(f"task {name}", rows)
    arm_rows = {
        name: ledger.unclaimed(f"arm {name}", ledger.read(f"arm {name}", [source], **limits), stage="leak")
        for name, source in (arms or {}).items()
    }
    for name, rows in arm_rows.items():
        refuse_empty(ledger, f"arm {name}", rows)
    regimes = {task.name: regime_rows(ledger, task, trains[task.name].height) for task in tasks}
    candidates = ledger.unclaimed("pool", candidates, stage="leak")
    refuse_empty(ledger, "pool", candidates)
    candidates = without_duplicates(ledger, candidates, pool, embed)
    candidates, given_rows = with_given(ledger, candidates, given, {**limits, "beside": pool.sources}, drawn=drawn)
    ledger.claim("pool", candidates)
    defences = {
        task.name: defence_rows(ledger, task, trains[task.name].height + regimes[task.name].height, candidates)
        for task in tasks
    }
    for kind, rows_of in {"arm": arm_rows, "regime of": regimes, "defence of": defences}.items():
        for name, rows in rows_of.items():
            ledger.claim(f"{kind} {name}", rows)
    to_keep = keep_rows(ledger, keep)
    pilot = no_rows()
    if pilot_share is not None:
        pilot, harmful = halves(
            harmful, {name: trains[name] for name, mass in weights.items() if mass > 0}, pilot_share, seed=seed
        )

    def counted(rows: pl.DataFrame) -> pl.DataFrame:
        return with_tokens(rows, count_tokens) if rows.height else rows

    data = Data(
        pool=Pool(candidates, ledger.drops(["pool"]).drop("role")),
        tasks=tuple(
            Task(
                task.name,
                counted(trains[task.name]),
                counted(tests[task.name]),
                weights[task.name],
                task.metric if isinstance(task.metric, str) else task.metric.python,
                counted(regimes[task.name]),
                counted(defences[task.name]),
                task.defence.trigger if task.defence else None,
            )
            for task in tasks
        ),
        harmful=harmful,
        benign=benign,
        keep=counted(to_keep),
        pilot=pilot,
        arms=arm_rows,
        given=given_rows,
    )
    resolved = {role: {"sources": ledger.sources[role], **ledger.counts(role)} for role in ledger.sources}
    return Gathered(data, ledger.drops(), resolved, ledger.uncompared)


def claim_evaluation(
    ledger: Ledger,
    tasks: Sequence[TaskSection],
    everything: Mapping[str, pl.DataFrame],
    probes: Probes,
    decontaminate: Decontaminate | None,
) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, pl.DataFrame]]:
    """Harmful and benign probes and the test rows of each task, which claim their prompts before any rows to train on:
    no task may train on another's test.

    Args:
        everything: Rows of each task's source by its name.

    Raises:
        DataError: There are too few.
    """
    harmful = probe_rows(ledger, HARMFUL, probes.harmful)
    ledger.claim(HARMFUL, harmful)
    benign = probe_rows(ledger, BENIGN, probes.benign)
    ledger.claim(BENIGN, benign)
    if decontaminate is not None:
        ledger.probes = probes_of([(HARMFUL, harmful), (BENIGN, benign)], decontaminate)
    tests = {task.name: test_rows(ledger, task, everything[task.name]) for task in tasks}
    for name, rows in tests.items():
        ledger.claim(TEST + name, rows)
    return harmful, benign, tests


def refuse_empty(ledger: Ledger, role: str, rows: pl.DataFrame) -> None:
    """Checks that a role has rows left.

    Raises:
        DataError: It has none; the message says why its rows were dropped.
    """
    if rows.is_empty():
        raise DataError(
            f"{role}: no rows left: {ledger.account(role)}; add sources, or remove what is in tasks or probes"
        )


def with_given(
    ledger: Ledger, candidates: pl.DataFrame, given: Source | None, limits: Mapping[str, Any], *, drawn: bool
) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """The pool with the rows of the given set, and for each of these (`id`) whether it was in the pool
    (`candidate`).
    """
    if given is None:
        return candidates, None
    rows = ledger.unclaimed("given", ledger.read("given", [given], **limits), stage="leak")
    refuse_empty(ledger, "given", rows)
    given_rows = rows.select("id", pl.col("id").is_in(candidates["id"].to_list()).alias("candidate"))
    already = given_rows["candidate"].sum()
    if drawn and (candidates.height - already < 1 or candidates.height < rows.height):
        raise DataError(
            f"given: the data set has {these(rows.height, 'row', 'rows')}, and the pool has {candidates.height:,} "
            f"({already:,} of them the same); controls of the same size are drawn from the pool, so add sources to it"
        )
    return pl.concat([candidates, rows.filter(~given_rows["candidate"])]).sort("id"), given_rows


def test_rows(ledger: Ledger, task: TaskSection, everything: pl.DataFrame) -> pl.DataFrame:
    """The held-out rows of a task, chosen by hash from `everything` in its source, or from the split it names.

    Raises:
        DataError: There are too few, or none would be left for training.
    """
    count, role = task.test.rows, f"task {task.name}"
    if task.test.split is None:
        if everything.height <= count:
            raise DataError(
                f"{role}: {these(count, 'test row', 'test rows')} leave none of the "
                f"{these(everything.height, 'row', 'rows')} of {task.train.label} to train on "
                f"({ledger.account(role)}); lower test.rows, or give more rows"
            )
        chosen = by_hash(everything["id"], count, seed=ledger.seed, purpose="test")
        return everything.filter(pl.col("id").is_in(list(chosen)))
    role = TEST + task.name
    rows = ledger.read(role, [task.train.model_copy(update={"split": task.test.split, "rows": None})])
    if rows.height < count:
        raise DataError(
            f"{role}: needs {these(count, 'row', 'rows')}, but the split {task.test.split!r} has {rows.height:,} "
            f"({ledger.account(role)}); set test.rows to at most {rows.height:,}"
        )
    return ledger.take(role, rows, count, purpose="test")


def train_rows(ledger: Ledger, task: TaskSection, everything: pl.DataFrame, test: pl.DataFrame) -> pl.DataFrame:
    """The rows that every arm is fine-tuned on, chosen by hash among those that are in no task's test rows and contain
    no probe.

    Raises:
        DataError: There are too few.
    """
    role = f"task {task.name}"
    rows = everything.join(test, on="id", how="anti") if task.test.split is None else everything
    rows = ledger.unclaimed(role, rows, stage="split")
    count = rows.height if task.rows is None else task.rows
    if task.rows is not None and task.regime is not None:
        count -= of_regime(task.rows, task.regime.share)
    if rows.height < max(count, 1):
        aside = test.height if task.test.split is None else 0
        raise DataError(
            f"{role}: needs {these(max(count, 1), 'training row', 'training rows')}, but {task.train.label} leaves "
            f"{rows.height:,} ({ledger.account(role)}; {aside:,} set aside for test); {_fewer(rows.height)}"
        )
    return ledger.take(role, rows, count, purpose="train")


def _fewer(left: int, key: str = "rows") -> str:
    """What to do if only so many rows are left."""
    if not left:
        return "give more rows, and none that another role takes first"
    return f"set {key} to at most {left:,}, or give more rows"


def keep_rows(ledger: Ledger, keep: Keep | None) -> pl.DataFrame:
    """The benign rows of every alignment set; none if the recipe has no `verify.keep`.

    Raises:
        DataError: There are too few.
    """
    if keep is None:
        return no_rows()
    rows = ledger.unclaimed("keep", ledger.read("keep", [keep.data]), stage="leak")
    if rows.height < keep.rows:
        raise DataError(
            f"keep: needs {these(keep.rows, 'row', 'rows')}, but {keep.data.label} leaves {rows.height:,} "
            f"({ledger.account('keep')}); {_fewer(rows.height, 'verify.keep.rows')}"
        )
    return ledger.take("keep", rows, keep.rows, purpose="keep")


def instruction_rows(ledger: Ledger, instruction: Instruction) -> pl.DataFrame:
    """The rows that the base is tuned on, chosen by hash among those that hold no prompt that `ledger` has claimed: no
    probe, and no test row's prompt.

    Raises:
        DataError: There are too few.
    """
    wanted = instruction.rows
    while True:
        source = instruction.data.model_copy(update={"rows": wanted})
        read = ledger.read(INSTRUCTIONS, [source])
        rows = ledger.unclaimed(INSTRUCTIONS, read, stage="leak")
        lacking = instruction.rows - rows.height
        if lacking <= 0 or read.height < wanted:
            break
        wanted += 2 * lacking  # more rows of the same order
    if lacking > 0:
        raise DataError(
            f"found {these(rows.height, 'usable row', 'usable rows')} in {instruction.data.label}, but rows is "
            f"{instruction.rows:,} ({ledger.account(INSTRUCTIONS)}); lower rows, or add data"
        )
    return ledger.take(INSTRUCTIONS, rows, instruction.rows, purpose="rows")


def probe_rows(ledger: Ledger, role: str, sources: Sequence[Source]) -> pl.DataFrame:
    """The probes of a kind, without those that an earlier role claims.

    Raises:
        DataError: A source has fewer probes than the recipe takes from it, or none are left.
    """
    if not sources:
        return no_rows()
    rows = ledger.read(role, sources, prompts_only=True)
    for source, resolved in zip(sources, ledger.sources[role], strict=True):
        if source.rows is not None and resolved["kept"] < source.rows:
            raise DataError(
                f"{role}: needs {these(source.rows, 'row', 'rows')} of {resolved['label']}, but found "
                f"{resolved['kept']:,}; {_fewer(resolved['kept'])}"
            )
    rows = ledger.unclaimed(role, rows, stage="leak")
    if rows.is_empty():
        raise DataError(
            f"{role}: no probes left: {ledger.account(role)}; give probes that are not among the harmful ones"
        )
    return rows


def probes_of(roles: Sequence[tuple[str, pl.DataFrame]], section: Decontaminate) -> ProbeIndex:
    """The index of probes by the recipe's settings."""
    return ProbeIndex(roles, ngram=section.ngram, overlap=section.overlap, shortest=section.shortest)


def without_duplicates(ledger: Ledger, rows: pl.DataFrame, pool: PoolSection, embed: Embed | None) -> pl.DataFrame:
    """The pool without near and semantic duplicates; of a pair the row of the earlier source stays, or the one with the
    lower id. Rows that the embedder reads only in part are not compared by it.

    Raises:
        DataError: The recipe drops semantic duplicates, but there is no embedder.
    """
    clean = pool.clean
    if clean.near_duplicates is not None:
        near = clean.near_duplicates
        ordered = _first_to_stay(ledger, rows)
        matches = near_duplicates(
            Conversations(ordered),
            threshold=near.jaccard,
            shingle=near.shingle,
            permutations=near.permutations,
            scratch=ledger.scratch,
        )
        rows = _leave(ledger, ordered, matches, "near", "a near duplicate of a kept row (Jaccard {:.3f})")
    if clean.semantic_duplicates is not None:
        if embed is None:
            raise DataError("pool.clean.semantic_duplicates: this needs an embedder; name one in pool.embedder")
        ordered = _first_to_stay(ledger, rows)
        ids, conversations = ordered["id"].to_list(), Conversations(ordered)
        if isinstance(embed, SentenceEmbedder):
            vectors, cut = embed.encode(ids, conversations)
            # What it read only in part may differ in the rest. A row of zeros is similar to none.
            vectors = np.where(cut[:, None], np.float32(0), vectors)
            ledger.uncompared = int(cut.sum())
        else:
            vectors = embed(ids, conversations)
        matches = semantic_duplicates(vectors, threshold=clean.semantic_duplicates)
        rows = _leave(ledger, ordered, matches, "semantic", "a semantic duplicate of a kept row (cosine {:.3f})")
    return rows


def _first_to_stay(ledger: Ledger, rows: pl.DataFrame) -> pl.DataFrame:
    order = {source["label"]: position for position, source in enumerate(ledger.sources["pool"])}
    return rows.sort(pl.col("source").replace_strict(order, return_dtype=pl.Int64), pl.col("id"))


def _leave(ledger: Ledger, rows: pl.DataFrame, matches: Sequence[Match], stage: str, reason: str) -> pl.DataFrame:
    drops: list[Drop | None] = [None] * rows.height
    ids = rows["id"].to_list()
    for match in matches:
        drops[match.row] = Drop(f"{stage}-duplicates", reason.format(match.similarity), ids[match.kept])
    return ledger.leave("pool", rows, drops, stage=stage)
