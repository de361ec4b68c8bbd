"""Numbers of a paper that a suite is compared with, from `recovered.json` in the suite's folder, if there is one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from curator.errors import RecipeError, RunError
from curator.recipe.source import Section, Share
from curator.run.folder import read_json

FILE = "recovered.json"
Text = Annotated[str, Field(min_length=1)]


class PaperNumber(Section):
    """One number: `harmful` after fine-tuning, for an arm of a model at a size on a task; null if it could not be
    recovered. `certainty` says how certain it is.
    """

    model: Text
    k: int | None
    task: Text
    arm: Text
    harmful: Share | None
    certainty: Text


class Recovered(Section):
    """The paper's tables as far as they are known: their source, caveats, and the numbers."""

    source: Text
    caution: Text
    numbers: list[PaperNumber]


def recovered(folder: Path) -> Recovered | None:
    """The checked content of the folder's file; null if there is none.

    Raises:
        RecipeError: It is damaged; the message names every mistake.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        return Recovered.model_validate(read_json(path, "fix it"))
    except RunError as error:
        raise RecipeError(str(error)) from error
    except ValidationError as error:
        raise RecipeError(
            [f"{path}: {'.'.join(map(str, mistake['loc']))}: {mistake['msg']}; fix it" for mistake in error.errors()]
        ) from None


def known(paper: Recovered, model: str, k: int | None, task: str | None, arm: str) -> PaperNumber | None:
    """The paper's number for a cell, or null."""
    cell = (model, k, task, arm)
    return next((number for number in paper.numbers if (number.model, number.k, number.task, number.arm) == cell), None)
