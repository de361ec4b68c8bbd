"""What several commands print."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def report_of(run: Path) -> Any:
    """report.json of a run folder."""
    from curator.run.folder import read_json

    return read_json(run / "8-report" / "report.json")


def print_summary(run: Path) -> None:
    """What a finished run has found, in one table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from curator.report.markdown import summary

    report = report_of(run)
    console = Console()
    table = Table(show_header=False, title=f"{report['name']}", title_justify="left")
    for label, text in summary(report):
        table.add_row(Text(label), Text(text))
    console.print(table)
