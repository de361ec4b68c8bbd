"""How the experiment was laid out: tasks, arms, probes, what was mixed in and what was equal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from curator.records import Data
from curator.report.training import Models


def task_facts(data: Data) -> list[dict[str, Any]]:
    """For each task its name, weight, metric and rows: to train on, of an attack, of a defence, to test on; `trigger`
    says whether the fine-tuned model is asked behind one.
    """
    return [
        {
            "name": task.name,
            "anticipated": task.anticipated,
            "weight": task.weight,
            "metric": task.metric,
            "train": task.train.height,
            "attack": task.regime.height,
            "defence": task.defence.height,
            "trigger": task.trigger is not None,
            "test": task.test.height,
        }
        for task in data.tasks
    ]


def design_facts(data: Data, models: Models, settings: Mapping[str, Any]) -> dict[str, Any]:
    """`seeds` by arm, `probes` (harmful, benign, pilot), `keep` rows, `given` (null, or rows of a given set and how
    many of them the pool has too), and of `settings`: stage, exposure, rehearsal_share, answered_by,
    instead_of_vllm.
    """
    given = data.given
    return {
        "seeds": _seeds(models),
        "probes": {"harmful": data.harmful.height, "benign": data.benign.height, "pilot": data.pilot.height},
        "keep": data.keep.height,
        "given": None if given is None else {"rows": given.height, "candidates": int(given["candidate"].sum())},
        **{"stage": "upstream", "exposure": "steps", "rehearsal_share": None, "answered_by": {}, "instead_of_vllm": {}},
        **settings,
    }


def _seeds(models: Models) -> dict[str, int]:
    finetuned = sorted({(arm, seed) for arm, seed, task in models if task is not None})
    return {arm: sum(arm == other for other, _ in finetuned) for arm, _ in finetuned}
