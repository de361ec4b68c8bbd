"""The models that a recipe's scores use: the base model, and models that are aligned on one random half of the pool and
applied to the other. Imports nothing heavy, so that a plan can be shown at once.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from curator.recipe.score import KINDS, Score
from curator.recipe.source import require_all

if TYPE_CHECKING:
    from curator.recipe import Recipe

HALVES = (0, 1)


class Alignments(NamedTuple):
    """Models that are aligned on a number of rows of each half of the pool.

    Attributes:
        rows: Number of rows of a half that its model is aligned on; null for as many as are selected.
        seeds: How often the pool is halved and both models are trained. `tuned`: whether each is then fine-tuned on
            every anticipated task.
    """

    rows: int | None
    seeds: int
    tuned: bool

    def arm(self, half: int) -> str:
        """The name of a half's models, also for folders: `half-0`, or `half-0-200` if the recipe states the number of
        rows.
        """
        return f"half-{half}" if self.rows is None else f"half-{half}-{self.rows}"


def scores_of_models(recipe: Recipe) -> list[Score]:
    """Every score of models that a recipe selects by or its pilot compares, including parts of rank sums, each once."""
    from curator.recipe import every_part

    distinct: list[Score] = []
    distinct.extend(p for p in every_part(recipe) if KINDS[p.kind].models is not None and p not in distinct)
    return distinct


def alignments_of(recipe: Recipe) -> list[Alignments]:
    """The models that are trained for a recipe's scores; models with equal `rows` serve all scores that need them."""
    trained = [part for part in scores_of_models(recipe) if KINDS[part.kind].aligns]
    return [
        Alignments(
            rows,
            max(part.seeds for part in trained if part.rows == rows),
            any(KINDS[part.kind].models == "fine-tuned" for part in trained if part.rows == rows),
        )
        for rows in dict.fromkeys(part.rows for part in trained)
    ]


def require_models(recipe: Recipe) -> None:
    """Checks that the recipe can train the models of its scores.

    Raises:
        ValueError: It cannot; the message names every mistake.
    """
    require_all(
        *(partial(_require, recipe, part) for part in scores_of_models(recipe)),
        partial(_require_forgetting, recipe),
    )


def vulnerable_by(recipe: Recipe) -> Score | None:
    """The score that defines vulnerable rows: the recipe's first `forgetting` score; null without one."""
    return next((part for part in scores_of_models(recipe) if part.kind == "forgetting"), None)


def _require_forgetting(recipe: Recipe) -> None:
    if recipe.select.vulnerable is not None and vulnerable_by(recipe) is None:
        pilot = ", or to verify.pilot.scores" if recipe.select.piloted else ""
        raise ValueError(
            "select: vulnerable is a share of the rows that fine-tuning makes a model forget, and no score of the "
            "recipe says which they are; set score to {from: forgetting}, or add it to `of` of a rank-sum"
            f"{pilot}, or remove vulnerable"
        )


def _require(recipe: Recipe, part: Score) -> None:
    if (KINDS[part.kind].aligns or part.kind == "metagradient") and recipe.verify.stage != "upstream":
        raise ValueError(
            f"score: {part.kind} reads aligned models, and verify.stage {recipe.verify.stage} aligns none; use another "
            "score, or set verify.stage to upstream"
        )
    if part.kind == "metagradient":
        _require_differentiable(recipe)
    if part.kind == "geometry" and recipe.model.quantise is not None:
        raise ValueError(
            "score: geometry reads how training changes all weights, and model.quantise trains adapters only; use "
            "another score, or remove model.quantise"
        )


def _require_differentiable(recipe: Recipe) -> None:
    from curator.recipe import share

    verify = recipe.verify
    for name in ("align", "finetune"):
        if getattr(verify, name).method != "full":
            raise ValueError(
                f"score: metagradient differentiates through training of all weights, and verify.{name}.method is "
                "'lora'; set it to full, or use another score"
            )
    if verify.log_odds is None or verify.log_odds.kind != "recipe":
        raise ValueError(
            "score: metagradient differentiates the log-odds of complying, and verify.log_odds has no texts; give it "
            "refuse and comply, or use another score"
        )
    if share(recipe) is None:
        raise ValueError(
            "score: metagradient needs probes that the experiment never uses, which only a pilot or a search for the "
            "regime sets aside; set select.weight to auto, or add verify.regime: {}"
        )
