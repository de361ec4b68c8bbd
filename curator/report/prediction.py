"""Whether a score has said beforehand which safe answers fine-tuning takes away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any


def prediction_facts(forgotten: Sequence[Any], predictions: Sequence[Any]) -> dict[str, Any]:
    """`forgetting` and `score_predicts` of the report; both are empty where forgetting was not measured.

    Args:
        forgotten: For each task and loss: task, loss, rows, seeds, before, mean, sd, agreement; losses in nats a token.
        predictions: For each score, task and loss, the largest |rho| first: score, task, loss, rho, low, high, rows,
            seeds.
    """
    return {
        "forgetting": [asdict(one) for one in forgotten],
        "score_predicts": [asdict(one) for one in predictions],
    }
