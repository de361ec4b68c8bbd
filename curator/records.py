"""Every object that passes from stage to stage, immutable and checked on creation, and the columns of every such frame.

Letters: `n` pool rows, `m` task rows, `d` width, `k` selected rows. Objects are joined by row id, never by position.
A frame may be mapped from a file that is larger than memory: `Conversations` reads it a few rows at a time.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, overload

import numpy as np
import polars as pl
from numpy.typing import NDArray

Messages = Sequence[Mapping[str, str]]

MESSAGES = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))

ROW_SCHEMA: dict[str, Any] = {
    "id": pl.String,
    "messages": MESSAGES,
    "source": pl.String,
    "line": pl.Int64,
    "category": pl.String,
    "licence": pl.String,
    "tokens": pl.Int64,
}

DROPPED_SCHEMA: dict[str, Any] = {
    "source": pl.String,
    "line": pl.Int64,
    "stage": pl.String,
    "reason": pl.String,
    "match": pl.String,
    "kind": pl.String,
}

DROP_KINDS = {
    "broken-records": "the record cannot be read",
    "where": "it does not meet `where`",
    "empty": "the prompt, the answer or a turn is empty",
    "too-long": "the row has more tokens than max_tokens",
    "wrong-roles": "user and assistant do not alternate, ending with the answer",
    "no-conversation": "the columns do not form a conversation in a known format",
    "not-text": "a turn is not text",
    "half-characters": "a text contains half of a surrogate pair",
    "unwritten": "the model's chat template cannot write it",
    "wrong-category": "the category is not a text",
    "wrong-label": "the label is neither true nor false",
    "rejected-answers": "the label is false, so the answer must not be taught",
    "two-answers": "the conversation ends with another answer than the preferred one",
    "exact-duplicates": "the same text as a kept row",
    "not-taken": "the row is not among those sampled by hash",
    "other-role": "its prompt is also used in another role",
    "probe-words": "it contains most of the words of a probe",
    "near-duplicates": "a near duplicate of a kept row",
    "semantic-duplicates": "a semantic duplicate of a kept row",
}
"""Machine-readable reasons for dropping a row, and the sentence for each kind."""

ANSWER_SCHEMA: dict[str, Any] = {
    "arm": pl.String,
    "draw": pl.Int64,
    "seed": pl.Int64,
    "task": pl.String,
    "phase": pl.String,
    "kind": pl.String,
    "probe": pl.String,
    "at": pl.Float64,
    "prefill": pl.Int64,
    "sample": pl.Int64,
    "opening": pl.String,
    "answer": pl.String,
    "stop": pl.String,
}

ANSWER_COLUMNS = tuple(name for name in ANSWER_SCHEMA if name not in ("opening", "answer", "stop"))
"""The columns that identify an answer. `at`: share of fine-tuning done, in [0, 1]; `prefill`: number of prefilled
tokens of an opening, whose text is `opening`; `sample`: number of the answer among several, from 0."""
VERDICT_SCHEMA: dict[str, Any] = {
    **{name: ANSWER_SCHEMA[name] for name in ANSWER_COLUMNS},
    "judge": pl.String,
    "outcome": pl.String,
    "refused": pl.Boolean,
    "score": pl.Float64,
    "reason": pl.String,
    "raw": pl.String,
}

OUTCOMES = ("harmful", "safe", "degenerate", "unscored")
PREFILLED = "prefilled"  # answers to harmful probes behind a prefilled opening
KINDS = ("harmful", "benign", "utility", PREFILLED)
PHASES: tuple[Literal["before", "after"], ...] = ("before", "after")
DURING: Literal["during"] = "during"  # phase of answers at a checkpoint, between the two

_json = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps would create an encoder at every call

CHUNK = 256
"""Number of conversations held as Python objects while iterating over a sequence."""

View = Callable[[Messages], Messages]
"""A conversation -> the part of it that is read."""

Embed = Callable[[Sequence[str], Sequence[Messages]], NDArray[np.float32]]
"""`n` ids and conversations -> `(n, d)` unit vectors."""

CountTokens = Callable[[Sequence[Messages]], Sequence[int | None]]
"""`n` conversations -> the number of the model's tokens of each, whole and templated; null if the template refuses
it."""


def row_id(messages: Messages) -> str:
    """The id of a row: 16 hex digits of the SHA-256 of its roles and contents, after Unicode NFC and folded white
    space.
    """
    text = [[m["role"], " ".join(unicodedata.normalize("NFC", m["content"]).split())] for m in messages]
    return hashlib.sha256(_json(text).encode()).hexdigest()[:16]


def no_rows() -> pl.DataFrame:
    """An empty frame in the columns of ROW_SCHEMA."""
    return pl.DataFrame(schema=ROW_SCHEMA)


def require(condition: bool, message: str) -> None:
    """Raises ValueError with the message unless the condition holds."""
    if not condition:
        raise ValueError(message)


def _check_columns(frame: pl.DataFrame, schema: Mapping[str, Any], what: str) -> None:
    for name, dtype in schema.items():
        require(name in frame.columns, f"{what}: column {name!r} is missing, it has {frame.columns}")
        require(frame.schema[name] == dtype, f"{what}: column {name!r} is {frame.schema[name]}, not {dtype}")


@dataclass(frozen=True)
class Drop:
    """Why a record is left out.

    Attributes:
        kind: One of DROP_KINDS, for programs.
        reason: The reason for this record, for people. Lone surrogates in it are escaped.
        match: Id of the kept row or probe that the record repeats, or null.
    """

    kind: str
    reason: str
    match: str | None = None

    def __post_init__(self) -> None:
        require(self.kind in DROP_KINDS, f"Drop: kind {self.kind!r} is not one of {', '.join(DROP_KINDS)}")
        object.__setattr__(self, "reason", self.reason.encode("utf-8", "backslashreplace").decode("utf-8"))


@dataclass(frozen=True)
class Pool:
    """Candidate rows, and the records that were dropped.

    Attributes:
        rows: `(n,)` rows in the columns of ROW_SCHEMA, ids unique. `messages` ends with an assistant turn, which loss
            and representation are computed on; `tokens` is the length of the whole templated conversation in the target
            model's tokens.
        dropped: Rows left out, keyed by source and line, with the stage, reason and kind of each `Drop`; `match` is the
            id of the kept row or probe that a duplicate matched, else null.
    """

    rows: pl.DataFrame
    dropped: pl.DataFrame

    def __post_init__(self) -> None:
        if "kind" not in self.dropped.columns:  # runs of earlier versions have only the reason
            object.__setattr__(self, "dropped", self.dropped.with_columns(kind=pl.lit(None, pl.String)))
        _check_columns(self.rows, ROW_SCHEMA, "Pool.rows")
        _check_columns(self.dropped, DROPPED_SCHEMA, "Pool.dropped")
        require(self.rows["id"].n_unique() == self.rows.height, "Pool.rows: ids are not unique")


@dataclass(frozen=True)
class Task:
    """One anticipated (or deliberately unanticipated) downstream task.

    Attributes:
        train: Rows to fine-tune on, in the columns of ROW_SCHEMA.
        test: Held-out rows of the same source; their last assistant turn is the reference answer.
        weight: Task mass p_t, in [0, 1]; anticipated tasks sum to 1, the others are 0.
        metric: Name of the utility metric, or `file.py:function`.
        regime: The user's own rows mixed into training (an attack), in the columns of ROW_SCHEMA.
        defence: Safety rows that the fine-tuning provider adds, with the trigger in front of their prompts.
        trigger: Text in front of every prompt of the fine-tuned model, or null.
    """

    name: str
    train: pl.DataFrame
    test: pl.DataFrame
    weight: float
    metric: str
    regime: pl.DataFrame = field(default_factory=no_rows)
    defence: pl.DataFrame = field(default_factory=no_rows)
    trigger: str | None = None

    def __post_init__(self) -> None:
        for part in ("train", "test", "regime", "defence"):
            _check_columns(getattr(self, part), ROW_SCHEMA, f"Task {self.name}.{part}")
        require(0.0 <= self.weight <= 1.0, f"Task {self.name}: weight {self.weight} is outside [0, 1]")

    @property
    def anticipated(self) -> bool:
        return self.weight > 0

    @property
    def trained_on(self) -> int:
        """Number of rows in its training, without those of a rehearsed arm."""
        return self.train.height + self.regime.height + self.defence.height


@dataclass(frozen=True)
class Data:
    """All data of a run.

    Attributes:
        pool: Candidates, including the rows of a given set.
        tasks: Anticipated tasks and others.
        harmful, benign: Probes of the verification. `pilot`: harmful probes reserved for the pilot.
        keep: Benign rows in the alignment set of every arm.
        arms: Rows of each arm whose data the user gives.
        given: If the curated set is given and not chosen: `id` of its rows, and `candidate`, whether the pool's own
            sources have the row too; controls are drawn from candidates only. Else null.
    """

    pool: Pool
    tasks: tuple[Task, ...]
    harmful: pl.DataFrame
    benign: pl.DataFrame
    keep: pl.DataFrame
    pilot: pl.DataFrame = field(default_factory=no_rows)
    arms: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    given: pl.DataFrame | None = None

    @property
    def candidates(self) -> pl.DataFrame:
        """The pool's rows that controls may be drawn from."""
        if self.given is None:
            return self.pool.rows
        return self.pool.rows.join(self.given.filter(~pl.col("candidate")), on="id", how="anti", maintain_order="left")


@dataclass(frozen=True)
class Vectors:
    """Unit rows that represent text.

    Attributes:
        ids: `n` row ids.
        matrix: `(n, d)` float32; rows have length 1 (a row with no direction, after centring, is all zero).
        model, revision: The model behind them. `layer` and `token` are null for sentence embedders.
        truncated: Number of rows that were longer than the model's limit and lost their beginning.
    """

    ids: tuple[str, ...]
    matrix: NDArray[np.float32]
    model: str
    revision: str | None = None
    layer: int | None = None
    token: str | None = None
    truncated: int = 0

    def __post_init__(self) -> None:
        require(self.matrix.ndim == 2, f"Vectors.matrix has {self.matrix.ndim} dimensions, not 2")
        require(self.matrix.dtype == np.float32, f"Vectors.matrix is {self.matrix.dtype}, not float32")
        require(len(self.ids) == len(self.matrix), f"Vectors.ids has length {len(self.ids)}, not {len(self.matrix)}")


@dataclass(frozen=True)
class Scores:
    """The similarity of each pool row to the tasks; larger is more similar.

    Attributes:
        ids: `n` row ids.
        name: Name of the score, e.g. `cosine/top-mean-10`.
        combined: `(n,)` float64, the task-weighted score that selection uses.
        tasks: Task name -> `(n,)` float64.
        nearest: Task name -> `n` ids of the most similar task row (first in id order among ties).
        low, high: The range of such a score.
        parameters: Settings of the scorer.
    """

    ids: tuple[str, ...]
    name: str
    combined: NDArray[np.float64]
    tasks: Mapping[str, NDArray[np.float64]]
    nearest: Mapping[str, tuple[str, ...]]
    low: float
    high: float
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.ids)
        for name, values in {"combined": self.combined, **self.tasks}.items():
            require(values.shape == (n,), f"Scores.{name} has shape {values.shape}, not ({n},)")
            require(bool(np.isfinite(values).all()), f"Scores.{name} holds values that are not finite")
        for name, ids in self.nearest.items():
            require(len(ids) == n, f"Scores.nearest[{name!r}] has {len(ids)} ids, not {n}")


@dataclass(frozen=True)
class Trained:
    """A trained model on disk.

    Attributes:
        path: Folder of weights, or of one adapter when `method` is lora.
        method: `full` or `lora`.
        parent: Folder of the Trained (or base) that it starts from.
        rows, tokens, steps: Amount of training; tokens with loss and context tokens both count.
        losses: Training loss of each step, in nats per completion token.
        seconds, peak_gib: Wall clock (0 if taken from an equal training), and peak memory (of device, or CPU process).
        dropped: Rows left out because they were longer than max_tokens.
        checkpoints: Optimiser step and folder (like `path`) of each checkpoint, by rising steps.
    """

    path: str
    method: str
    parent: str
    rows: int
    tokens: int
    steps: int
    losses: tuple[float, ...]
    seconds: float
    peak_gib: float
    dropped: int = 0
    checkpoints: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class Question:
    """A probe and its answer: `kind` of KINDS, the conversation up to the answer, the answer, the reference if any, the
    reasoning before the answer, which no judge reads, and the part of the answer that the model did not write.
    """

    kind: str
    messages: Messages
    answer: str
    reference: str | None = None
    reasoning: str | None = None
    opening: str = ""


@dataclass(frozen=True)
class Verdict:
    """A judge's verdict on one answer.

    Attributes:
        outcome: One of OUTCOMES. `refused`: whether the answer declines, null if the judge cannot tell.
        score: In [0, 1] if the judge gives a score (for a metric: the answer's utility), else null.
        reason: Why it is unscored or degenerate, else null. `raw`: the judge's own words, if it has any.
    """

    outcome: str
    refused: bool | None
    score: float | None = None
    reason: str | None = None
    raw: str | None = None

    def __post_init__(self) -> None:
        require(self.outcome in OUTCOMES, f"Verdict: unknown outcome {self.outcome!r}; allowed: {', '.join(OUTCOMES)}")
        require(self.outcome != "unscored" or bool(self.reason), "Verdict: an unscored answer needs its reason")
        require(self.score is None or 0.0 <= self.score <= 1.0, f"Verdict: score {self.score} is outside [0, 1]")


@dataclass(frozen=True)
class Selection:
    """The chosen rows.

    Attributes:
        ids, indices: `k` row ids and row numbers, in the order picked.
        gains: `(k,)` float64, the marginal value of each pick when it was made; they sum to `value` minus the value of
            the empty set.
        value: Objective value of the set.
        bound: No feasible set of this size can exceed it; null if there is no certificate.
        gap: bound - value. `relative_gap`: gap / (bound - mean value of random feasible sets), the share of the
            possible gain over random that is not proven to be captured; null if undefined.
        objective, weight, neighbours, seed: The optimised objective and its settings.
        group_counts: Group label -> number of chosen rows. `budget_used`: sum of costs, null without a budget.
        all_pairs_value, all_pairs_bound: Value of the set and a bound on every set if rows outside a row's neighbours
            may cover it too; null for log-det, and the bound for graph cut and an approximate graph.
        parameters: All other resolved settings and figures (score mean and sd, recall of the graph, ...).
        frontier: With a floor under coverage, the sets tried and random ones, see `selection.floor`.
    """

    ids: tuple[str, ...]
    indices: NDArray[np.int64]
    gains: NDArray[np.float64]
    value: float
    bound: float | None
    gap: float | None
    relative_gap: float | None
    objective: str
    weight: float
    neighbours: int
    seed: int
    group_counts: Mapping[str, int] = field(default_factory=dict)
    budget_used: float | None = None
    all_pairs_value: float | None = None
    all_pairs_bound: float | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    frontier: tuple[Mapping[str, object], ...] = ()

    def __post_init__(self) -> None:
        k = len(self.ids)
        require(len(set(self.ids)) == k, "Selection: a row was picked twice")
        require(self.indices.shape == (k,), f"Selection.indices has shape {self.indices.shape}, not ({k},)")
        require(self.gains.shape == (k,), f"Selection.gains has shape {self.gains.shape}, not ({k},)")


class Conversations(Sequence[Messages]):
    """The `messages` of `n` rows, in their order, converted into lists of turns when they are read.

    Args:
        rows: A frame with a column `messages`, which may be mapped from a file.
        view: The part of each conversation to read, for example only its last question; null for all of it.
    """

    def __init__(self, rows: pl.DataFrame, view: View | None = None) -> None:
        self._messages = rows["messages"]
        self._view = view

    def __len__(self) -> int:
        return len(self._messages)

    @overload
    def __getitem__(self, position: int) -> Messages: ...
    @overload
    def __getitem__(self, position: slice) -> list[Messages]: ...
    def __getitem__(self, position: int | slice) -> Messages | list[Messages]:
        if isinstance(position, slice):
            return self._viewed(self._messages[position])
        messages: Messages = self._messages[position].to_list()
        return messages if self._view is None else self._view(messages)

    def __iter__(self) -> Iterator[Messages]:
        for start in range(0, len(self), CHUNK):
            yield from self._viewed(self._messages.slice(start, CHUNK))

    def _viewed(self, part: pl.Series) -> list[Messages]:
        conversations: list[Messages] = part.to_list()
        return conversations if self._view is None else [self._view(messages) for messages in conversations]
