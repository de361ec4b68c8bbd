"""The script for a GPU runs to its end without one, and a part that fails or hangs takes no other with it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gpu import parts
from tests.gpu.run import PARTS, WHOLE, markdown, run

ROOT = Path(__file__).parents[2]
STAND_IN = """
import json, sys, time
job = json.loads(sys.argv[1])
with open(job["rows"], "a") as out:
    out.write(json.dumps({"what": "a figure", "value": 12345.6, "unit": "tokens/s"}) + "\\n")
if job["name"] == "hangs":
    time.sleep(600)
if job["name"] == "fails":
    raise RuntimeError("CUDA out of memory")
"""


def test_a_part_that_fails_or_hangs_keeps_its_figures_and_takes_no_other_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stand_in_parts.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    limits = {"fails": 60.0, "hangs": 6.0, "works": 60.0}
    rows = run(list(limits), {"dry": True}, limits=limits, whole=600.0, module="stand_in_parts")
    told = {(row["part"], row["what"]): row for row in rows}
    for name in limits:
        assert told[name, "a figure"]["value"] == 12345.6
    assert told["fails", "the part"]["value"] == "failed: RuntimeError: CUDA out of memory"
    assert told["hangs", "the part"]["value"] == "not finished in 6 s"
    assert told["hangs", "whole part"]["value"] < 60
    assert ("works", "the part") not in told
    assert {row["part"] for row in rows if row.get("failed")} == {"fails", "hangs"}
    (late,) = run(["works"], {"dry": True}, limits=limits, whole=1.0, module="stand_in_parts")
    assert (late["what"], late["failed"]) == ("left out", True)


def test_the_table_names_date_and_card_and_stands_beside_another_machines() -> None:
    rows = [
        {"part": "a", "what": "speed", "value": 12345.6, "unit": "tokens/s"},
        {"part": "a", "what": "share", "value": 0.5, "unit": "%"},
        {"part": "b", "what": "the part", "value": "failed: x|y", "failed": True},
    ]
    machine = {"date": "2026-01-01 10:00", "card": "Some GPU", "torch": "2.11"}
    table = markdown(rows, machine, None).splitlines()
    assert table[0] == "# 2026-01-01 10:00, Some GPU"
    assert table[-3:] == [
        "| a | speed | 12,346 tokens/s |",
        "| a | share | 50.0% |",
        "| b | the part | **failed: x\\|y** |",
    ]
    other = {"machine": {"card": "no GPU"}, "rows": [{"part": "a", "what": "speed", "value": 3.0, "unit": "tokens/s"}]}
    beside = markdown(rows, machine, other)
    assert "| a | speed | 12,346 tokens/s | 3 tokens/s |" in beside
    assert "Beside: card no GPU" in beside


def test_every_part_has_a_limit_and_together_they_leave_eight_minutes_in_time() -> None:
    assert set(PARTS) == set(parts.PARTS)
    assert max(PARTS.values()) <= WHOLE <= 480


@pytest.mark.slow
@pytest.mark.long
def test_the_whole_script_runs_to_its_end_without_a_gpu(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.gpu.run", "--dry", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert {row["part"] for row in rows if row["what"] != "whole part"} == set(PARTS)
    assert (tmp_path / "table.md").read_text() == done.stdout.removesuffix("\n")
    figures = {(row["part"], row["what"]): row["value"] for row in rows}
    (pieces,) = (value for (part, what), value in figures.items() if part == "quickstart" and what.startswith("dtype"))
    assert pieces in ("float32", "bfloat16")
    assert figures["graph", "1,000: recall (64 of 256 cells)"] > 0.9
