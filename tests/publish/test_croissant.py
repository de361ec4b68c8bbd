"""croissant.json passes mlcroissant's validation, and mlcroissant reads the rows through it."""

import json

import mlcroissant
import polars as pl
import pytest

from tests.report.invented import invent


@pytest.fixture
def hostile(run, report, write, tmp_path):
    sets = [(arm, seed, one) for (arm, seed), ids in run.arms.items() if arm != "curated" for one in ids]
    controls = pl.DataFrame(sets, schema=["arm", "seed", "id"], orient="row")
    return write(tmp_path / "dataset", run, report.model_copy(update={"name": '"<odd>" name'}), controls=controls)


def test_it_is_valid_and_names_every_data_file_with_its_hash(hostile):
    found = mlcroissant.Dataset(str(hostile / "croissant.json"))
    assert not found.metadata.ctx.issues.errors
    told = json.loads((hostile / "croissant.json").read_text())
    files = json.loads((hostile / "evidence" / "files.json").read_text())["files"]
    assert {one["@id"]: one["sha256"] for one in told["distribution"]} == {
        path: one["sha256"] for path, one in files.items() if path.startswith("data/")
    }


def test_its_rows_are_the_selections(run, folder):
    rows = list(mlcroissant.Dataset(str(folder / "croissant.json")).records("curated/train"))
    assert [row["curated/train/id"].decode() for row in rows] == list(run.selection.ids)
    assert [row["curated/train/rank"] for row in rows] == list(range(12))
    assert [row["curated/train/gain"] for row in rows] == run.selection.gains.tolist()


def test_a_document_that_is_not_valid_is_found(folder, tmp_path):
    """The validator these tests rely on does refuse."""
    told = json.loads((folder / "croissant.json").read_text())
    del told["recordSet"][0]["field"][0]["source"]["extract"]
    told["recordSet"][0]["field"][0]["source"]["fileObject"]["@id"] = "nowhere"
    (tmp_path / "croissant.json").write_text(json.dumps(told))
    with pytest.raises(mlcroissant.ValidationError):
        mlcroissant.Dataset(str(tmp_path / "croissant.json"))


@pytest.mark.parametrize("licences", [("mit", None), (None,), ("my own",)])
def test_every_licence_is_said(write, tmp_path, licences):
    odd = invent(licences=licences)
    folder = write(tmp_path / "dataset", odd, odd.report())
    assert json.loads((folder / "croissant.json").read_text())["license"]
    assert not mlcroissant.Dataset(str(folder / "croissant.json")).metadata.ctx.issues.errors
