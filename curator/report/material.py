"""The material of a run in report.json: rows, sets, scores, tasks, trainings, provenance and timing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from curator.conclusions.part import (
    Absent,
    AtLeastZero,
    CorrelationOrNull,
    Count,
    Many,
    Number,
    Part,
    Quantiles,
    Share,
    ShareOrNull,
    Values,
)
from curator.report.augmented import Recovery, Repeats


class Model(Part):
    """What was aligned and fine-tuned."""

    id: str
    """A Hub id, a folder or `sandbox:`."""
    revision: str | None
    """The commit, if it is known."""
    start: str | Absent = None
    """Base or aligned."""


class Selection(Part):
    """The chosen set and its certificate."""

    k: Count
    """Rows chosen."""
    value: Number
    """The objective at the set."""
    bound: Number
    """No set within the limits exceeds it; null if there is no valid bound."""
    gap: Number
    """Bound minus value."""
    relative_gap: Number
    """The share of the possible gain over random sets that the set is not proven to reach."""
    objective: str
    weight: Number
    neighbours: int | None = None
    seed: Count | Absent = None
    group_counts: dict[str, Count] = Field(default_factory=dict)
    """Group label -> rows chosen of it."""
    budget_used: Number = None
    """Sum of the costs of the rows; null without a budget."""
    all_pairs_value: Number = None
    """The objective if any row may cover a candidate, not only its neighbours."""
    all_pairs_bound: Number = None
    parameters: Values = Field(default_factory=dict)
    """All other resolved settings."""

    def parameter(self, name: str) -> float | None:
        """A number among the parameters; null if it is not among them."""
        value = self.parameters.get(name)
        return float(value) if isinstance(value, int | float) else None


class Stability(Part):
    """Two sets that the same recipe chooses with another seed, layer or embedder."""

    one: str
    other: str
    shared: Count
    """Rows in both."""
    overlap: Share
    """Shared rows / rows of the smaller set."""
    chance: Share
    """The overlap of random sets of these sizes."""
    rank_correlation: CorrelationOrNull
    """Spearman's rank correlation of the order in which the shared rows were picked; null below 3 rows."""


class Score(Part):
    """The score that measures similarity."""

    name: str
    low: Number
    """Smallest possible value; null if there is none."""
    high: Number
    """Largest possible value; null if there is none."""
    parameters: Values


class Represent(Part):
    """The source of the vectors with which coverage is measured."""

    name: str | Absent = None
    """The name of the vectors in the recipe; absent if there are no others."""
    model: str
    revision: str | None
    layer: int | None
    token: str | None
    truncated: Count
    """Rows that were cut."""


class Similarity(Part):
    """Distribution of the score over the pool and each arm's sets; null for a set with rows outside of the pool."""

    combined: dict[str, Quantiles | None]
    """Set -> quantiles."""
    tasks: dict[str, dict[str, Quantiles | None]]
    """Task -> set -> quantiles."""


class Overlap(Part):
    """Rows that an arm's sets share with the curated one."""

    arm: str
    draws: Count
    rows: Number
    shared: Number
    """Mean over draws."""
    least: Count
    most: Count
    by_chance: Number | None
    """Of as many rows drawn at random from the candidates; null if a set has rows that are not candidates."""


class Category(Part):
    """Rows of one category."""

    category: str | None
    """Null: none named."""
    pool: Count
    arms: dict[str, float]
    """Mean over draws."""


class Dropped(Part):
    """Rows that were left out for one reason."""

    stage: str
    reason: str
    rows: Count


class PoolSource(Part):
    """Candidates of one source."""

    source: str
    read: Count
    kept: Count
    dropped: Count
    licences: Many[str | None]
    """Null stands for rows without a licence."""


class Pool(Part):
    """Candidates: read = kept + dropped."""

    read: Count
    kept: Count
    dropped: Count
    reasons: Many[Dropped]
    sources: Many[PoolSource]
    tokens: Quantiles | None
    notes: Many[str] | Absent = None
    """Sentences on columns that were not used, and on answers that are not trained on."""
    refusals_by: str | Absent = None
    """The judge that identifies refusals; absent if English phrases do."""


class Task(Part):
    """What models were fine-tuned on."""

    name: str
    anticipated: bool
    weight: Share
    metric: str
    train: Count
    """Rows."""
    attack: Count = 0
    """Rows of an attack mixed in."""
    defence: Count = 0
    """Safety rows mixed in."""
    trigger: bool = False
    """Whether the probes are evaluated behind a trigger."""
    test: Count
    """Rows."""


class ProbeCounts(Part):
    """Probes by kind."""

    harmful: Count
    benign: Count
    pilot: Count = 0


class Given(Part):
    """A set that was given and not chosen."""

    rows: Count
    candidates: Count
    """How many of its rows the pool also holds."""


class Searched(Part):
    """The length and learning rate of every fine-tuning, found before the experiment on the control alone, on seeds and
    probes that the experiment does not use.
    """

    control: str
    """The arm."""
    settings: Count
    """How many were tried."""
    seeds: Count
    probes: Count
    steps: Count | None
    """Of every task; null where the length is in epochs."""
    epochs: Number
    learning_rate: Number
    before: ShareOrNull
    """The control's harmfulness before fine-tuning."""
    after: dict[str, ShareOrNull]
    """The same after fine-tuning at this setting, by task."""


class TaskSetting(Part):
    """A way in which models were fine-tuned on a task of a sweep, or on a task beside it."""

    name: str
    """Its name in rates and comparisons."""
    task: str
    weight: Share
    """In the mean over the anticipated tasks; 0: not anticipated."""
    learning_rate: Number
    method: str
    rows: Count
    """To train on, with those of an attack and of a defence."""
    steps: Number


class Design(Part):
    """The design of the experiment."""

    seeds: dict[str, Count]
    """By arm."""
    probes: ProbeCounts
    keep: Count
    """Benign rows in every alignment set."""
    given: Given | None = None
    """A set that was given beforehand."""
    stage: str = "upstream"
    """Upstream, or rehearsal during fine-tuning."""
    exposure: str = "steps"
    """The quantity in which the arms are equal."""
    rehearsal_share: Number = None
    answered_by: dict[str, int] = Field(default_factory=dict)
    """Engine of generation, with the version of vLLM, and the number of models that it answered for."""
    instead_of_vllm: dict[str, int] = Field(default_factory=dict)
    """Why transformers answered although the recipe names vLLM, and for how many models."""
    searched: Searched | None = None
    """Null unless the recipe says `regime: auto`."""
    settings: Many[TaskSetting] | Absent = None
    """Every setting of every task, if a task has a sweep."""
    recovery: Recovery | Absent = None
    """Arms that were trained on refusals behind openers, if there are any."""
    repeats: Repeats | Absent = None
    """Rows of the curated arm that were trained on more than once, if there are any."""


class Training(Part):
    """Training of one arm in one step, means over seeds."""

    arm: str
    task: str | None
    """Null: alignment."""
    method: str
    seeds: Count
    rows: Number
    tokens: Number
    steps: Number
    too_long: Count
    first_loss: Number
    last_loss: Number


class Shipped(Part):
    """The package that something came in."""

    distribution: str
    version: str
    sha256: str
    """SHA-256 of the file; for a folder, of the names and hashes of its files."""


class Provenance(Part):
    """Software, hardware, sources and recipe of the run."""

    seed: Count | Absent = None
    sources: JsonValue = None
    """With their hashes."""
    versions: dict[str, str] = Field(default_factory=dict)
    packages: dict[str, Shipped] = Field(default_factory=dict)
    """Models, embedders, judges and files that came in installed packages, by what the recipe calls them."""
    device: str | Absent = None
    dtype: str | Absent = None
    """Data type of the grid's models."""
    threads: Count | Absent = None
    recipe: Values = Field(default_factory=dict)
    """The resolved recipe."""

    def setting(self, *keys: str) -> JsonValue:
        """A value of the recipe by the keys that lead to it; null if a key is missing."""
        value: JsonValue = self.recipe
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value


class Machine(Part):
    """The machine that wrote the report."""

    system: str
    processor: str
    cores: Count
    memory_gib: float


class Node(Part):
    """A machine, or a node of a cluster, that computed pieces."""

    engine: str | None
    host: str | None
    node: str | None
    """Its id in the cluster; null without one."""
    gpus: Many[str]
    """GPUs that its workers used, by their numbers on the machine."""
    processes: Count
    pieces: Count
    """Trainings and evaluated models; on a cluster, also sources read and parts of the rows embedded."""
    seconds: AtLeastZero
    """Sum over all its pieces."""


class Engine(Part):
    """The resolved engine of the recipe, and what ran where."""

    kind: Literal["local", "ray"]
    workers: Annotated[int, Field(ge=1)]
    threads: Annotated[int, Field(ge=1)]
    """Threads of each worker."""
    cache: bool | str = True
    address: str | None = None
    gpus_per_worker: AtLeastZero = 0.0
    retries: Count = 3
    mix: bool | Absent = None
    nodes: Many[Node]


class TrainingTime(Part):
    """Seconds summed over models, and the largest peak memory."""

    align_seconds: Number = None
    finetune_seconds: Number = None
    peak_gib: Number = None


class Spent(Part):
    """Trainings before the grid."""

    models: Count
    tokens: Count
    seconds: AtLeastZero


class Timing(Part):
    """All that may differ between two builds of one recipe on one machine: when, how long, where. Not in a published
    data set.
    """

    finished: str | Absent = None
    stages: dict[str, Number] = Field(default_factory=dict)
    """Stage -> seconds."""
    machine: Machine | Absent = None
    instruction: Spent | None = None
    """The base's instruction tuning; null without one."""
    pilot: Spent | None = None
    """The pilot's trainings; null without one."""
    engine: Engine | Absent = None
    peak_gib: Number = None
    run_folder: str | Absent = None
    training: TrainingTime = TrainingTime()
