"""suite.json: how every run of a suite stands, what the finished ones found, and all comparisons as one family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from curator.errors import RecipeError
from curator.recipe.source import Section, Share
from curator.run.folder import read_json, write_json, write_text
from curator.suite.run import Outcome

VERSION = 1


def suite_dict(
    name: str,
    outcomes: Sequence[Outcome],
    results: Mapping[str, Mapping[str, Any]],
    numbers: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The suite as plain values; report/suite.schema.json says what each key means.

    Args:
        results: Variant -> `results.found`, of the finished ones.
        numbers: From `recovered.recovered`.
    """
    from curator.suite.results import decided

    timing = {one: found["timing"]["seconds"] for one, found in results.items()}
    rows = []
    for outcome in outcomes:
        variant, found = outcome.variant, results.get(outcome.variant.name) if outcome.status == "done" else None
        own = None if found is None else {key: value for key, value in found.items() if key != "timing"}
        if own is not None:  # comparisons stand together, below
            own["judges"] = {
                judge: {key: said[key] for key in ("decides", "rates")} for judge, said in own["judges"].items()
            }
        rows.append(
            {
                **{key: getattr(variant, key) for key in ("name", "source", "k", "task")},
                "status": outcome.status,
                "reason": outcome.reason,
                "bug": outcome.bug,
                "found": own,
                "paper": {
                    arm: known(dict(numbers), own["model"]["id"], variant.k, variant.task, arm)
                    for arm in (own["arms"] | own["utility"] if own else ())
                }
                if numbers is not None and own is not None
                else {},
            }
        )
    contrasts = [
        {"variant": row["name"], "judge": judge, "decides": said["decides"], **one}
        for row in rows
        if row["found"]
        for judge, said in results[row["name"]]["judges"].items()
        for one in said["comparisons"]
    ]
    return {
        "version": VERSION,
        "name": name,
        "runs": rows,
        "contrasts": _families(contrasts, decided),
        "trainings": {
            part: sum(row["found"]["trainings"][part] for row in rows if row["found"]) for part in ("made", "shared")
        },
        "paper": None if numbers is None else {key: numbers[key] for key in ("source", "caution")},
        "timing": {"seconds": timing},
    }


def _families(contrasts: Sequence[Mapping[str, Any]], decided: Any) -> list[dict[str, Any]]:
    """One Holm family for each pair of arms, among the verdicts that decide and among all other judges' apart."""
    order = list(dict.fromkeys((one["treatment"], one["control"], one["decides"]) for one in contrasts))
    found: list[dict[str, Any]] = []
    for kind in order:
        found += decided([one for one in contrasts if (one["treatment"], one["control"], one["decides"]) == kind])
    return found


def write(root: Path, contents: Mapping[str, Any]) -> None:
    """Writes suite.json and suite.html, each whole or not at all."""
    from curator.suite.page import html

    write_json(root / "suite.json", contents)
    write_text(root / "suite.html", html(contents))


FILE = "recovered.json"

Text = Annotated[str, Field(min_length=1)]


class Number(Section):
    """One number: `harmful` after fine-tuning, of an arm of a model at a size on a task; null where it could not be
    recovered. `certainty` says how sure it is.
    """

    model: Text
    k: int | None
    task: Text
    arm: Text
    harmful: Share | None
    certainty: Text


class Recovered(Section):
    """What is known of the paper's tables: where from, what to remember when reading it, and the numbers."""

    source: Text
    caution: Text
    numbers: list[Number]


def recovered(folder: Path) -> dict[str, Any] | None:
    """The content of the folder's file, checked; null where there is none.

    Raises:
        RecipeError: It is damaged; every mistake is named.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        return Recovered.model_validate(read_json(path)).model_dump()
    except ValidationError as error:
        raise RecipeError(
            [f"{path}: {'.'.join(map(str, one['loc']))}: {one['msg']}; mend it" for one in error.errors()]
        ) from None


def known(numbers: dict[str, Any] | None, model: str, k: int | None, task: str | None, arm: str) -> Any:
    """The paper's number for a cell of ours, or null."""
    rows = numbers["numbers"] if numbers else []
    own = [one for one in rows if (one["model"], one["k"], one["task"], one["arm"]) == (model, k, task, arm)]
    return own[0] if own else None
