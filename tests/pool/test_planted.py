"""Faults planted in a clean pool are found, and little else is."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import polars as pl
import pytest

from curator.corpus import audit
from curator.corpus.request import Request
from curator.pool.gather import gather
from curator.pool.sources import read
from curator.recipe import Probes
from curator.recipe.pool import PoolSection
from curator.recipe.source import Source
from curator.recipe.task import TaskSection
from curator.recipe.task import Test as HeldOut
from tests.pool.planted import Planted, planted


@pytest.fixture(scope="module")
def made() -> Planted:
    return planted(4000)


@pytest.fixture(scope="module")
def files(made: Planted, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Source]:
    folder = tmp_path_factory.mktemp("planted")
    task = [{"prompt": f"sum {n} and {n}", "response": str(2 * n)} for n in range(60)]
    for name, rows in (("corpus", made.rows), ("probes", made.probes), ("task", task)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {name: Source(file=str(folder / f"{name}.jsonl")) for name in ("corpus", "probes", "task")}


def scores(found: set[int], true: set[int]) -> tuple[float, float]:
    hit = len(found & true)
    return hit / len(true), hit / len(found) if found else 0.0


def check(name: str, found: set[int], true: set[int], told: list[str]) -> None:
    recall, precision = scores(found, true)
    told.append(f"{name}: {len(found)} found of {len(true)}, recall {recall:.3f}, precision {precision:.3f}")
    assert recall >= 0.95, told[-1]
    assert precision >= 0.95, told[-1]


def test_the_pool_stage_drops_what_was_planted(made: Planted, files: dict[str, Source]) -> None:
    found = gather(
        pool=PoolSection(sources=[files["corpus"]]),
        tasks=[TaskSection(name="sums", train=files["task"], test=HeldOut(rows=10))],
        weights={"sums": 1.0},
        probes=Probes(harmful=[files["probes"]]),
        keep=None,
        count_tokens=lambda rows: [1] * len(rows),
    )
    dropped, kept = found.data.pool.dropped, found.data.pool.rows
    assert kept.height + dropped.height == len(made.rows)
    told: list[str] = []
    line_of = dict(kept.select("id", "line").iter_rows())
    by_stage = {stage: dropped.filter(pl.col("stage") == stage) for stage in ("clean", "duplicate", "near", "leak")}
    check("empty", set(by_stage["clean"]["line"]), made.lines["empty"], told)
    check("leaks", set(by_stage["leak"]["line"]), made.lines["leak"], told)
    # Of a pair either row may be the one that stays: the other one's line is found through the row that it matches.
    rows = {number: (row["prompt"], row["response"]) for number, row in enumerate(made.rows, 1)}
    copies = {line for line in by_stage["duplicate"]["line"] if line in made.lines["copy"] or rows[line] in twins(made)}
    assert copies == set(by_stage["duplicate"]["line"])
    recall = len(copies) / len(made.lines["copy"])
    told.append(f"copies: {len(copies)} of {len(made.lines['copy'])}")
    assert recall >= 0.95
    assert by_stage["near"]["match"].is_in(kept["id"].to_list()).all()
    near = set()
    for line, match in by_stage["near"].select("line", "match").iter_rows():
        pair = {line, line_of[match]}
        near |= pair & made.lines["near"] or {line}
    check("near copies", near, made.lines["near"], told)
    report(told)


def twins(made: Planted) -> set[tuple[str, str]]:
    return {(made.rows[line - 1]["prompt"], made.rows[line - 1]["response"]) for line in made.lines["copy"]}


def report(told: list[str]) -> None:
    sys.stdout.write("\n".join(told) + "\n")


def test_an_audit_finds_what_was_planted(made: Planted, files: dict[str, Source]) -> None:
    asked = Request(files["corpus"], {"sums": files["task"]}, {"probes": files["probes"]})
    findings = audit(asked).findings
    told: list[str] = []
    line_of = dict(read(files["corpus"]).rows.select("id", "line").iter_rows())

    def lines(kind: str, about: str = "") -> set[int]:
        hits = [finding for finding in findings if finding.kind == kind and about in finding.what]
        return {line_of[row] for hit in hits for row in hit.ids}

    check("canned answer", lines("canned-answer"), made.lines["canned"], told)
    check("e-mail", lines("personal-data", "e-mail"), made.lines["e-mail"], told)
    check("phone", lines("personal-data", "phone"), made.lines["phone"], told)
    check("leaks", lines("probe-leak"), made.lines["leak"], told)
    kinds = {finding.kind: finding for finding in findings}
    assert kinds["empty"].count == len(made.lines["empty"])
    assert kinds["exact-duplicates"].count == pytest.approx(len(made.lines["copy"]), rel=0.05)
    assert kinds["canned-answer"].severity == "warning"
    report(told)


def test_a_clean_pool_has_none_of_these_findings(tmp_path: Path) -> None:
    clean = planted(600, seed=5)
    spoiled = set().union(*clean.lines.values())
    rows = [row for line, row in enumerate(clean.rows, 1) if line not in spoiled]
    (tmp_path / "clean.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "probes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in clean.probes), encoding="utf-8")
    asked = Request(Source(file=str(tmp_path / "clean.jsonl")), {}, {"p": Source(file=str(tmp_path / "probes.jsonl"))})
    kinds = {finding.kind for finding in audit(asked).findings}
    assert kinds <= {"refusals", "licence-unknown", "languages"}
