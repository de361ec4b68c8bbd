"""Writes the data set folder, which `datasets.load_dataset` opens, with its card and its evidence."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import JsonValue

from curator.conclusions.part import plain
from curator.publish.card import WARNING, Config, card, facts, yaml_of
from curator.publish.merge import MANIFEST, Digest, digest, manifest
from curator.publish.record import dropped_rows, publishable, without_nulls
from curator.recipe.verify import RECOVERY
from curator.records import ANSWER_COLUMNS, Pool, Scores, Selection
from curator.report.model import Report
from curator.report.pictures import pictures
from curator.run.folder import replacing_folder, write_json, write_text

CURATED, CONTROLS = "curated", "controls"
"""Configs, one for each purpose, and their folders below `data/`."""

DIGITS = 12
"""Hexadecimal digits of its SHA-256 at the end of a data file's name."""

SIMILARITY = "similarity:"
"""Prefix of a column: similarity to the task whose name follows."""

NEAREST = "nearest:"
"""Prefix of a column: id of the most similar row of the task whose name follows."""

VERDICTS = (*ANSWER_COLUMNS, "judge", "outcome", "refused", "score")
"""Published columns of a verdict: neither an answer nor the judge's own words, which may quote one."""


RECIPE = "recipe.yaml"
RECIPE_NOTE = "# The recipe with its defaults. A setting that is left out is null.\n"

CROISSANT = "croissant.json"
_OF_CROISSANT = (
    "citeAs column extract field fileObject fileProperty fileSet format includes isLiveDataset jsonPath "
    "key md5 parentField path recordSet references regex repeated replace separator source subField "
    "transform"
)
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    **{name: f"cr:{name}" for name in _OF_CROISSANT.split()},
}

_TYPES = {pa.string(): "sc:Text", pa.int64(): "sc:Integer", pa.float64(): "sc:Float"}


def write_dataset(
    folder: Path,
    *,
    pool: Pool,
    scores: Scores,
    selection: Selection,
    report: Report,
    evidence: Callable[[Report, Collection[str]], str],
    coverage: Mapping[str, int],
    verdicts: pl.DataFrame,
    controls: pl.DataFrame | None = None,
    openers: Mapping[str, str] | None = None,
    repeats: Mapping[str, int] | None = None,
) -> None:
    """Writes `folder` whole, or not at all; an older one is replaced.

    - `README.md`: the card, whose metadata names the following two as configs and nothing else as data.
    - `data/curated/`: the selected rows, in the order picked (see `dataset_rows`).
    - `data/controls/`, if `controls` are given: the sets that they were compared with, one split per arm (see
      `control_rows`).
    - `evidence/report.json`: what may be published of the report (see `record`).
    - `evidence/figures/`: the drawings that the card shows.
    - `evidence/selection.parquet`: id, rank, gain, similarity, and for each task the similarity and the id of the
      nearest task row.
    - `evidence/verdicts.parquet`: the columns VERDICTS.
    - `evidence/dropped.parquet`: every candidate that was left out, with the reason.
    - `evidence/files.json`: see `manifest`.
    - `recipe.yaml`: the public recipe without nulls.
    - `croissant.json`: see `croissant`.

    The folder holds no text of a task, a probe or an answer.

    Args:
        evidence: Makes the card's Markdown, in which foreign text is inert, from what may be published of the report
            and the names of the drawings.
        coverage: Selected id -> number of pool rows that it covers best.
        verdicts: Of the whole panel, with VERDICTS among its columns.
        controls: Columns arm, seed, id: the sets to publish beside the curated one; null for none.
        openers: Id -> the opener that its answer was trained on behind in the arms of RECOVERY; null for none.
        repeats: Selected id -> how often a pass over the curated set trains on it; null if once for each.

    Raises:
        ValueError: A selected row is not in the pool or has no score.
    """
    rows = dataset_rows(pool, scores, selection, coverage, repeats)
    public = publishable(report)
    splits = {} if controls is None else control_rows(pool, controls, openers)
    with replacing_folder(folder) as temporary:
        data = {write_data(temporary, CURATED, "train", rows): rows}
        configs = [Config(CURATED, {"train": next(iter(data))})]
        if splits:
            files = {split: write_data(temporary, CONTROLS, split, table) for split, table in splits.items()}
            configs.append(Config(CONTROLS, files))
            data |= {files[split]: table for split, table in splits.items()}
        write_table(temporary / "evidence" / "selection.parquet", arrow(picked_rows(scores, selection)))
        write_table(temporary / "evidence" / "verdicts.parquet", arrow(verdicts.select(VERDICTS)))
        write_table(temporary / "evidence" / "dropped.parquet", arrow(dropped_rows(pool.dropped)))
        write_json(temporary / "evidence" / "report.json", plain(public))
        drawn = pictures(public)
        for figure, document in drawn.items():
            write_text(temporary / "evidence" / "figures" / f"{figure}.svg", document)
        write_text(
            temporary / RECIPE,
            RECIPE_NOTE + yaml_of(without_nulls(public.provenance.recipe)),
        )
        every = every_row(data.values())
        metadata = facts(rows, name=public.name, configs=configs, every=every)
        omitted = [] if controls is None else unpublished(pool, controls)
        text = card(
            rows,
            metadata,
            report=public,
            evidence=evidence(public, drawn),
            configs=configs,
            every=every,
            omitted=omitted,
        )
        describe(temporary, data, metadata, name=public.name, summary=public.decision.sentence, card=text)


def describe(
    folder: Path,
    data: Mapping[str, pa.Table],
    metadata: Mapping[str, JsonValue],
    *,
    name: str,
    summary: str,
    card: str,
) -> None:
    """Writes the files beside the rows of a data set: its card, its description in Croissant, and its manifest.

    Args:
        data: Path of each data file in `folder` -> its rows.
        metadata: Of `card.facts`.
        summary: A sentence that a catalogue shows.
    """
    described = croissant(
        name=name,
        description=f"{summary} {WARNING}",
        licence=str(metadata.get("license_name", metadata["license"])),
        tables={path: (table.schema, digest((folder / path).read_bytes())) for path, table in data.items()},
    )
    write_json(folder / CROISSANT, described)
    write_text(folder / "README.md", card)
    write_json(folder / MANIFEST, manifest(folder, metadata))


def dataset_rows(
    pool: Pool,
    scores: Scores,
    selection: Selection,
    coverage: Mapping[str, int],
    repeats: Mapping[str, int] | None = None,
) -> pa.Table:
    """The selected rows in the order picked.

    Columns: id; messages, a list of {role, content}; category, source and licence, null if the source names none;
    similarity, the combined score; `similarity:<task>` for each task; rank, 0 for the row picked first; gain, what the
    row added to the objective when it was picked; coverage, the number of candidates that it covers best, null if
    unknown; and, if rows are repeated, repeats, how often a pass over the set trains on the row.
    """
    picked = picked_rows(scores, selection).drop(pl.selectors.starts_with(NEAREST))
    text = ("id", "messages", "category", "source", "licence")
    joined = picked.join(pool.rows.select(text), on="id", how="left", maintain_order="left")
    missing = joined.filter(pl.col("messages").is_null())["id"]
    if len(missing):
        raise ValueError(f"row {missing[0]!r} is selected but is not in the pool")
    counted = pl.Series("coverage", [coverage.get(row_id) for row_id in joined["id"]], dtype=pl.Int64)
    similarity = [name for name in picked.columns if name.startswith("similarity")]
    rows = joined.with_columns(counted).select(*text, *similarity, "rank", "gain", "coverage")
    return arrow(_with_repeats(rows, repeats))


def _with_repeats(rows: pl.DataFrame, repeats: Mapping[str, int] | None) -> pl.DataFrame:
    if repeats is None:
        return rows
    return rows.with_columns(repeats=pl.Series([repeats[row_id] for row_id in rows["id"]], dtype=pl.Int64))


def every_row(tables: Iterable[pa.Table]) -> pa.Table:
    """Source and licence of every row of the tables, each row once."""
    columns = ["id", "source", "licence"]
    first = {row["id"]: row for table in tables for row in table.select(columns).to_pylist()}
    return pa.Table.from_pylist(list(first.values()), schema=pa.schema([(name, pa.string()) for name in columns]))


def unpublished(pool: Pool, controls: pl.DataFrame) -> list[str]:
    """Arms of the controls that have rows outside the pool, in order of name."""
    outside = controls.filter(~pl.col("id").is_in(pool.rows["id"].implode()))
    return sorted(outside["arm"].unique().to_list())


def control_rows(pool: Pool, controls: pl.DataFrame, openers: Mapping[str, str] | None = None) -> dict[str, pa.Table]:
    """Split -> the rows of one arm's sets, each once, by id. The columns are those of `dataset_rows` without scores,
    and `draws`, the seeds whose set holds the row. The split of an arm `matched-random` is `matched_random`, because
    names of splits are words; of arms whose splits would have one name, the later ones get a number. Arms of
    `unpublished` are left out. Beside an arm of RECOVERY every split has a column `opener`, null for a row without one:
    the splits of a config must have the same columns to be loaded.
    """
    text = ("id", "messages", "category", "source", "licence")
    splits, recovers = {}, not controls.filter(pl.col("arm").is_in(RECOVERY)).is_empty()
    omitted = unpublished(pool, controls)
    for (arm,), arm_rows in sorted(controls.group_by("arm"), key=lambda part: str(part[0])):
        if arm in omitted:
            continue
        draws = arm_rows.group_by("id").agg(draws=pl.col("seed").sort())
        rows = draws.join(pool.rows.select(text), on="id", how="inner").sort("id").select(*text, "draws")
        if recovers:
            behind = (openers or {}) if arm in RECOVERY else {}
            rows = rows.with_columns(opener=pl.Series([behind.get(row_id) for row_id in rows["id"]], dtype=pl.String))
        split = bare = re.sub(r"\W+", "_", str(arm))
        number = 1
        while split in splits:
            number += 1
            split = f"{bare}_{number}"
        splits[split] = arrow(rows)
    return splits


def picked_rows(scores: Scores, selection: Selection) -> pl.DataFrame:
    """The chosen rows in the order picked: id, `rank` from 0, `gain`, `similarity`, and for each task SIMILARITY and
    NEAREST.

    Raises:
        ValueError: A row has no score.
    """
    columns: dict[str, object] = {"id": scores.ids, "similarity": scores.combined}
    for task, values in scores.tasks.items():
        columns[SIMILARITY + task] = values
    for task, ids in scores.nearest.items():
        columns[NEAREST + task] = ids
    order = pl.DataFrame(
        {"id": selection.ids, "rank": range(len(selection.ids)), "gain": selection.gains},
        schema={"id": pl.String, "rank": pl.Int64, "gain": pl.Float64},
    )
    picked = order.join(pl.DataFrame(columns), on="id", how="left", maintain_order="left")
    missing = picked.filter(pl.col("similarity").is_null())["id"]
    if len(missing):
        raise ValueError(f"row {missing[0]!r} is selected but has no score")
    return picked


def arrow(frame: pl.DataFrame) -> pa.Table:
    """As Arrow with plain strings and lists, which `datasets` shows as `string` and not as `large_string`."""
    plain = {pl.String: pa.string(), pl.Int64: pa.int64(), pl.Float64: pa.float64(), pl.Boolean: pa.bool_()}
    lists = {
        "messages": pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])),
        "draws": pa.list_(pa.int64()),
    }
    schema = pa.schema([(name, lists.get(name) or plain[type(dtype)]) for name, dtype in frame.schema.items()])
    return frame.to_arrow().cast(schema)


def write_data(folder: Path, config: str, split: str, table: pa.Table) -> str:
    """Writes the rows of a split and gives the path of their file from `folder` on.

    `datasets` caches the rows of a local folder under the name of the folder and the configs of the card. It checks
    neither the path of the folder nor the content of the files. The name of the file, which the card repeats, therefore
    ends with the start of the SHA-256 of its content, so that other rows are never read from the cache.
    """
    path = folder / f"data/{config}/{split}.parquet"
    write_table(path, table)
    number = f"00000-of-00001-{digest(path.read_bytes()).sha256[:DIGITS]}"
    return path.rename(path.with_stem(f"{split}-{number}")).relative_to(folder).as_posix()


def write_table(path: Path, table: pa.Table) -> None:
    """Writes a table as Parquet, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd")


def croissant(
    *, name: str, description: str, licence: str, tables: Mapping[str, tuple[pa.Schema, Digest]]
) -> dict[str, object]:
    """The data set's description in Croissant 1.0, the vocabulary that catalogues of data sets read, as JSON-LD.

    Source: MLCommons, Croissant Format Specification 1.0, https://docs.mlcommons.org/croissant/docs/croissant-spec.html.

    Args:
        name: The data set's name.
        licence: The licence, as the card names it.
        tables: Path of each data file, as `data/<config>/<split>-...parquet` -> its columns and digest.
    """
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": name,
        "description": description,
        "license": licence,
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": path,
                "name": path.rpartition("/")[2],
                "contentUrl": path,
                "contentSize": f"{digest.size} B",
                "encodingFormat": "application/x-parquet",
                "sha256": digest.sha256,
            }
            for path, (_, digest) in tables.items()
        ],
        "recordSet": [_records(path, schema) for path, (schema, _) in tables.items()],
    }


def _records(path: str, schema: pa.Schema) -> dict[str, object]:
    _, config, file = path.split("/")
    name = f"{config}/{file.partition('-')[0]}"
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "key": {"@id": f"{name}/id"},
        "field": [_field(f"{name}/{column.name}", column, path) for column in schema],
    }


def _field(name: str, column: pa.Field, path: str) -> dict[str, object]:
    field = {"@type": "cr:Field", "@id": name, "name": name}
    source = {"fileObject": {"@id": path}, "extract": {"column": column.name}}
    if not pa.types.is_list(column.type):
        return {**field, "dataType": _TYPES[column.type], "source": source}
    inner = column.type.value_type
    if not pa.types.is_struct(inner):
        return {**field, "dataType": _TYPES[inner], "repeated": True, "source": source}
    parts = [
        {
            "@type": "cr:Field",
            "@id": f"{name}/{part.name}",
            "name": f"{name}/{part.name}",
            "dataType": _TYPES[part.type],
            "source": {**source, "transform": {"jsonPath": part.name}},
        }
        for part in inner
    ]
    return {**field, "repeated": True, "subField": parts}
