"""What pieces were computed with: markers say it, and a run that mixes machines says so."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

import curator
from curator.errors import RunError
from curator.pipeline import build
from curator.run import ran
from curator.run.folder import make, read_json
from curator.run.ran import mixture, require_alike, versions
from tests.small_run import recipe, report_of

VERSIONS = {"torch": "2.13.0", "peft": "0.21.2"}
ALIKE = {"threads": 1, "device": "cpu", "dtype": "float32", "answered_by": "transformers", "versions": VERSIONS}


def test_pieces_that_were_computed_alike_are_no_mixture() -> None:
    assert mixture([ALIKE, {**ALIKE, "host": "another", "process": 7}]) is None


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"threads": 2}, "threads 1 (2) and 2 (1)"),
        ({"device": "NVIDIA H100"}, "device NVIDIA H100 (1) and cpu (2)"),
        ({"dtype": "bfloat16"}, "dtype bfloat16 (1) and float32 (2)"),
        ({"versions": {"torch": "2.11.0", "peft": "0.21.2"}}, "torch 2.11.0 (1) and 2.13.0 (2)"),
    ],
)
def test_what_differs_is_named_with_how_many_pieces(other: dict[str, object], words: str) -> None:
    assert words in (mixture([ALIKE, ALIKE, {**ALIKE, **other}]) or "")


def test_a_piece_that_does_not_say_is_not_another_kind() -> None:
    assert mixture([ALIKE, {"host": "of an earlier version"}]) is None


def test_a_process_without_torch_says_its_versions_and_does_not_load_it() -> None:
    code = "import sys; from curator.run.ran import computed_with; print(*computed_with(), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["versions", "False"]


def test_versions_name_what_is_installed_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    import polars
    import torch

    found = versions()
    assert found["curator"] == curator.__version__
    assert found["python"] == platform.python_version()
    assert found["polars"] == polars.__version__
    assert found["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert "faiss-gpu-cu12" not in found or "faiss-cpu" not in found
    monkeypatch.setattr(ran, "LIBRARIES", ("numpy", "no-such-library"))
    assert set(versions.__wrapped__()) == {"curator", "numpy", "python"}


def test_what_is_noted_is_of_one_piece_and_not_of_the_one_around_it(tmp_path: Path) -> None:
    def inner(folder: Path) -> dict[str, str]:
        ran.note_dtype("torch.bfloat16")
        return {}

    def outer(folder: Path) -> dict[str, str]:
        ran.note_dtype("float32")
        make(folder / "inner", "k", inner)
        return {}

    make(tmp_path / "outer", "k", outer)
    make(tmp_path / "next", "k", lambda folder: {})
    said = [read_json(tmp_path / name / "done.json")["where"] for name in ("outer", "outer/inner", "next")]
    assert [where.get("dtype") for where in said] == ["float32", "bfloat16", None]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"device": "NVIDIA H100"}, "device NVIDIA H100 instead of cpu"),
        ({"dtype": "bfloat16"}, "dtype bfloat16 instead of float32"),
        ({"answered_by": "vllm"}, "answered_by vllm instead of transformers"),
        ({"versions": {"torch": "2.11.0", "peft": "0.21.2"}}, "torch 2.11.0 instead of 2.13.0"),
    ],
)
def test_pieces_that_differ_in_more_than_threads_are_refused(other: dict[str, object], words: str) -> None:
    odd = {**ALIKE, **other}
    with pytest.raises(RunError) as caught:
        require_alike({"a": ALIKE, "b": odd, "c": ALIKE})
    assert words in str(caught.value)
    assert "(b) were computed differently from the others" in str(caught.value)
    with pytest.raises(RunError, match=r"\(x, y\) were computed differently from this process"):
        require_alike({"x": odd, "y": odd}, ALIKE)
    require_alike({"a": odd, "b": odd}, odd)
    require_alike({"a": ALIKE, "b": {"host": "of an earlier version"}}, {**ALIKE, "threads": 8, "host": "x"})
    require_alike({"a": ALIKE, "b": {**ALIKE, "threads": 2, "versions": {**VERSIONS, "polars": "0.1"}}})


def altered(folder: Path, **changes: object) -> None:
    """As if the piece in a folder had been computed otherwise."""
    marker = json.loads((folder / "done.json").read_text())
    marker["where"] |= changes
    (folder / "done.json").write_text(json.dumps(marker))


def test_a_grid_is_not_gone_on_with_elsewhere_unless_the_recipe_mixes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("verify.arms=[curated, random]", "verify.forgetting={rows: 10, seeds: 1, interference: false}")
    build(recipe(*asked, "verify.seeds=1"), tmp_path)
    for stage in ("5-train", "6-answer"):
        for marker in (tmp_path / stage).rglob("done.json"):
            where = json.loads(marker.read_text())["where"]
            assert marker.parent.name == stage or where["dtype"] == "float32"
            altered(marker.parent, device="NVIDIA H100", dtype="bfloat16")
    trained = sorted((tmp_path / "5-train").rglob("weights"))
    with pytest.raises(RunError, match=r"engine\.mix: .*5-train/before/curated-0.*device NVIDIA H100 instead of cpu"):
        build(recipe(*asked, "verify.seeds=2"), tmp_path)
    assert sorted((tmp_path / "5-train").rglob("weights")) == trained, "nothing is trained first"
    # What is done is not refused, and the report says where it was computed, not where it was written.
    build(recipe(*asked, "verify.seeds=1", "verify.gates={over_refusal: 0.2}"), tmp_path)
    provenance = report_of(tmp_path)["provenance"]
    assert (provenance["device"], provenance["dtype"]) == ("NVIDIA H100", "bfloat16")
    page = (tmp_path / "8-report" / "report.html").read_text()
    assert "The models were computed in bfloat16 on NVIDIA H100." in page
    assert (
        "The models were computed in bfloat16 on NVIDIA H100."
        in (tmp_path / "9-publish" / "dataset" / "README.md").read_text()
    )
    # An answer alone is not given elsewhere either.
    (tmp_path / "6-answer" / "done.json").unlink()
    (tmp_path / "6-answer" / "before" / "random-0" / "done.json").unlink()
    with pytest.raises(RunError, match=r"engine\.mix"):
        build(recipe(*asked, "verify.seeds=1"), tmp_path)
    build(recipe(*asked, "verify.seeds=2", "engine.mix=true"), tmp_path)
    report = report_of(tmp_path)
    (warning,) = (text for text in report["warnings"] if "with the same settings" in text)
    assert "device NVIDIA H100" in warning
    assert "dtype bfloat16" in warning
    assert report["provenance"]["device"] == "NVIDIA H100 and cpu"
    assert warning in (tmp_path / "9-publish" / "dataset" / "README.md").read_text().replace("\\", "")


@pytest.mark.parametrize(("dtype", "name"), [("auto", "float32"), ("bf16", "bfloat16")])
def test_everything_computes_in_the_dtype_of_the_recipe(tmp_path: Path, dtype: str, name: str) -> None:
    build(recipe(f"model.dtype={dtype}", "verify.arms=[curated, random]", "verify.seeds=1"), tmp_path, until="answer")
    pieces = [path for stage in ("5-train", "6-answer") for path in (tmp_path / stage).glob("*/**/done.json")]
    assert len(pieces) >= 8
    for path in (tmp_path / "2-represent" / "done.json", *pieces):
        assert json.loads(path.read_text())["where"]["dtype"] == name, path


def test_vectors_from_the_cache_name_the_dtype_that_they_were_computed_in(tmp_path: Path) -> None:
    for name in ("first", "second"):
        build(recipe(), tmp_path / name, until="represent")
        marker = json.loads((tmp_path / name / "2-represent" / "done.json").read_text())
        assert marker["where"]["dtype"] == "float32"
    assert marker["record"]["cached"] > 0 == marker["record"]["embedded"]


@pytest.mark.parametrize("stage", ["5-train/before/curated-0", "5-train/after/list/random-0"])
def test_nothing_is_computed_beside_pieces_of_which_some_are_from_elsewhere(tmp_path: Path, stage: str) -> None:
    """Also where others were computed as this process computes, and where models alone are from there."""
    asked = ("verify.arms=[curated, random]",)
    build(recipe(*asked, "verify.seeds=1"), tmp_path)
    altered(tmp_path / stage, device="NVIDIA H100")
    trained = sorted((tmp_path / "5-train").rglob("weights"))
    with pytest.raises(RunError, match=rf"engine\.mix: .*{stage}.*device"):
        build(recipe(*asked, "verify.seeds=2"), tmp_path)
    assert sorted((tmp_path / "5-train").rglob("weights")) == trained
    for marker in (tmp_path / "6-answer").rglob("done.json"):
        marker.unlink()
    with pytest.raises(RunError, match=rf"engine\.mix: .*{stage}.*device"):
        build(recipe(*asked, "verify.seeds=1"), tmp_path)
    assert not list((tmp_path / "6-answer").rglob("done.json"))


def test_a_report_tells_the_versions_of_the_pieces_and_not_its_own(
    copy_of_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = copy_of_run
    before = report_of(root)["provenance"]["versions"]
    assert before["torch"] == versions()["torch"]
    monkeypatch.setattr(ran, "versions", lambda: {"torch": "99", "polars": "99"})
    build(recipe("verify.gates={over_refusal: 0.2}"), root)
    assert report_of(root)["provenance"]["versions"] == before


def test_a_grid_that_was_gone_on_with_on_more_threads_says_so_in_report_and_card(tmp_path: Path) -> None:
    first = ("verify.arms=[curated, random]", "verify.seeds=2", "engine.threads=1")
    build(recipe(*first), tmp_path)
    marker = json.loads((tmp_path / "5-train" / "before" / "curated-0" / "done.json").read_text())
    assert marker["where"]["threads"] == 1
    assert marker["where"]["versions"] == versions()
    assert not any("with the same settings" in warning for warning in report_of(tmp_path)["warnings"])
    build(recipe(*first[:1], "verify.seeds=3", "engine.threads=2"), tmp_path)
    (warning,) = (text for text in report_of(tmp_path)["warnings"] if "with the same settings" in text)
    # Two arms; 2 seeds were trained and answered on one thread, before and after fine-tuning, and 1 on two.
    assert "threads 1 (16) and 2 (8)" in warning
    assert warning in (tmp_path / "8-report" / "report.md").read_text().replace("\\", "")
    assert warning in (tmp_path / "9-publish" / "dataset" / "README.md").read_text().replace("\\", "")
