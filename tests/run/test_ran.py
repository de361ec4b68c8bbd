"""What pieces were computed with: markers say it, and a run that mixes machines says so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from curator.build import build
from curator.run.ran import LIBRARIES, mixture
from tests.small_run import recipe, report_of

ALIKE = {"threads": 1, "device": "cpu", "dtype": "float32", "versions": {"torch": "2.13.0", "peft": "0.21.2"}}


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


def test_a_process_without_torch_says_nothing_and_does_not_load_it() -> None:
    code = "import sys; from curator.run.ran import computed_with; print(computed_with(), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["{}", "False"]


def test_a_grid_that_was_gone_on_with_on_more_threads_says_so_in_report_and_card(tmp_path: Path) -> None:
    first = ("verify.arms=[curated, random]", "verify.seeds=2", "engine.threads=1")
    build(recipe(*first), tmp_path)
    marker = json.loads((tmp_path / "5-train" / "before" / "curated-0" / "done.json").read_text())
    assert marker["where"]["threads"] == 1
    assert set(marker["where"]["versions"]) <= set(LIBRARIES)
    assert not any("with the same settings" in warning for warning in report_of(tmp_path)["warnings"])
    build(recipe(*first[:1], "verify.seeds=3", "engine.threads=2"), tmp_path)
    (warning,) = (text for text in report_of(tmp_path)["warnings"] if "with the same settings" in text)
    # Two arms; 2 seeds were trained and answered on one thread, before and after fine-tuning, and 1 on two.
    assert "threads 1 (16) and 2 (8)" in warning
    assert warning in (tmp_path / "8-report" / "report.md").read_text().replace("\\", "")
    assert warning in (tmp_path / "9-publish" / "dataset" / "README.md").read_text().replace("\\", "")
