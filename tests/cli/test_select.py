"""The command `curator select`, and what other commands say of its run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import curator
from curator.cli import cli
from curator.errors import RecipeError, RunError
from curator.publish.unverified import NOT_VERIFIED
from curator.recipe.file import dump
from curator.run import Run
from tests.small_run import recipe


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe file that only says how rows are chosen."""
    file = tmp_path_factory.mktemp("recipes") / "few.yaml"
    whole = recipe("pool.sources.0.rows=120", "select.k=8").model_dump(by_alias=True)
    file.write_text(dump({name: part for name, part in whole.items() if name not in ("probes", "verify", "judges")}))
    return file


def ran(*words: object) -> Result:
    result = CliRunner().invoke(cli, [str(word) for word in words], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result


@pytest.fixture(scope="module")
def chosen(written: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What the command printed, and the run folder."""
    root = tmp_path_factory.mktemp("select") / "run"
    return ran("select", written, "--out", root, "--rows", root.parent / "rows.jsonl").output, root


def test_it_says_where_rows_and_data_set_are_and_that_nothing_is_verified(chosen: tuple[str, Path]) -> None:
    said, root = chosen
    assert f"Rows: {root.parent / 'rows.jsonl'} (8 lines)" in said
    assert f"Data set: {root / 'unverified' / 'dataset'}" in said
    assert NOT_VERIFIED in said
    assert "first add probes, verify and judges to the recipe" in said
    assert "coverage of the pool" in said


def test_rows_show_and_why_read_such_a_run(chosen: tuple[str, Path]) -> None:
    _, root = chosen
    ids = Run.open(root).selection().ids
    assert [line.split()[0] for line in ran("rows", root).output.splitlines()] == list(ids)
    assert f"Row {ids[0]} was chosen" in ran("show", root, "--why", ids[0]).output
    shown = ran("show", root).output
    assert "coverage of the pool" in shown
    assert NOT_VERIFIED in shown
    advice = "to verify the chosen rows, add probes, verify and judges to the recipe, then run `curator build`"
    assert shown.splitlines()[-1] == f"There is no report yet; {advice}."
    with pytest.raises(RunError, match="the stage `report` is not finished") as refused:
        _ = curator.load(root).decision
    assert str(refused.value).endswith(advice)
    found = json.loads(ran("show", root, "--json").output)
    assert [each["set"] for each in found["composition"]] == ["pool", "curated", "random"]


def test_an_out_that_ends_in_jsonl_is_the_file_of_rows(
    written: Path, chosen: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = ran("select", written, "--out", "rows.jsonl", "--set", "select.k= 8").output
    assert f"To verify it: curator build {written} --out outputs/quickstart --set 'select.k= 8' (first" in said
    assert (tmp_path / "rows.jsonl").read_text() == (chosen[1].parent / "rows.jsonl").read_text()
    assert (tmp_path / "outputs" / "quickstart" / "unverified").is_dir()


def test_what_the_recipe_reads_is_not_written_over(tmp_path: Path) -> None:
    pool = tmp_path / "pool.jsonl"
    pool.write_text("{}\n")
    file = tmp_path / "r.yaml"
    whole = recipe().model_dump(by_alias=True)
    file.write_text(dump({**whole, "pool": {"sources": [{"file": str(pool)}]}}))
    for name in (pool, file):
        with pytest.raises(RecipeError, match="the recipe reads this file"):
            ran("select", file, "--rows", name)
        with pytest.raises(RecipeError, match="the recipe reads this file"):
            curator.select_rows(file, out=tmp_path / "run", rows=name)
    assert pool.read_text() == "{}\n"


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("rows.parquet", None, "name a file that ends in .jsonl"),
        ("notes.jsonl", '{"mine": 1}\n', "it holds something else"),
        ("notes.jsonl", "words\n", "it holds something else"),
        ("notes.jsonl", '{"messages": []}\n{"mine": 1}\n', "it holds something else"),
        ("notes/rows.jsonl", "words", "is not writable"),
    ],
)
def test_a_file_that_cannot_hold_the_rows_is_refused_before_any_work(
    written: Path, tmp_path: Path, name: str, text: str | None, reason: str
) -> None:
    there = tmp_path / Path(name).parts[0] if text is not None else None
    if there is not None:
        there.write_text(text or "")
    with pytest.raises(RecipeError, match=re.escape(reason)):
        ran("select", written, "--out", tmp_path / "run", "--rows", tmp_path / name)
    assert not (tmp_path / "run").exists()
    assert there is None or there.read_text() == text


def test_a_run_again_writes_its_rows_again_in_a_folder_of_their_own(
    written: Path, chosen: tuple[str, Path], tmp_path: Path
) -> None:
    for _ in range(2):
        ran("select", written, "--out", chosen[1], "--rows", tmp_path / "new" / "rows.jsonl")
    assert (tmp_path / "new" / "rows.jsonl").read_text() == (chosen[1].parent / "rows.jsonl").read_text()


def test_check_passes_a_recipe_that_only_chooses_and_says_what_a_build_needs(written: Path) -> None:
    said = ran("check", written).output
    assert "no problems found for `curator select`" in said
    assert "`curator build` also needs probes, verify and judges" in said
    assert "alignment" not in said
    assert json.loads(ran("check", written, "--json").output)["lacks"] == ["probes", "verify", "judges"]
    with pytest.raises(RecipeError, match=r"judges: missing; add it, or choose rows .* `curator select`"):
        ran("build", written)
