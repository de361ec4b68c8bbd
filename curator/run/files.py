"""Saves and loads the objects of `records`; both directions of each format are defined together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow
from pyarrow import ipc

from curator.errors import RunError, first_line, out_of_memory
from curator.records import ANSWER_SCHEMA, VERDICT_SCHEMA, Data, Pool, Scores, Selection, Task, Trained, Vectors
from curator.run.folder import ANEW, read_json, replacing, write_json
from curator.run.names import (
    DEFENDING,
    DRAWN,
    DROPPED,
    GIVEN,
    KEEP,
    POOL,
    PROBES,
    REPEATS,
    ROLES,
    ROW_LOSSES,
    SCORES,
    SELECTION,
    TASK_PARTS,
    arm_file,
    cell_folder,
    task_file,
)

if TYPE_CHECKING:
    from curator.run import Model

MAPPED_BATCH = 2**24
"""About the bytes held in memory while an Arrow file is written."""


def save_frame(path: Path, frame: pl.DataFrame) -> None:
    """Writes a frame as Parquet, atomically."""
    with replacing(path) as temporary:
        frame.write_parquet(temporary)


def save_mapped(path: Path, frame: pl.DataFrame) -> None:
    """Writes a frame as an Arrow file that `load_frame` maps, atomically."""
    with replacing(path) as temporary:
        rows = MAPPED_BATCH * frame.height // max(int(frame.estimated_size()), 1)
        frame.write_ipc(temporary, record_batch_size=min(max(rows, 16), 2**16))


def load_frame(path: Path, advice: str = ANEW) -> pl.DataFrame:
    """The frame of a Parquet file, or of an Arrow file (`.arrow`), which is memory-mapped: it may be larger than
    memory, and processes share it.

    Args:
        advice: What to do if it is missing or damaged, which only another program can have caused.

    Raises:
        RunError: It is, or may not be read.
    """
    with _readable(path, advice):
        return mapped(path) if path.suffix == ".arrow" else pl.read_parquet(path)


@contextmanager
def _readable(path: Path, advice: str = ANEW) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise RunError(f"{path}: cannot be read (permission denied); fix its permissions") from error
    except (FileNotFoundError, EOFError, ValueError, pl.exceptions.PolarsError, pyarrow.ArrowException) as error:
        if out_of_memory(error):  # of the machine, and not of the file
            raise
        raise RunError(f"{path}: cannot be read ({first_line(error)}); {advice}") from error


def load_answers(path: Path) -> pl.DataFrame:
    """Answers or verdicts from Parquet, including those of earlier versions."""
    return with_columns_since(load_frame(path))


def with_columns_since(frame: pl.DataFrame) -> pl.DataFrame:
    """Answers or verdicts with the columns that earlier versions lack: those had no prefilled openings, one answer per
    prompt, and no checkpoints.
    """
    at = pl.when(pl.col("phase") == "before").then(0.0).otherwise(1.0)
    added = {"at": at, "prefill": pl.lit(0, dtype=pl.Int64), "sample": pl.lit(0, dtype=pl.Int64)}
    added["opening"] = pl.lit(None, dtype=pl.String)
    since = {name: value for name, value in added.items() if name not in frame.columns}
    schema = VERDICT_SCHEMA if "judge" in frame.columns else ANSWER_SCHEMA
    return frame.with_columns(**since).select([name for name in schema if name in {*frame.columns, *since}])


def load_columns(path: Path, *names: str) -> pl.DataFrame:
    """Some columns of a frame; the others are not read. Errors are those of `load_frame`."""
    with _readable(path):
        return mapped(path).select(names) if path.suffix == ".arrow" else pl.read_parquet(path, columns=list(names))


def mapped(path: Path) -> pl.DataFrame:
    """The frame of an uncompressed Arrow file, not read but mapped into memory."""
    # polars' own reader copies every text into memory; Arrow's does not.
    with pyarrow.memory_map(str(path)) as source:
        frame = pl.from_arrow(ipc.open_file(source).read_all())
    assert isinstance(frame, pl.DataFrame)
    return frame


def save_array(path: Path, array: np.ndarray[Any, Any]) -> None:
    """Writes an array in numpy's format, atomically."""
    with replacing(path) as temporary, open(temporary, "wb") as handle:
        np.save(handle, array)


def save_data(folder: Path, data: Data) -> None:
    """Writes the pool as an Arrow file; dropped rows, tasks, probes and keep rows as Parquet; and `data.json`."""
    save_mapped(folder / POOL, data.pool.rows)
    save_frame(folder / DROPPED, data.pool.dropped)
    for name, file in PROBES.items():
        save_frame(folder / file, getattr(data, name))
    save_frame(folder / KEEP, data.keep)
    for task in data.tasks:
        for part in TASK_PARTS:
            save_frame(folder / task_file(task.name, part), getattr(task, part))
    for arm, rows in data.arms.items():
        save_frame(folder / arm_file(arm), rows)
    if data.given is not None:
        save_frame(folder / GIVEN, data.given)
    tasks = [{name: getattr(task, name) for name in ("name", "weight", "metric", "trigger")} for task in data.tasks]
    write_json(folder / ROLES, {"tasks": tasks, "arms": list(data.arms)})


def load_data(folder: Path) -> Data:
    """What `save_data` wrote."""
    facts = read_json(folder / ROLES)
    tasks = tuple(
        Task(**{**{part: load_frame(folder / task_file(task["name"], part)) for part in TASK_PARTS}, **task})
        for task in facts["tasks"]
    )
    return Data(
        pool=Pool(load_frame(folder / POOL), load_frame(folder / DROPPED)),
        tasks=tasks,
        keep=load_frame(folder / KEEP),
        **{name: load_frame(folder / file) for name, file in PROBES.items()},
        arms={arm: load_frame(folder / arm_file(arm)) for arm in facts["arms"]},
        given=load_frame(folder / GIVEN) if (folder / GIVEN).exists() else None,
    )


def data_files(folder: Path) -> dict[str, Path]:
    """The files of `save_data`, by the role of their rows: `pool`, `keep`, `harmful`, `benign`, `pilot`, `<part>
    <task>`, `arm <name>`. A run of an earlier version may lack some, except for the first four.
    """
    facts = read_json(folder / ROLES)
    files = {"pool": POOL, "keep": KEEP, **PROBES}
    files |= {f"{part} {task['name']}": task_file(task["name"], part) for task in facts["tasks"] for part in TASK_PARTS}
    files |= {f"arm {arm}": arm_file(arm) for arm in facts["arms"]}
    always = ("pool", "keep", "harmful", "benign")
    return {role: folder / file for role, file in files.items() if role in always or (folder / file).exists()}


def save_arms(folder: Path, drawn: pl.DataFrame) -> None:
    """Writes the alignment sets: a row for each `arm`, `seed` and `id`."""
    save_frame(folder / DRAWN, drawn)


def load_arms(folder: Path) -> pl.DataFrame:
    """What `save_arms` wrote."""
    return load_frame(folder / DRAWN)


def load_dealt(folder: Path) -> pl.DataFrame:
    """The alignment sets with each row as often as a pass over its set trains on it, in the order of the set."""
    drawn, path = load_arms(folder), folder / REPEATS
    if not path.exists():
        return drawn
    often = load_frame(path).select("arm", "id", "repeats")
    counts = drawn.join(often, on=["arm", "id"], how="left", maintain_order="left")["repeats"].fill_null(1)
    return drawn[np.repeat(np.arange(drawn.height), counts.to_numpy())]


def save_facts(folder: Path, name: str, vectors: Vectors) -> None:
    """Writes everything except the matrix of vectors, which is already in `<name>.npy`."""
    facts = {field: value for field, value in vars(vectors).items() if field not in ("ids", "matrix")}
    write_json(folder / f"{name}.json", {**facts, "ids": vectors.ids})


def load_vectors(folder: Path, name: str) -> Vectors:
    """The vectors, with the matrix memory-mapped, so that a pool larger than memory still opens."""
    facts, path = read_json(folder / f"{name}.json"), folder / f"{name}.npy"
    with _readable(path):
        return Vectors(**{**facts, "ids": tuple(facts["ids"])}, matrix=np.load(path, mmap_mode="r"))


def save_scores(folder: Path, scores: Scores) -> None:
    """Writes `scores.parquet`: id, combined, and for each task its score and nearest task row. An infinite limit of
    their range is null in `scores.json`.
    """
    columns: dict[str, object] = {"id": scores.ids, "combined": scores.combined}
    for task, values in scores.tasks.items():
        columns[f"similarity:{task}"] = values
        columns[f"nearest:{task}"] = scores.nearest.get(task, (None,) * len(scores.ids))
    save_frame(folder / f"{SCORES}.parquet", pl.DataFrame(columns))
    limits = {
        name: value if math.isfinite(value) else None for name, value in (("low", scores.low), ("high", scores.high))
    }
    facts = {"name": scores.name, **limits, "parameters": dict(scores.parameters)}
    write_json(folder / f"{SCORES}.json", {**facts, "tasks": list(scores.tasks), "nearest": list(scores.nearest)})


def load_scores(folder: Path) -> Scores:
    """What `save_scores` wrote."""
    frame, facts = load_frame(folder / f"{SCORES}.parquet"), read_json(folder / f"{SCORES}.json")
    for name, infinite in (("low", -math.inf), ("high", math.inf)):
        facts[name] = infinite if facts[name] is None else facts[name]
    return Scores(
        ids=tuple(frame["id"]),
        combined=frame["combined"].to_numpy(),
        tasks={task: frame[f"similarity:{task}"].to_numpy() for task in facts.pop("tasks")},
        nearest={task: tuple(frame[f"nearest:{task}"]) for task in facts.pop("nearest")},
        **facts,
    )


def save_defending(folder: Path, rows: pl.DataFrame) -> Path:
    """Writes the rows of the pool that a half's model is defended with; returns the file."""
    file = folder / DEFENDING
    file.parent.mkdir(parents=True, exist_ok=True)
    save_frame(file, rows)
    return file


def save_row_values(folder: Path, columns: Mapping[str, Sequence[object] | np.ndarray]) -> None:
    """Writes a model's numbers for rows: `id`, and a column for each number."""
    save_frame(folder / ROW_LOSSES, pl.DataFrame(columns))


def load_row_values(folder: Path) -> pl.DataFrame:
    """What `save_row_values` wrote."""
    return load_frame(folder / ROW_LOSSES)


def save_selection(folder: Path, selection: Selection) -> None:
    """Writes `selection.parquet` (rank, id, index, gain), and everything else except the frontier to
    `selection.json`.
    """
    frame = pl.DataFrame({"id": selection.ids, "index": selection.indices, "gain": selection.gains}).with_row_index(
        "rank"
    )
    save_frame(folder / f"{SELECTION}.parquet", frame)
    rest = {
        field: value for field, value in vars(selection).items() if field not in ("ids", "indices", "gains", "frontier")
    }
    write_json(folder / f"{SELECTION}.json", plain(rest))


def load_selection(folder: Path) -> Selection:
    """What `save_selection` wrote."""
    frame = load_frame(folder / f"{SELECTION}.parquet")
    facts = read_json(folder / f"{SELECTION}.json")
    return Selection(
        ids=tuple(frame["id"]),
        indices=frame["index"].cast(pl.Int64).to_numpy(),
        gains=frame["gain"].to_numpy(),
        **facts,
    )


def trained_record(trained: Trained, root: Path) -> dict[str, Any]:
    """A `Trained` for a done.json, with paths relative to the run folder, so that the folder can be moved."""
    checkpoints = tuple((step, relative(path, root)) for step, path in trained.checkpoints)
    path, parent = relative(trained.path, root), relative(trained.parent, root)
    return asdict(replace(trained, path=path, parent=parent, checkpoints=checkpoints))


def trained_from(record: Mapping[str, Any], root: Path) -> Trained:
    """What `trained_record` wrote, with paths below the present run folder."""
    paths = {name: absolute(record[name], root) for name in ("path", "parent")}
    checkpoints = tuple((step, absolute(path, root)) for step, path in record.get("checkpoints", ()))
    return Trained(**{**record, **paths, "losses": tuple(record["losses"]), "checkpoints": checkpoints})


def checkpoint_folders(models: Mapping[tuple[str, int, str | None, str | None], Model]) -> list[str]:
    """Folders of the answers of checkpoints, below stage `answer`."""
    return [
        cell_folder(*cell, at=step / model.trained.steps)
        for cell, model in models.items()
        for step, _ in model.trained.checkpoints
    ]


def relative(path: str, root: Path) -> str:
    """The path relative to the run folder if it lies in it, so that the folder can be moved; else the path."""
    return str(Path(path).relative_to(root)) if Path(path).is_relative_to(root) else path


def absolute(path: str, root: Path) -> str:
    """The inverse of `relative`; a Hub id or a path elsewhere is not changed."""
    return str(root / path) if (root / path).exists() else path


def plain(value: object) -> Any:
    """The value in built-in types for JSON: numpy scalars and arrays, tuples and mappings converted."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    return value


def finite(value: Any) -> Any:
    """Plain values in which a number that is infinite or NaN is null."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
