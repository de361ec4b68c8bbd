"""When a run was made, how long it took and where: all of report.json that may differ between equal builds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from curator.report.part import Absent, AtLeastZero, Count, Many, Number, Part


class Machine(Part):
    """The machine that wrote the report."""

    system: str
    processor: str
    cores: Count
    memory_gib: float


class Node(Part):
    """A machine, or a node of a cluster, that made pieces."""

    engine: str | None
    host: str | None
    node: str | None
    """Its id in the cluster; null without one."""
    gpus: Many[str]
    """Those that its workers were given, by their numbers on it."""
    processes: Count
    pieces: Count
    """Trainings, models asked, and on a cluster sources read and parts of the rows embedded."""
    seconds: AtLeastZero
    """Of all its pieces together."""


class Engine(Part):
    """The recipe's engine, resolved, and what ran where."""

    kind: Literal["local", "ray"]
    workers: Annotated[int, Field(ge=1)]
    threads: Annotated[int, Field(ge=1)]
    """Of each worker."""
    cache: bool | str = True
    address: str | None = None
    gpus_per_worker: AtLeastZero = 0.0
    retries: Count = 3
    nodes: Many[Node]


class TrainingTime(Part):
    """Seconds summed over models, and the largest peak memory."""

    align_seconds: Number = None
    finetune_seconds: Number = None
    peak_gib: Number = None


class Spent(Part):
    """Trainings that came before the grid."""

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
