"""Work on a cluster of machines, by Ray: as tasks, one for each job, or by processes that run all jobs.

`run_ray` makes tasks, which Ray runs again if their worker or node dies. A worker process runs one task after another,
so that libraries are loaded once in each; with GPUs Ray starts a process for every task, so that each task starts with
free memory. `run_actors` lets Ray Data distribute jobs that do the same work on many pieces of data to lasting
processes, which keep what they have loaded for a job, such as a model, for the next one, also on a GPU.

Jobs read and write the run folder, which is on a disk that all nodes share; Ray transfers only jobs and results, which
are small.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import pickle
import re
import socket
import subprocess
import sys
import time
import traceback
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from curator import __version__
from curator.errors import RunError, first_line, portable
from curator.provenance import PACKAGE, own_code, set_threads, thread_settings
from curator.recipe import Engine
from curator.run.folder import placed, read_json, write_json
from curator.wording import these

Job = TypeVar("Job")
Result = TypeVar("Result")

ANSWERS_WITHIN = 5.0  # seconds for a port to open
JOINED_WITHIN = 22.0  # seconds for a process of this machine to join the cluster; with the port, less than 30
SEEN_WITHIN = 10.0  # seconds until one node sees the files of another; NFS checks again after a few
ENDED_WITHIN = 30.0  # seconds for cancelled tasks to end

SIGN = "engine.json"
MEMORY = 256 * 2**20  # bytes of Ray's store on this machine; jobs and results are small
INSTALL = 'pip install -c constraints.txt ".[ray]"'


def run_ray(
    work: Callable[[Job], Result], jobs: Sequence[Job], *, section: Engine, threads: int, folder: Path
) -> Iterator[Result]:
    """Results of `work(job)` as they are done, from at most `section.workers` tasks at once.

    A task is retried `section.retries` times if its process is killed or its node is lost. An error of the work itself
    stops the rest and is raised here unchanged; Ctrl-C stops too. Running tasks are ended.

    Raises:
        RunError: There is no such cluster, none of its nodes is large enough, a node does not see the run folder or has
            another version of curator, or a job was lost more often than `section.retries`.
    """
    if not jobs:
        return
    ray = _connected(section, threads)
    ground = ground_of(folder, section)
    task = _task(ray, section, threads)
    waiting = [pickle.dumps((work, job)) for job in reversed(jobs)]
    running: list[Any] = []
    # Ray gets only as many tasks as may run at once: it would start as many as the cluster has room for.
    try:
        while waiting or running:
            while waiting and len(running) < section.workers:
                running.append(task.remote(waiting.pop(), threads, ground))
            ready, running = ray.wait(running, num_returns=1)
            yield _received(ray, ready[0], section)
    finally:
        _end(ray, running)


def run_actors(
    work: Callable[[Job], Result], jobs: Sequence[Job], *, section: Engine, threads: int, folder: Path
) -> Iterator[Result]:
    """Like `run_ray`, with at most `section.workers` processes that run all jobs. Raises the same errors."""
    if not jobs:
        return
    ray = _connected(section, threads)
    from ray import data

    for name in ("ray.data", "ray.data._internal"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    data.DataContext.get_current().enable_progress_bars = False
    packed = [{"job": pickle.dumps((work, job))} for job in jobs]
    number = min(section.workers, len(jobs))
    with warnings.catch_warnings():
        # Ray 2.64 removes ray_remote_args_fn; jobs must then be retried by other means.
        warnings.filterwarnings("ignore", message=".*ray_remote_args_fn.*")
        # Each job is a separate block and batch, so that its result is available as soon as it is done and a lost
        # process loses one job.
        results = data.from_items(packed, override_num_blocks=len(packed)).map_batches(
            Actor,
            fn_constructor_args=(threads, ground_of(folder, section)),
            batch_size=1,
            batch_format="numpy",
            compute=data.ActorPoolStrategy(
                min_size=1, max_size=number, initial_size=number, max_tasks_in_flight_per_actor=1
            ),
            num_cpus=threads,
            num_gpus=section.gpus_per_worker or None,
            runtime_env={"env_vars": _environment(section, threads)},
            ray_remote_args_fn=lambda: {"max_restarts": section.retries, "max_task_retries": section.retries},
        )
    with _explained(ray, section):
        for batch in results.iter_batches(batch_size=1, batch_format="numpy", prefetch_batches=0):
            for packed_result in batch["done"]:
                succeeded, result = pickle.loads(packed_result)
                if not succeeded:
                    error, text = result
                    raise error from RuntimeError(f"in a worker of Ray:\n{text}")
                yield result


@contextmanager
def session() -> Iterator[None]:
    """Keeps the connection to Ray that the first job makes while the block runs; then closes it, and stops a Ray that
    was started for it. An earlier connection is kept.

    Raises:
        RunError: Ray is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise RunError(f"engine.kind: Ray is not installed; run: {INSTALL}")
    module = sys.modules.get("ray")
    before = module is not None and module.is_initialized()
    try:
        yield
    finally:
        module = sys.modules.get("ray")
        if module is not None and module.is_initialized() and not before:
            module.shutdown()


def _connected(section: Engine, threads: int) -> Any:
    """The library, connected to the cluster of the section and quiet.

    Raises:
        RunError: No cluster responds within 30 s, or none of its nodes has room for a worker.
    """
    # Usage statistics are off, and Ray's C++ side does not write to the terminal.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray

    logging.getLogger("ray").setLevel(logging.ERROR)
    if not ray.is_initialized():
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
        if section.address is None:
            # An explicit address, because otherwise the environment's RAY_ADDRESS would be used.
            quiet |= {"num_cpus": section.workers * threads, "include_dashboard": False, "object_store_memory": MEMORY}
        else:
            _look_for(section.address)
        with own_code(), _away():
            ray.init(address=section.address or "local", **quiet)
    _require_room(ray, section, threads)
    return ray


@contextmanager
def _away() -> Iterator[None]:
    """Changes to the folder of curator, because Ray's workers search for modules in the driver's current folder; see
    `own_code`.
    """
    before = os.getcwd()
    os.chdir(PACKAGE)
    try:
        yield
    finally:
        os.chdir(before)


def _look_for(address: str) -> None:
    """Checks that a cluster responds: first its port, then a process that joins it.

    It is a separate process, because `ray.init` has no time limit and may try for long in vain.

    Raises:
        RunError: There is no response, or joining takes longer than JOINED_WITHIN seconds.
    """
    host_and_port = re.fullmatch(r"(?:ray://)?(.+):(\d+)", address)
    try:
        if host_and_port is not None:
            socket.create_connection((host_and_port[1], int(host_and_port[2])), timeout=ANSWERS_WITHIN).close()
    except (OSError, OverflowError) as error:
        raise RunError(
            f"engine.address: nothing answers at {address} ({first_line(error)}); start a head there with "
            "`ray start --head` and name the address that it prints, or remove address to use this machine alone"
        ) from error
    join = "import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False, logging_level='ERROR')"
    command = [sys.executable, "-P", "-c", join, address]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=JOINED_WITHIN)
        reason = (done.stderr.strip().splitlines() or [""])[-1][:300] if done.returncode else None
    except subprocess.TimeoutExpired:
        reason = f"no answer in {JOINED_WITHIN:.0f} s"
    if reason is not None:
        raise RunError(
            f"engine.address: cannot join a Ray cluster at {address} ({reason}); start a head with `ray start --head`, "
            "and run `ray start --address=HEAD:PORT` on this machine with the same versions of Ray and Python (a head "
            "with a token needs RAY_AUTH_MODE=token here, and the token of `ray get-auth-token`), or remove address to "
            "use this machine alone"
        )


def _require_room(ray: Any, section: Engine, threads: int) -> None:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(node.get("CPU", 0) >= threads and node.get("GPU", 0) >= section.gpus_per_worker for node in nodes):
        return
    sizes = "; ".join(sorted({f"CPUs: {node.get('CPU', 0):g}, GPUs: {node.get('GPU', 0):g}" for node in nodes}))
    raise RunError(
        f"engine: no node is large enough for a worker (CPUs: {threads}, GPUs: {section.gpus_per_worker:g}); found "
        f"nodes with {sizes}; lower engine.threads or engine.gpus_per_worker, or add a larger node"
    )


def _task(ray: Any, section: Engine, threads: int) -> Any:
    return ray.remote(serve).options(
        num_cpus=threads,
        num_gpus=section.gpus_per_worker,
        max_retries=section.retries,
        retry_exceptions=False,  # an error of the work would recur
        runtime_env={"env_vars": _environment(section, threads)},
        name="curator",
    )


def _environment(section: Engine, threads: int) -> dict[str, str]:
    """A worker's environment before it loads anything."""
    # Ray itself sets only OMP_NUM_THREADS, and the others have been read before a job could set them.
    variables = thread_settings(threads)
    # Ray's versions differ in whether they hide GPUs from a task without GPUs.
    return variables if section.gpus_per_worker else {**variables, "CUDA_VISIBLE_DEVICES": ""}


def _end(ray: Any, running: Sequence[Any]) -> None:
    """Ends tasks that are no longer needed, and waits for it, because the same pieces may be started again at once."""
    if not running or not ray.is_initialized():
        return
    for ref in running:
        ray.cancel(ref, force=True)
    ray.wait(list(running), num_returns=len(running), timeout=ENDED_WITHIN)


class Ground(NamedTuple):
    """What a worker checks before it begins.

    Attributes:
        folder: The run folder. `sign`: a mark written into it, by which a worker recognises the same folder.
        start: Folder that relative paths of a recipe start from.
        version: Version of curator.
        gpu: Whether the worker was given a GPU.
    """

    folder: str
    sign: str
    start: str
    version: str
    gpu: bool


def ground_of(folder: Path, section: Engine) -> Ground:
    """Puts a mark into the run folder, by which workers recognise it."""
    sign = uuid.uuid4().hex
    write_json(folder / SIGN, {"sign": sign})
    return Ground(str(folder.absolute()), sign, os.getcwd(), __version__, section.gpus_per_worker > 0)


class Failed(Exception):  # noqa: N818 - carries an error, and is not one of its own
    """What a job raised in a worker: the error, and its traceback as text, which pickle drops."""


class Actor:
    """A lasting process: takes packed jobs, and returns the result of `serve` for each, or how it failed."""

    def __init__(self, threads: int, ground: Ground) -> None:
        self.threads, self.ground = threads, ground

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[bytes]]:
        return {"done": [self._serve(packed) for packed in batch["job"]]}

    def _serve(self, packed: bytes) -> bytes:
        try:
            return pickle.dumps((True, serve(packed, self.threads, self.ground)))
        except Failed as failed:
            # As data: Ray Data would wrap the error, and start the job again.
            return pickle.dumps((False, failed.args))


def serve(packed: bytes, threads: int, ground: Ground) -> Any:
    """One job in a worker.

    Raises:
        Failed: The job raised an error.
    """
    set_threads(threads)
    try:
        _stand_on(ground)
        from curator.model.load import quiet

        quiet()
        placed(**_facts())
        work, job = pickle.loads(packed)
        return work(job)
    except Exception as error:
        raise Failed(portable(error), "".join(traceback.format_exception(error))) from error


def _facts() -> dict[str, Any]:
    import ray

    context = ray.get_runtime_context()
    gpus = context.get_accelerator_ids().get("GPU", [])
    return {"engine": "ray", "node": context.get_node_id(), "gpus": [str(gpu) for gpu in gpus]}


def _stand_on(ground: Ground) -> None:
    """Checks that the node sees the run folder, has the same curator, and finds the GPU it was given."""
    from curator.model.load import device

    host, path = socket.gethostname(), Path(ground.folder) / SIGN
    if ground.version != __version__:
        raise RunError(
            f"engine.address: node {host} has curator {__version__}, but the run uses {ground.version}; install the "
            "same version on every node"
        )
    if ground.gpu and device() != "cuda":
        raise RunError(
            f"engine.gpus_per_worker: Ray gave a worker on node {host} a GPU, but torch finds none there; install a "
            "build of torch with CUDA on it, or set engine.gpus_per_worker to 0"
        )
    if Path(ground.start).is_dir():
        os.chdir(ground.start)
    limit = time.monotonic() + SEEN_WITHIN
    while not (path.exists() and read_json(path).get("sign") == ground.sign):
        if time.monotonic() > limit:
            raise RunError(
                f"engine.address: node {host} cannot see the run folder {ground.folder}; use --out to put it on a disk "
                "that all nodes share under the same path"
            )
        time.sleep(0.2)


def _received(ray: Any, ref: Any, section: Engine) -> Any:
    with _explained(ray, section):
        try:
            return ray.get(ref)
        except Failed as failed:
            # Ray raises its own class derived from Failed; the original error is its `cause`.
            error, text = getattr(failed, "cause", failed).args
            raise error from RuntimeError(f"in a worker of Ray:\n{text}")


@contextmanager
def _explained(ray: Any, section: Engine) -> Iterator[None]:
    """Turns Ray's errors about a worker or node that was lost too often, or could not start, into a RunError that says
    what to do.
    """
    again = "and run the same command again (finished work is kept)"
    errors = ray.exceptions
    try:
        yield
    except errors.OutOfMemoryError as error:
        raise RunError(
            f"engine.workers: a node ran out of memory ({first_line(error)}); lower engine.workers, or raise "
            f"engine.threads so that fewer run on a node, {again}"
        ) from error
    except (errors.WorkerCrashedError, errors.NodeDiedError, errors.ObjectLostError, errors.RayActorError) as error:
        raise RunError(
            f"engine.retries: a piece was lost {these(section.retries + 1, 'time', 'times')} with its worker or node "
            f"({type(error).__name__}), most likely because memory ran out; lower engine.workers, or raise "
            f"engine.retries, {again}"
        ) from error
    except errors.RayError as error:
        words = [line for line in str(error).strip().splitlines() if line] or [type(error).__name__]
        raise RunError(
            f"engine.address: a worker could not start ({words[-1][:300]}); every node needs the same Python, Ray and "
            f"curator ({INSTALL})"
        ) from error
