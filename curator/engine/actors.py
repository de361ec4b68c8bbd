"""Work that is the same on many pieces of data, on a cluster: Ray Data hands the pieces to processes that stay.

What such a process has loaded for one piece, a model above all, it keeps for the next; on a GPU too, where each of
Ray's tasks has a process of its own.
"""

from __future__ import annotations

import logging
import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from curator.engine.ray import Failed, Ground, connected, environment, ground_of, lost, serve
from curator.recipe import Engine

Job = TypeVar("Job")
Result = TypeVar("Result")


class Actor:
    """A process that stays: takes packed jobs, and gives what `serve` gives of each, or how it failed."""

    def __init__(self, threads: int, ground: Ground) -> None:
        self.threads, self.ground = threads, ground

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[bytes]]:
        return {"done": [self._done(packed) for packed in batch["job"]]}

    def _done(self, packed: bytes) -> bytes:
        try:
            return pickle.dumps((True, serve(packed, self.threads, self.ground)))
        except Failed as failed:
            # As data: Ray Data would tell the error in words of its own, and begin the job again.
            return pickle.dumps((False, failed.args))


def run_actors(
    work: Callable[[Job], Result], jobs: Sequence[Job], *, section: Engine, threads: int, folder: Path
) -> Iterator[Result]:
    """As `ray.run_ray`, by at most `section.workers` processes that stay for all jobs. Raises as that does."""
    if not jobs:
        return
    ray = connected(section, threads)
    from ray import data

    for name in ("ray.data", "ray.data._internal"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    data.DataContext.get_current().enable_progress_bars = False
    packed = [{"job": pickle.dumps((work, job))} for job in jobs]
    number = min(section.workers, len(jobs))
    with warnings.catch_warnings():
        # To be removed in Ray 2.64, whose tasks are then to be tried again by other means.
        warnings.filterwarnings("ignore", message=".*ray_remote_args_fn.*")
        given = data.from_items(packed, override_num_blocks=len(packed)).map_batches(
            Actor,
            fn_constructor_args=(threads, ground_of(folder, section)),
            batch_size=1,
            batch_format="numpy",
            compute=data.ActorPoolStrategy(
                min_size=1, max_size=number, initial_size=number, max_tasks_in_flight_per_actor=1
            ),
            num_cpus=threads,
            num_gpus=section.gpus_per_worker or None,
            runtime_env={"env_vars": environment(section, threads)},
            ray_remote_args_fn=lambda: {"max_restarts": section.retries, "max_task_retries": section.retries},
        )
    with lost(ray, section):
        for batch in given.iter_batches(batch_size=1, batch_format="numpy", prefetch_batches=0):
            for done in batch["done"]:
                well, result = pickle.loads(done)
                if not well:
                    error, text = result
                    raise error from RuntimeError(f"in a worker of Ray:\n{text}")
                yield result
