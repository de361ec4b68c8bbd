"""Reads one source of a recipe into rows, and records why every other record was dropped."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from curator.errors import DataError, printable
from curator.pool import columns, hub, shapes
from curator.pool.columns import Fields, UnusableError
from curator.pool.files import Record, Unreadable, by_column
from curator.pool.files import records as file_records
from curator.pool.rows import Row, SourceRows, category_candidates
from curator.pool.turns import Turns, check_text
from curator.recipe import Recipe
from curator.recipe.inputs import content, fingerprint, locate, sources
from curator.recipe.source import Source
from curator.records import CountTokens, Drop, row_id
from curator.sandbox import NAMES
from curator.wording import in_lines, these

SAMPLE = 1000
"""Number of records examined for the shape and the columns, before the rest is read."""
TRIED = 100
"""Number of records examined for two columns of text."""


class Read(NamedTuple):
    """The result of reading a source.

    Attributes:
        rows: Rows in the columns of ROW_SCHEMA, sorted by id, ids unique; `tokens` null unless they were counted.
        dropped: Every other record in the columns of DROPPED_SCHEMA, sorted by line. Stages: `source` (the record or a
            needed field is unreadable), `where`, `clean` (not a conversation, empty, too long), `duplicate` (`match` is
            the kept row's id), `rows` (not among those taken).
        resolved: What was read: the file's sha256 and bytes, or the data set's commit, or the sandbox's version; the
            columns used, and those `unused` that look meaningful; `read`, `kept` and `dropped`, where read = kept +
            dropped; `kinds`, the number of dropped records of each kind; `relicensed`, the number of conversations
            whose record states another licence than the recipe, if there are any.
    """

    rows: pl.DataFrame
    dropped: pl.DataFrame
    resolved: dict[str, Any]


def read(
    source: Source,
    *,
    prompts_only: bool = False,
    base: Path = Path("."),
    seed: int = 0,
    label: str | None = None,
    count_tokens: CountTokens | None = None,
    max_tokens: int | None = None,
    scratch: Path | None = None,
) -> Read:
    """Rows of a source: filtered, recognised, checked, without exact duplicates, and at most `source.rows` of them.

    Args:
        source: What to read.
        prompts_only: Rows end with a user turn (probes); answers in the data are ignored.
        base: Folder that a relative path starts from.
        seed: Seed of the choice of `source.rows`, by hash of (seed, id).
        label: Value of the `source` column, if two sources have the same label.
        count_tokens, max_tokens: Given together, rows of more tokens are dropped and `tokens` is filled.
        scratch: Folder for the text of a source larger than `rows.SPILL`; null for the system's temporary folder.

    Raises:
        DataError: The source cannot be read, is empty, has more than `source.broken` unreadable records, lacks a column
            that the recipe names, has no recognised shape, or gives no rows.
    """
    label = label or source.label
    stream, commit = _open(source, base)
    sample = list(itertools.islice(stream, SAMPLE))
    first = _readable(sample, label)
    fields, category = _recognise(source, first, prompts_only=prompts_only, label=label)
    licensed = _licence_columns(columns.names(first))
    used = {
        *fields.values(),
        *source.where,
        *columns.placeholders(source.template or ""),
        *licensed,
        *filter(None, [category]),
    }
    if source.file is not None and by_column(source.file):
        # Read again, only the needed columns: the others cost time, and may be unreadable.
        sample, stream = [], file_records(locate(source.file, base), columns={*used, *_outer(used)})
    turns_of = shapes.conversations(fields, source, prompts_only=prompts_only)
    unmet = columns.matches(source.where)

    collected = SourceRows(
        label,
        rows=source.rows,
        seed=seed,
        count_tokens=count_tokens,
        max_tokens=max_tokens,
        scratch=scratch or Path(tempfile.gettempdir()),
    )
    known, later, relicensed = set(columns.names(first)), dict[str, None](), 0
    for line, row in itertools.chain(sample, stream):
        if isinstance(row, str):
            collected.drop(line, "source", Drop("broken-records", row))
            continue
        if not known.issuperset(row):
            more, undecided = shapes.of_later(row, fields, source, prompts_only=prompts_only)
            licensed = _licence_columns([*licensed, *row])
            fields, known = {**fields, **more}, known | (row.keys() - undecided)
            turns_of = shapes.conversations(fields, source, prompts_only=prompts_only)
            used |= {*licensed, *fields.values()}
            later |= dict.fromkeys(shapes.unused([row], used, prompts_only=prompts_only))
        try:
            if (reason := unmet(row)) is not None:
                collected.drop(line, "where", Drop("where", reason))
                continue
            stated = _licence(row, licensed)
            kept = _row(line, turns_of(row), _named(row, category), stated or source.licence)
        except UnusableError as error:
            collected.drop(line, "source" if error.drop.kind == "broken-records" else "clean", error.drop)
        except RecursionError:
            collected.drop(line, "source", Drop("broken-records", "the record is nested too deeply"))
        else:
            collected.keep(kept)
            relicensed += stated is not None and _differ(stated, source.licence)
    _refuse_broken(collected, source)
    _refuse_nothing_kept(collected, source, first)
    rows, dropped = collected.finish(source.category.pick if source.category else "first")
    if rows.is_empty():
        total = these(collected.total, "row", "rows")
        raise DataError(f"{label}: none of its {total} can be used: {_commonest(collected)}")
    origin = content(fingerprint(source, base)) | ({"commit": commit} if commit else {})
    resolved = {**origin, "label": label, "columns": {**fields, **({"category": category} if category else {})}}
    unused = [*shapes.unused(first, used, prompts_only=prompts_only), *(name for name in later if name not in used)]
    counts = {"read": collected.total, "kept": rows.height, "dropped": dropped.height}
    notes = {"unused": [printable(column) for column in unused], "kinds": dict(sorted(collected.kinds.items()))}
    others = {"relicensed": relicensed} if relicensed else {}
    return Read(rows, dropped, {**resolved, **counts, **notes, **others})


def remarks(resolved: Mapping[str, Any]) -> list[str]:
    """Remarks on a source that was read, as parts of a sentence."""
    parts, label = [], resolved["label"]
    if names := resolved.get("unused"):
        parts.append(f"{label}: unused {'column' if len(names) == 1 else 'columns'} {', '.join(names)}")
        if verdict := next(filter(shapes.is_verdict, names), None):
            parts[-1] += f" (`where` keeps rows by it: {verdict} may say which answers must not be taught)"
    if count := resolved.get("kinds", {}).get("rejected-answers"):
        rows_have = these(count, "row has", "rows have")
        parts.append(f"{label}: {rows_have} the label false and {'is' if count == 1 else 'are'} left out")
    if count := resolved.get("relicensed"):
        rows_state = these(count, "row states", "rows state")
        parts.append(f"{label}: {rows_state} another licence than the recipe gives, which is kept")
    return parts


def look(source: Source, *, prompts_only: bool = False) -> None:
    """Reads the first SAMPLE records and checks their columns and shape, so that mistakes show before hours of work.

    Raises:
        DataError: See `read`, as far as a sample shows it.
    """
    stream, _ = _open(source)
    sample = _readable(list(itertools.islice(stream, SAMPLE)), source.label)
    _recognise(source, sample, prompts_only=prompts_only, label=source.label)


def mapped(source: Source) -> Source:
    """The source with its columns mapped if it is a file without recognised columns, whose first records have exactly
    two columns of text: the first is the prompt and the second the response, unless a name says otherwise. Any other
    source as it is.
    """
    if source.file is None or source.columns or source.template:
        return source
    try:
        look(source)
    except DataError:
        return source.model_copy(update={"columns": _two_texts(source)})
    return source


def mapping(source: Source) -> str:
    """Which columns of a source are read as what, in words; empty where nothing maps them."""
    named = " and ".join(f"{column} as the {field}" for field, column in source.columns.items())
    return f"{source.label}: reads the column {named}" if named else ""


def _two_texts(source: Source) -> dict[str, str | int]:
    """The only two columns of strings of a file, as prompt and response; nothing if it has fewer or more, or if one of
    them is a label, an id or has another meaning.
    """
    try:
        first = [row for _, row in itertools.islice(_open(source)[0], TRIED) if isinstance(row, dict)]
    except DataError:  # whoever reads the source says so
        return {}
    texts = [column for column in (first[0] if first else ()) if all(isinstance(row.get(column), str) for row in first)]
    if len(texts) != 2 or not all(_is_text(column, [str(row[column]) for row in first]) for column in texts):
        return {}
    if texts[0].lower() in shapes.RESPONSES or texts[1].lower() in shapes.PROMPTS:
        texts.reverse()
    return dict(zip(("prompt", "response"), texts, strict=True))


def _is_text(column: str, values: Sequence[str]) -> bool:
    """Whether a column may be read as a prompt or an answer: its name has no other meaning, and most of its values have
    several words, which labels and ids have not.
    """
    other = shapes.UNUSED - {*shapes.PROMPTS, *shapes.RESPONSES}
    return column.lower() not in other and 2 * sum(len(value.split()) > 1 for value in values) >= len(values)


def _recognise(
    source: Source, sample: Sequence[Fields], *, prompts_only: bool, label: str
) -> tuple[dict[str, str], str | None]:
    """Source's field -> the data's column, and the column of the category or null."""
    columns.require(source.where, sample, label, "where")
    fields = shapes.recognise(sample, source, prompts_only=prompts_only, label=label)
    return fields, _category_column(source, sample, label)


def _outer(used: Collection[str]) -> set[str]:
    """The outer columns, for columns written with a dot."""
    return {column.split(".", 1)[0] for column in used}


def missing(recipe: Recipe) -> list[str]:
    """One sentence for each input in the recipe that is missing on this machine: files, sources of the sandbox, and
    columns or shapes that the first records of a file do not have.
    """
    problems, probes = [], [*recipe.probes.harmful, *recipe.probes.benign]
    for source in sources(recipe):
        if source.sandbox is not None and source.sandbox not in NAMES:
            problems.append(f"sandbox: found {source.sandbox!r}; allowed: {', '.join(NAMES)}")
        try:
            if source.file is not None:
                locate(source.file)
                look(source, prompts_only=any(source is probe for probe in probes))
        except DataError as error:
            problems.append(str(error))
    return sorted({*problems})


def _open(source: Source, base: Path = Path(".")) -> tuple[Iterator[Record], str | None]:
    if source.file is not None:
        return file_records(locate(source.file, base), header=not source.positions), None
    if source.hub is not None:
        commit = hub.resolve(source)
        return hub.records(source, commit), commit
    from curator.sandbox import rows

    if source.sandbox not in NAMES:
        raise DataError(f"sandbox: {source.sandbox!r} is not a data set of the sandbox; allowed: {', '.join(NAMES)}")
    return iter(enumerate(rows(str(source.sandbox)), 1)), None


def _readable(sample: Sequence[Record], label: str) -> list[dict[str, Any]]:
    if not sample:
        raise DataError(f"{label}: no rows found; check the file, or remove the source")
    readable = [row for _, row in sample if not isinstance(row, str)]
    if not readable:
        line, reason = sample[0]
        first = these(len(sample), "record", "records")
        raise DataError(f"{label}: none of its first {first} can be read; {_record(label, line)}: {reason}")
    return readable


def _record(label: str, number: int) -> str:
    return f"{'line' if in_lines(label.partition('#')[0]) else 'record'} {number:,}"


def _refuse_nothing_kept(collected: SourceRows, source: Source, first: Sequence[Fields]) -> None:
    if source.where and not collected.distinct and collected.kinds["where"] == collected.total:
        columns.refuse_nothing_kept(source.where, first, collected.label, collected.total)


def _refuse_broken(collected: SourceRows, source: Source) -> None:
    broken = collected.kinds["broken-records"]
    if collected.first_broken is not None and broken > source.broken * collected.total:
        line, reason = collected.first_broken
        utf8 = "save the file as UTF-8" if "UTF-8" in reason else "fix the file"
        raise DataError(
            f"{collected.label}: {broken:,} of {these(collected.total, 'record', 'records')} cannot be read, more than "
            f"the share of {source.broken:g} that `broken` allows; the first is {_record(collected.label, line)}: "
            f"{reason}; {utf8}, or raise `broken`"
        )


def _category_column(source: Source, sample: Sequence[Fields], label: str) -> str | None:
    if source.category is not None:
        columns.require([source.category.column], sample, label, "category")
        return source.category.column
    cells = [row.get("category") for row in sample]
    usable = all(isinstance(cell, Unreadable) or category_candidates(cell) is not None for cell in cells)
    return "category" if usable and any("category" in row for row in sample) else None


def _named(row: Fields, category: str | None) -> list[str]:
    if category is None:
        return []
    named = category_candidates(columns.value(row, category))
    if named is None:
        reason = f"{category} is not a name, a list of names or a mapping from name to true or false"
        raise UnusableError("wrong-category", reason)
    for name in named:
        check_text(name, category)
    return named


def _row(line: int, turns: Turns, named: list[str], licence: str | None) -> Row:
    if licence is not None:
        check_text(licence, "the licence")
    return Row(row_id(turns), line, turns, named, licence)


LICENCES = ("licence", "license")


def _licence_columns(names: Sequence[str]) -> list[str]:
    """The columns of LICENCES in any case, each once, in the order of LICENCES."""
    return sorted({name for name in names if name.lower() in LICENCES}, key=lambda name: (name.lower(), name))


def _licence(row: Fields, licensed: Sequence[str]) -> str | None:
    """The licence that a record states: the first of these columns with a text, or with a list of texts."""
    for name in licensed:
        field = columns.value(row, name)
        texts = [text for text in (field if isinstance(field, list) else [field]) if isinstance(text, str)]
        if stated := ", ".join(text for text in texts if text.strip()):
            return stated
    return None


def _differ(stated: str, given: str | None) -> bool:
    """Whether the recipe gives a licence, and the data another one than that."""
    return given is not None and stated.strip().lower() != given.strip().lower()


def _commonest(collected: SourceRows) -> str:
    return "; ".join(f"{reason} ({count:,})" for reason, count in collected.reasons.most_common(3))
