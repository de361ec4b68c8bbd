"""Everything that only a GPU can show, in one table: `python -m tests.gpu.run`; see README.md beside this file.

Each part is a process of its own with a time limit, so that one that fails, hangs or fills the GPU takes no other with
it, and what it had measured by then is kept. The parts stand in the order of their importance.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PARTS: Mapping[str, float] = {
    "tests": 100,
    "smollm2": 110,
    "quickstart": 80,
    "training": 90,
    "representation": 45,
    "similarity": 45,
    "graph": 60,
}
"""Part -> seconds that it may take; `tests.gpu.parts` holds what it does."""

WHOLE = 470.0  # seconds for all of them
DRY = "CURATOR_GPU_DRY"

Row = dict[str, Any]
"""`part`, `what`, `value` (a number or words) and `unit`; `failed` where a test or a part did not do what it should."""


def main() -> int:
    """Runs the parts, prints the table and writes it; 1 if anything failed."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    asked.add_argument("--dry", action="store_true", help="tiny sizes, on the CPU where there is no GPU")
    asked.add_argument("--out", type=Path, default=Path("gpu"), help="folder for table.md and figures.json [gpu]")
    asked.add_argument("--beside", type=Path, help="figures.json of another machine, shown in a column of its own")
    asked.add_argument("--recipe", type=Path, help="for the part smollm2, instead of its own settings")
    asked.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of that recipe")
    options = asked.parse_args()
    settings = {"dry": options.dry, "recipe": options.recipe and str(options.recipe.resolve()), "set": options.set}
    # Without a GPU sizes are tiny and the machine may be slow: what matters there is that every part comes to its end.
    slower = 6 if options.dry else 1
    limits = {name: slower * limit for name, limit in PARTS.items()}
    rows, machine = run(options.only, settings, limits=limits, whole=slower * WHOLE), about()
    beside = json.loads(options.beside.read_text(encoding="utf-8")) if options.beside else None
    table = markdown(rows, machine, beside)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "table.md").write_text(table, encoding="utf-8")
    figures = json.dumps({"machine": machine, "rows": rows}, indent=1)
    (options.out / "figures.json").write_text(figures, encoding="utf-8")
    print(table)
    return int(any(row.get("failed") for row in rows))


def run(
    names: Sequence[str],
    settings: Mapping[str, Any],
    *,
    limits: Mapping[str, float] = PARTS,
    whole: float = WHOLE,
    module: str = "tests.gpu.parts",
) -> list[Row]:
    """The rows of these parts, one after the other; a part that time is not left for is said to be left out."""
    rows: list[Row] = []
    end = time.monotonic() + whole
    for name in names:
        left = min(limits[name], end - time.monotonic())
        if left < 5 < limits[name]:
            rows.append({"part": name, "what": "left out", "value": "no time was left", "failed": True})
            continue
        print(f"{name}: at most {left:.0f} s", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="curator-gpu-") as folder:
            rows += _part(name, settings, left, Path(folder), module)
    return rows


def _part(name: str, settings: Mapping[str, Any], limit: float, folder: Path, module: str) -> list[Row]:
    job = {"name": name, "folder": str(folder), "rows": str(folder / "rows"), **settings}
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", **({DRY: "1"} if settings.get("dry") else {})}
    clock, ending = time.monotonic(), None
    with (folder / "log").open("w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(job)],
            stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(timeout=limit)
            if code:
                log.seek(0)
                lines = [line.strip() for line in log if line.strip()]
                ending = f"failed: {(lines or [f'exit code {code}'])[-1][:200]}"
                print("\n".join(lines[-30:]), file=sys.stderr)
        except subprocess.TimeoutExpired:
            ending = f"not finished in {limit:.0f} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # its workers too, which are of its session
                process.wait()
    written = folder / "rows"
    lines = written.read_text(encoding="utf-8").splitlines() if written.exists() else []
    rows: list[Row] = [{"part": name, **json.loads(line)} for line in lines]
    if ending is not None:
        rows.append({"part": name, "what": "the part", "value": ending, "failed": True})
    rows.append({"part": name, "what": "whole part", "value": time.monotonic() - clock, "unit": "s"})
    return rows


def about() -> dict[str, str]:
    """Date, card and versions."""
    code = (
        "import json, torch, transformers; from curator.run.ran import versions; v = versions(); "
        "gpu = torch.cuda.is_available(); "
        "print(json.dumps({'card': torch.cuda.get_device_name() if gpu else 'no GPU', 'torch': torch.__version__, "
        "'cuda': str(torch.version.cuda), 'transformers': transformers.__version__, 'trl': v.get('trl', 'none')}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {"date": time.strftime("%Y-%m-%d %H:%M"), **json.loads(done.stdout.splitlines()[-1])}


def markdown(rows: Sequence[Row], machine: Mapping[str, str], beside: Mapping[str, Any] | None) -> str:
    """The table, with what was measured where."""
    other = {} if beside is None else {(row["part"], row["what"]): row for row in beside["rows"]}
    head = "# " + ", ".join([machine["date"], machine["card"]])
    lines = [head, "", ", ".join(f"{name} {machine[name]}" for name in machine if name not in ("date", "card"))]
    if beside is not None:
        lines += ["", "Beside: " + ", ".join(f"{name} {value}" for name, value in beside["machine"].items())]
    lines += ["", "| part | what | here |" + " beside |" * bool(other), "| --- | --- | --- |" + " --- |" * bool(other)]
    for row in rows:
        cells = [row["part"], row["what"], _told(row)]
        if other:
            cells.append(_told(other.get((row["part"], row["what"]), {"value": ""})))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])


def _told(row: Row) -> str:
    value, unit = row["value"], row.get("unit", "")
    if isinstance(value, str):
        words = value
    elif unit == "%":
        words, unit = f"{value:.1%}", ""
    else:
        words = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{'**' if row.get('failed') else ''}{words} {unit}".strip() + ("**" if row.get("failed") else "")


if __name__ == "__main__":
    sys.exit(main())
