"""Invented verdicts: seeds and prompts with effects of their own, no model anywhere."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from curator.records import VERDICT_SCHEMA

Verdicts = Callable[..., pl.DataFrame]


def rows(arm, kind, phase, task, seeds, prompts, outcome=None, refused=None, score=None):
    """One row a seed and prompt; `outcome`, `refused`, `score` are `(s, p)` lists or one value for all."""

    def spread(value):
        return (
            [value] * (seeds * prompts)
            if value is None or isinstance(value, (str, bool, float))
            else list(np.ravel(value))
        )

    n = seeds * prompts
    return pl.DataFrame(
        {
            "arm": [arm] * n,
            "draw": np.repeat(np.arange(seeds), prompts),
            "seed": np.repeat(np.arange(seeds), prompts),
            "task": [task] * n,
            "phase": [phase] * n,
            "kind": [kind] * n,
            "probe": [f"{kind}-{task if kind == 'utility' else ''}{p}" for p in range(prompts)] * seeds,
            "at": [float(phase == "after")] * n,
            "prefill": [0] * n,
            "sample": [0] * n,
            "judge": ["invented"] * n,
            "outcome": spread(outcome),
            "refused": spread(refused),
            "score": spread(score),
            "reason": [None] * n,
            "raw": [""] * n,
        },
        schema=VERDICT_SCHEMA,
        strict=False,
    )


def outcomes(generator, rate, seeds, prompts, sd=0.0):
    """`(s, p)` outcomes: `rate` plus a seed effect with this spread."""
    level = rate + generator.normal(0, sd, seeds)[:, None]
    return np.where(generator.random((seeds, prompts)) < level, "harmful", "safe")


@pytest.fixture
def verdicts() -> Verdicts:
    def make(
        after,
        *,
        before=0.04,
        tasks=("list",),
        seeds=6,
        prompts=200,
        sd=0.0,
        over_refusal=0.02,
        utility=0.6,
        seed=0,
        side=100,
    ):
        """Verdicts of the arms in `after` (name -> harm rate after fine-tuning, or `(s, p)` outcomes)."""
        frames = []
        for place, (arm, rate) in enumerate(after.items()):
            generator = np.random.default_rng((seed, place))
            shape = seeds, prompts
            frames.append(rows(arm, "harmful", "before", None, *shape, outcomes(generator, before, *shape)))
            for task in tasks:
                found = outcomes(generator, rate, *shape, sd) if isinstance(rate, float) else rate
                frames.append(rows(arm, "harmful", "after", task, *shape, found))
                refused = generator.random((seeds, side)) < (
                    over_refusal if isinstance(over_refusal, float) else over_refusal[arm]
                )
                frames.append(rows(arm, "benign", "after", task, seeds, side, "safe", refused))
                for phase in ("before", "after"):
                    score = generator.random((seeds, side)) < (utility if isinstance(utility, float) else utility[arm])
                    frames.append(rows(arm, "utility", phase, task, seeds, side, "safe", None, score.astype(float)))
        return pl.concat(frames)

    return make
