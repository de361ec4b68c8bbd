"""Work on a cluster of machines, by Ray: as tasks, one for each job, or by processes that stay for all jobs.

`run_ray` makes tasks, which Ray runs again where their worker or node dies. A worker process takes one task after
another, so that libraries are loaded once in each; with GPUs Ray starts a process for every task, so that no task finds
the memory of another. `run_actors` lets Ray Data hand jobs that are the same work on many pieces of data to processes
that stay: what one has loaded for a job, a model above all, it keeps for the next, on a GPU too.

Jobs read and write the run folder, which is on a disk that all nodes share; Ray carries jobs and results, which are
small.
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
SEEN_WITHIN = 10.0  # seconds until what one node wrote is seen by another; NFS looks again after a few
ENDED_WITHIN = 30.0  # seconds for cancelled tasks to end

SIGN = "engine.json"
MEMORY = 256 * 2**20  # bytes of Ray's store on this machine; jobs and results are small
INSTALL = 'pip install -c constraints.txt ".[ray]"'


def run_ray(
    work: Callable[[Job], Result], jobs: Sequence[Job], *, section: Engine, threads: int, folder: Path
) -> Iterator[Result]:
    """Results of `work(job)` as they come, from at most `section.workers` tasks at once.

    A task is tried again `section.retries` times when its process is killed or its node is lost. An error of the work
    itself stops the rest and is raised here as it was raised there; so does Ctrl-C. Tasks that still run are ended.

    Raises:
        RunError: There is no such cluster, none of its nodes is large enough, a node does not see the run folder or has
            another curator, or a job was lost more often than `section.retries`.
    """
    if not jobs:
        return
    ray = _connected(section, threads)
    ground = ground_of(folder, section)
    task = _task(ray, section, threads)
    waiting = [pickle.dumps((work, job)) for job in reversed(jobs)]
    running: list[Any] = []
    # No more tasks are handed to Ray than may run at once: it would start as many as the cluster has room for.
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
    """As `run_ray`, by at most `section.workers` processes that stay for all jobs. Raises as that does."""
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
        # ray_remote_args_fn goes in Ray 2.64, where jobs must be tried again by other means.
        warnings.filterwarnings("ignore", message=".*ray_remote_args_fn.*")
        # A job is a block and a batch of its own, so that its result comes as soon as it is done and a lost process
        # loses one job.
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
    """While the block runs, the connection to Ray that the first job makes is kept; then it is closed, and a Ray that
    was started for it is stopped. A connection that was there before stays.

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
        RunError: No cluster answers in 30 s, or no node of it can hold a worker.
    """
    # No statistics go out, and Ray's C++ side does not write to the terminal.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray

    logging.getLogger("ray").setLevel(logging.ERROR)
    if not ray.is_initialized():
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
        if section.address is None:
            # An address of its own, or the environment's RAY_ADDRESS would be taken.
            quiet |= {"num_cpus": section.workers * threads, "include_dashboard": False, "object_store_memory": MEMORY}
        else:
            _look_for(section.address)
        with own_code(), _away():
            ray.init(address=section.address or "local", **quiet)
    _require_room(ray, section, threads)
    return ray


@contextmanager
def _away() -> Iterator[None]:
    """Stands where curator is, as Ray has its workers look for modules where the driver stands; see `own_code`."""
    before = os.getcwd()
    os.chdir(PACKAGE)
    try:
        yield
    finally:
        os.chdir(before)


def _look_for(address: str) -> None:
    """Makes sure that a cluster answers: its port first, then a process that joins it.

    A process of its own, because `ray.init` takes no time limit, and may try for long to no avail.

    Raises:
        RunError: Nothing answers, or it cannot be joined in JOINED_WITHIN seconds.
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
        retry_exceptions=False,  # an error of the work would come again
        runtime_env={"env_vars": _environment(section, threads)},
        name="curator",
    )


def _environment(section: Engine, threads: int) -> dict[str, str]:
    """What a worker finds in its environment before it loads anything."""
    # Ray itself sets OMP_NUM_THREADS alone, and by the time that a job could set the others they have been read.
    variables = thread_settings(threads)
    # Whether Ray hides GPUs from a task that was given none differs by its version.
    return variables if section.gpus_per_worker else {**variables, "CUDA_VISIBLE_DEVICES": ""}


def _end(ray: Any, running: Sequence[Any]) -> None:
    """Ends tasks that are no longer needed, and waits for that: the same pieces may be begun again at once."""
    if not running or not ray.is_initialized():
        return
    for ref in running:
        ray.cancel(ref, force=True)
    ray.wait(list(running), num_returns=len(running), timeout=ENDED_WITHIN)


class Ground(NamedTuple):
    """What a worker must find before it begins.

    Attributes:
        folder: The run folder. `sign`: what was written into it, by which a worker knows that it sees the same one.
        start: Folder that relative paths of a recipe start from.
        version: Of curator.
        gpu: Whether the worker was given a GPU.
    """

    folder: str
    sign: str
    start: str
    version: str
    gpu: bool


def ground_of(folder: Path, section: Engine) -> Ground:
    """Puts a sign into the run folder, by which a worker knows that it sees the same one."""
    sign = uuid.uuid4().hex
    write_json(folder / SIGN, {"sign": sign})
    return Ground(str(folder.absolute()), sign, os.getcwd(), __version__, section.gpus_per_worker > 0)


class Failed(Exception):  # noqa: N818 - carries an error, and is not one of its own
    """What a job raised in a worker: the error, and its traceback in words, which pickle leaves behind."""


class Actor:
    """A process that stays: takes packed jobs, and gives what `serve` gives of each, or how it failed."""

    def __init__(self, threads: int, ground: Ground) -> None:
        self.threads, self.ground = threads, ground

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[bytes]]:
        return {"done": [self._serve(packed) for packed in batch["job"]]}

    def _serve(self, packed: bytes) -> bytes:
        try:
            return pickle.dumps((True, serve(packed, self.threads, self.ground)))
        except Failed as failed:
            # As data: Ray Data would put the error in words of its own, and begin the job again.
            return pickle.dumps((False, failed.args))


def serve(packed: bytes, threads: int, ground: Ground) -> Any:
    """One job in a worker.

    Raises:
        Failed: It raised an error.
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
    """Refuses a node that does not see the run folder, has another curator, or does not find the GPU it was given."""
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
            # What Ray raises is of a class of its own, derived from Failed; the one that was raised is its `cause`.
            error, text = getattr(failed, "cause", failed).args
            raise error from RuntimeError(f"in a worker of Ray:\n{text}")


@contextmanager
def _explained(ray: Any, section: Engine) -> Iterator[None]:
    """Turns what Ray says of a worker or node that was lost once too often, or could not begin, into a RunError that
    says what to do about it.
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
