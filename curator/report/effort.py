"""What a run took: seconds, memory, machine, and which node made which pieces. Two runs of one recipe differ here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.run import FOLDERS, STAGES, Run
from curator.run.folder import finished, read_json
from curator.run.names import DONE, REGIME

if TYPE_CHECKING:
    from curator.report.material import Engine, Spent, Timing


def timing_of(run: Run) -> Timing:
    """What differs from run to run: seconds by stage, memory, machine and folder."""
    from datetime import UTC, datetime

    from curator.provenance import machine, peak_gib
    from curator.report.material import Machine, Timing

    tuned = run.record("base").get("trained")
    over = [name for name in STAGES if (run.folder(name) / DONE).exists()]
    stages = {FOLDERS[name]: run.done(name)["seconds"] for name in over if name not in ("report", "publish")}
    if run.recipe.verify.finds_regime:
        stages[REGIME] = read_json(run.root / REGIME / DONE)["seconds"]
    return Timing(
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        stages=stages,
        machine=Machine.model_validate(machine()),
        engine=ran(run),
        peak_gib=round(peak_gib(), 3),
        instruction=_spent([tuned] if tuned else []),
        pilot=_spent([done["record"] for done in map(finished, _tried(run, "train")) if done and done["seconds"]]),
        run_folder=str(run.root.absolute()),
    )


@dataclass
class _Work:
    """What one node has done so far."""

    gpus: set[str] = field(default_factory=set)
    processes: set[int | None] = field(default_factory=set)
    pieces: int = 0
    seconds: float = 0.0


def ran(run: Run) -> Engine:
    """What ran where: the recipe's engine, and for each node (or host, if a piece names no node) its engine, host, node
    and GPUs, with the number of processes and pieces and their seconds.

    A piece is the training, the answers or the losses of one model; on a cluster also a source that was read. Those of
    an earlier run of the folder that were kept are counted where they ran then.
    """
    from curator.provenance import resolved_threads
    from curator.report.material import Engine, Node

    work_of: dict[tuple[str | None, ...], _Work] = {}
    for where in _places(run):
        key = tuple(where.get(name) for name in ("engine", "host", "node"))
        work = work_of.setdefault(key, _Work())
        work.gpus |= set(where.get("gpus", ()))
        work.processes |= {where.get("process")}
        work.pieces += 1
        work.seconds += where["seconds"]
    section = run.recipe.engine
    nodes = tuple(
        Node(
            engine=engine,
            host=host,
            node=node,
            gpus=tuple(sorted(work.gpus)),
            processes=len(work.processes),
            pieces=work.pieces,
            seconds=round(work.seconds, 3),
        )
        for (engine, host, node), work in sorted(work_of.items(), key=lambda item: str(item[0]))
    )
    return Engine.model_validate(
        {**section.model_dump(exclude={"report_to"}), "threads": resolved_threads(section), "nodes": nodes}
    )


def _spent(trained: Sequence[Mapping[str, float]]) -> Spent | None:
    from curator.report.material import Spent

    if not trained:
        return None
    tokens, seconds = (sum(record[name] for record in trained) for name in ("tokens", "seconds"))
    return Spent(models=len(trained), tokens=int(tokens), seconds=seconds)


def _places(run: Run) -> Iterator[dict[str, Any]]:
    # Those that took the files of an equal piece took no time.
    for done in filter(None, map(finished, _pieces(run))):
        if done["seconds"]:
            yield {**done.get("where", {}), "seconds": done["seconds"]}
    for stage in ("pool", "represent"):
        yield from run.record(stage).get("places", ())


def _pieces(run: Run) -> Iterator[Path]:
    from curator.experiment.plan import BASE, Cell
    from curator.run.files import checkpoint_folders

    cells = list(starmap(Cell, run.models()))
    for cell in cells:
        yield run.folder("train") / cell.folder
    for cell in {BASE, *cells}:
        yield run.folder("answer") / cell.folder
    yield from (run.folder("answer") / folder for folder in checkpoint_folders(run.models()))
    yield from _tried(run, "train", "answer")
    yield from (run.folder("answer") / "forgetting" / cell.folder for cell in cells)


def _tried(run: Run, *parts: str) -> Iterator[Path]:
    """The pieces of the pilot and of the bank."""
    from curator.experiment.pilot import trials

    for beside, plan in trials(run).items():
        yield from (run.root / beside / part / cell.folder for part in parts for cell in plan.asked)
