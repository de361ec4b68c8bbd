"""What was trained, told once for all seeds."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from curator.records import Trained

# (arm, seed, task or null before fine-tuning) -> the model
Models = Mapping[tuple[str, int, str | None], Trained]


def training_facts(models: Models) -> list[dict[str, Any]]:
    """For each arm and task (null: alignment): seeds, method, means over seeds of rows, tokens, steps and losses."""
    found = []
    for (arm, task), own in _by_arm(models).items():
        first = own[0]
        found.append(
            {
                "arm": arm,
                "task": task,
                "method": first.method,
                "seeds": len(own),
                "rows": fmean(one.rows for one in own),
                "tokens": fmean(one.tokens for one in own),
                "steps": fmean(one.steps for one in own),
                "too_long": max(one.dropped for one in own),
                "first_loss": fmean(one.losses[0] for one in own) if all(one.losses for one in own) else None,
                "last_loss": fmean(one.losses[-1] for one in own) if all(one.losses for one in own) else None,
            }
        )
    return found


def training_times(models: Models) -> dict[str, Any]:
    """Seconds of alignment and fine-tuning, summed over models, and the largest peak memory in GiB."""
    return {
        "align_seconds": sum(one.seconds for (_, _, task), one in models.items() if task is None),
        "finetune_seconds": sum(one.seconds for (_, _, task), one in models.items() if task is not None),
        "peak_gib": max((one.peak_gib for one in models.values()), default=None),
    }


def _by_arm(models: Models) -> dict[tuple[str, str | None], list[Trained]]:
    grouped: dict[tuple[str, str | None], list[Trained]] = {}
    for arm, seed, task in sorted(models, key=lambda cell: (cell[2] is not None, cell[2] or "", cell[0], cell[1])):
        grouped.setdefault((arm, task), []).append(models[arm, seed, task])
    return grouped
