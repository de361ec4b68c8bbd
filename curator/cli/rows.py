"""Command rows: the rows behind an id or a finding, with the file and record that each comes from."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curator.cli.options import PATH
from curator.errors import CuratorError, DataError, RunError
from curator.run import current, keys_of
from curator.wording import record_of, these, visible

if TYPE_CHECKING:
    import polars as pl

    from curator.corpus.model import Audit
    from curator.records import Messages


Origin = tuple[str, int | None]
"""A file or data set, and a record of it."""
MOST = 10
"""Rows that the start of an id may stand for."""


@dataclass(frozen=True)
class Row:
    """A row and where it comes from.

    Attributes:
        id: The row's id. `role`: what it is for, such as `pool` or `harmful`.
        source: The file, data set or built-in source. `line`: its record there, from 1; null if unknown.
        category: The row's category, or null. `text`: the conversation, or null unless it was requested.
    """

    id: str
    role: str
    source: str
    line: int | None
    category: str | None
    text: str | None = None


@click.command()
@click.argument("folder", type=PATH, metavar="RUN|AUDIT")
@click.argument("wanted", nargs=-1, metavar="[ID|FINDING]...")
@click.option("--text", "with_text", is_flag=True, help="Print the text of each row, which may be harmful.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON lines.")
def rows(folder: Path, wanted: tuple[str, ...], with_text: bool, as_json: bool) -> None:
    """Print the rows behind an id (or the start of one) or a finding, with file and record.

    A record is a line of JSON Lines and text, else a position in the list or table, from 1. The first argument is a run
    folder, or the folder of an audit. Without an id or finding, the chosen rows of the run are printed, or the findings
    of the audit are listed.
    """
    if not folder.exists():
        raise RunError(f"{folder}: does not exist; give a run folder, or a folder that `curator audit` wrote")
    from curator.corpus.page import AUDIT, load

    if (folder / AUDIT).is_file():
        report = load(folder)
        if not wanted:
            _list(report)
            return
        listed = of_audit(report, wanted, with_text=with_text)
    else:
        listed = of_run(folder, wanted, with_text=with_text)
    for row in listed:
        click.echo(json.dumps(asdict(row), ensure_ascii=False) if as_json else _line(row))


def of_run(root: Path, wanted: Sequence[str], *, with_text: bool) -> list[Row]:
    """The rows of a run with these ids or findings, by role; the chosen rows if `wanted` is empty.

    Raises:
        RunError: The stage `pool` is not finished (or `select`, if `wanted` is empty), or a name matches nothing.
    """
    from curator.run.files import load_frame
    from curator.run.readers import explanations, pool_findings, role_files, sources_by_role, to_continue

    keys_of(root)
    for stage in ("pool",) if wanted else ("pool", "select"):
        if current(root, stage) is None:
            raise RunError(f"{root}: the stage `{stage}` is not finished; {to_continue(root, stage)}")
    frames = {role: load_frame(path) for role, path in role_files(root).items()}
    names = sources_by_role(root)
    if not wanted:
        chosen = explanations(root)[0]["id"].to_list()
        return _rows("pool", frames["pool"], chosen, names, with_text)
    findings = pool_findings(root)
    listed: list[Row] = []
    for name in wanted:
        matching = (
            _rows("pool", frames["pool"], findings[name], names, with_text)
            if name in findings
            else [
                row
                for role, frame in frames.items()
                for row in _rows(role, frame, _starting(frame["id"], name), names, with_text)
            ]
        )
        if not matching:
            raise RunError(
                f"{name!r}: no row id of this run starts with it, and no finding has this name"
                + (f"; findings: {', '.join(findings)}" if findings else "")
                + f"; `curator rows {root}` lists the chosen rows with their ids"
            )
        if name not in findings:
            _refuse_many(name, {row.id for row in matching}, RunError)
        listed += matching
    return listed


def of_audit(report: Audit, wanted: Sequence[str], *, with_text: bool) -> list[Row]:
    """The rows of an audited corpus with these ids or findings; their text is read from the corpus again.

    Raises:
        DataError: A name matches nothing, or a finding without ids; the text of a task's row is wanted; or the corpus
            was removed or has changed since.
    """
    from curator.corpus.page import corpus_of

    by_kind: dict[str, dict[str, Origin]] = {}
    what: dict[str, list[str]] = {}
    for finding in report.findings:
        lines: Sequence[int | None] = finding.lines if isinstance(finding.lines, tuple) else [None] * len(finding.ids)
        source = finding.source or report.corpus.label
        rows_of = {row: (source, line) for row, line in zip(finding.ids, lines, strict=True)}
        by_kind.setdefault(finding.kind, {}).update(rows_of)
        what.setdefault(finding.kind, []).append(finding.what)
    known = {row: origin for origins in by_kind.values() for row, origin in origins.items()}
    places: dict[str, Origin] = {}
    for name in wanted:
        matching = by_kind[name] if name in by_kind else {row: known[row] for row in _starting(known, name)}
        if not matching and name in what:
            raise DataError(f"{name!r}: this finding has no rows with an id; it says: {' '.join(what[name])}")
        if not matching:
            raise DataError(
                f"{name!r}: no finding of this audit has this name, and no row id in its findings starts with it; "
                f"findings: {', '.join(sorted(by_kind)) or 'none'}"
            )
        if name not in by_kind:
            _refuse_many(name, matching, DataError)
        places |= matching
    others = {source for source, _ in places.values()} - {report.corpus.label}
    if with_text and others:
        raise DataError(
            f"--text: an audit reads texts of its corpus alone, and these are rows of {', '.join(sorted(others))}; "
            "without --text their records are printed"
        )
    texts: Mapping[str, Messages] = corpus_of(report) if with_text else {}
    return [
        Row(
            row,
            "corpus" if source == report.corpus.label else "task",
            source,
            line,
            None,
            _text(texts[row]) if row in texts else None,
        )
        for row, (source, line) in places.items()
    ]


def _rows(
    role: str, frame: pl.DataFrame, ids: Iterable[str], names: Mapping[tuple[str, str], str], with_text: bool
) -> list[Row]:
    by_id = {row["id"]: row for row in frame.filter(frame["id"].is_in(list(ids))).iter_rows(named=True)}
    return [
        Row(
            row["id"],
            role,
            names.get((role, row["source"]), row["source"]),
            row.get("line"),
            row["category"],
            _text(row["messages"]) if with_text else None,
        )
        for row in (by_id[row_id] for row_id in ids if row_id in by_id)
    ]


def _starting(ids: Iterable[str], name: str) -> list[str]:
    return [row_id for row_id in ids if row_id == name or (name and row_id.startswith(name))]


def _refuse_many(name: str, ids: Collection[str], error: type[CuratorError]) -> None:
    """Refuses the start of more than MOST ids: what is asked for is a row, or a few."""
    if len(ids) > MOST:
        raise error(
            f"{these(len(ids), 'row id starts', 'row ids start')} with {name!r}; give more characters of the id"
        )


def _text(messages: Messages) -> str:
    return "\n".join(f"{turn['role']}: {turn['content']}" for turn in messages)


def _line(row: Row) -> str:
    origin = row.source if row.line is None else record_of(row.source, row.line)
    parts = [row.id, row.role, origin, *([row.category] if row.category else [])]
    line = "  ".join(visible(part) for part in parts)
    return line if row.text is None else line + "\n" + "\n".join(f"    {visible(one)}" for one in row.text.splitlines())


def _list(report: Audit) -> None:
    for finding in report.findings:
        click.echo(f"{finding.kind}  {finding.severity}  {finding.count:,}  {finding.what}")
    click.echo("Name a finding to see its rows." if report.findings else "This audit has no findings.")
