"""Ray in place of the local engine: what is refused before a cluster is asked, and all else on two nodes (slow)."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from curator.engine import engaged, ray, runner, spread
from curator.errors import DataError, RecipeError, RunError
from curator.model import load as model
from curator.pipeline import build
from curator.provenance import threads_alone
from curator.recipe import Engine
from curator.recipe.file import dump, parse
from curator.represent import chunks
from curator.run.folder import TEMPORARY, write_json
from tests.engine import jobs
from tests.engine.ending import assert_all_end, wait_until
from tests.small_run import recipe, report_of

# Else Ray takes the loopback's address, the only one that tests may use, for that of this machine in its network.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")

installed = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: .[ray]")


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        (
            "address=auto",
            "address has no effect: only kind: ray reads it, and the kind is local; add kind: ray, or remove it",
        ),
        ("gpus_per_worker=1", "gpus_per_worker has no effect: only kind: ray reads it"),
        ("retries=0", "retries has no effect: only kind: ray reads it"),
    ],
)
def test_a_setting_of_ray_with_the_local_engine_is_a_mistake_that_says_so(setting: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        recipe(f"engine.{setting}")
    assert recipe("engine.kind=ray", f"engine.{setting}").engine.kind == "ray"


@pytest.mark.parametrize("setting", ["address=elsewhere", "address=http://a:1", "gpus_per_worker=1.5", "retries=-1"])
def test_a_setting_that_cannot_be_is_a_mistake(setting: str) -> None:
    with pytest.raises(RecipeError, match=rf"engine(\.{setting.partition('=')[0]})?"):
        recipe("engine.kind=ray", f"engine.{setting}")


def test_a_recipe_is_read_back_as_it_was_written_with_either_engine() -> None:
    for settings in ([], ["engine.kind=ray", "engine.address=ray://head:10001", "engine.gpus_per_worker=0.5"]):
        assert parse(dump(recipe(*settings))) == recipe(*settings)


def test_stages_in_one_process_have_the_threads_of_all_local_workers_and_of_one_ray_worker() -> None:
    assert threads_alone(Engine(workers=3, threads=2)) == 6
    assert threads_alone(Engine(kind="ray", workers=3, threads=2)) == 2


def test_without_ray_the_engine_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RunError, match=r"engine\.kind: Ray is not installed.*pip install .*\.\[ray\]"):
        build(recipe("engine.kind=ray"), tmp_path / "run")


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@installed
@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_no_head_is_a_clear_error_at_once(tmp_path: Path, scheme: str) -> None:
    run = runner(Engine(kind="ray", address=f"{scheme}127.0.0.1:{closed_port()}"), preload="", folder=tmp_path)
    with pytest.raises(RunError, match=r"^engine\.address: nothing answers at .*ray start --head") as caught:
        list(run(jobs.squared, [1]))
    assert scheme + "127.0.0.1" in str(caught.value)


def test_the_local_engine_spreads_nothing_over_workers_that_stay(tmp_path: Path) -> None:
    assert spread(Engine(workers=2), folder=tmp_path) is None


def test_no_job_needs_no_cluster(tmp_path: Path) -> None:
    assert list(runner(Engine(kind="ray"), preload="", folder=tmp_path)(jobs.squared, [])) == []


def test_a_node_that_does_not_see_the_run_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "SEEN_WITHIN", 0.3)
    ground = ray.ground_of(tmp_path, Engine(kind="ray"))
    ray._stand_on(ground)
    missing = rf"engine\.address: node {socket.gethostname()} cannot see the run folder {tmp_path}.*--out"
    write_json(tmp_path / ray.SIGN, {"sign": "of another disk under the same path"})
    with pytest.raises(RunError, match=missing):
        ray._stand_on(ground)
    (tmp_path / ray.SIGN).unlink()
    with pytest.raises(RunError, match=missing):
        ray._stand_on(ground)


def test_what_is_seen_a_little_later_is_waited_for(tmp_path: Path) -> None:
    ground = ray.ground_of(tmp_path, Engine(kind="ray"))
    (tmp_path / ray.SIGN).rename(tmp_path / "later")
    threading.Timer(0.4, lambda: (tmp_path / "later").rename(tmp_path / ray.SIGN)).start()
    ray._stand_on(ground)


def test_a_node_with_another_curator_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"node .* has curator .*, but the run uses 0\.0\.0; install the same"):
        ray._stand_on(ray.ground_of(tmp_path, Engine(kind="ray"))._replace(version="0.0.0"))


@installed
@pytest.mark.slow
def test_ctrl_c_ends_the_work_and_the_ray_that_was_started_for_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.engine.jobs", "ray", str(tmp_path)]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2], start_new_session=True, stderr=subprocess.PIPE)
    try:
        wait_until(lambda: len(list(tmp_path.glob("*.pid"))) == 2 or process.poll() is not None)
        started = psutil.Process(process.pid).children(recursive=True)
        assert any("raylet" in one.name() for one in started)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, errors.decode()
    told = errors.decode().strip()
    assert told.endswith("Interrupted. Finished work is kept; run the same command again to continue.")
    assert "Traceback" not in told
    assert_all_end([one.pid for one in started])


@installed
@pytest.mark.slow
def test_a_port_that_is_no_head_is_a_clear_error_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ray.ANSWERS_WITHIN + ray.JOINED_WITHIN < 30
    monkeypatch.setattr(ray, "JOINED_WITHIN", 6.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(RunError, match=r"^engine\.address: cannot join a Ray cluster at 127"):
            list(runner(Engine(kind="ray", address=address), preload="", folder=tmp_path)(jobs.squared, [1]))


def test_a_worker_that_finds_no_gpu_where_it_was_given_one_is_told_and_does_not_compute_on_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground = ray.ground_of(tmp_path, Engine(kind="ray", gpus_per_worker=0.5))
    monkeypatch.setattr(model, "device", lambda: "cpu")
    with pytest.raises(RunError, match=r"^engine\.gpus_per_worker: Ray gave a worker on node .* a GPU, but torch"):
        ray._stand_on(ground)
    monkeypatch.setattr(model, "device", lambda: "cuda")
    ray._stand_on(ground)


# --- on a cluster of two nodes ------------------------------------------------------------------------------------


NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "node_ip_address": "127.0.0.1"}


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A cluster of two nodes of one processor each, on this machine's loopback."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as changed:
        # Workers are started by the nodes, which know nothing of pytest's own paths.
        changed.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        made = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
        try:
            made.add_node(**NODE)
            yield made
        finally:
            made.shutdown()


@pytest.fixture(scope="module")
def cluster(nodes: Any) -> str:
    return str(nodes.address)


@pytest.fixture(scope="module")
def section(cluster: str) -> Iterator[Engine]:
    chosen = Engine(kind="ray", address=cluster, workers=2, threads=1, retries=1)
    with engaged(chosen):
        yield chosen


@installed
@pytest.mark.slow
def test_jobs_run_on_every_node_with_the_recipes_threads_and_give_what_they_give_here(
    section: Engine, tmp_path: Path
) -> None:
    run = runner(section, preload="", folder=tmp_path)
    given = list(range(4))
    assert sorted(run(jobs.product_of_matrices, given)) == sorted(map(jobs.product_of_matrices, given))
    found = list(run(jobs.threads, given))
    assert {one[:2] for one in found} == {("1", 1)}
    assert os.getpid() not in {one[2] for one in found}
    two = section.model_copy(update={"threads": 2})
    with pytest.raises(
        RunError, match=r"engine: no node is large enough for a worker \(CPUs: 2, GPUs: 0\).*nodes with CPUs: 1"
    ):
        list(runner(two, preload="", folder=tmp_path)(jobs.threads, given))


@installed
@pytest.mark.slow
def test_errors_arrive_as_they_were_raised(section: Engine, tmp_path: Path) -> None:
    run = runner(section, preload="", folder=tmp_path)
    with pytest.raises(DataError, match=r"^rows\.jsonl:3: is empty$"):
        list(run(jobs.a_mistake, [0, 1]))
    with pytest.raises(RecipeError) as several:
        list(run(jobs.several_mistakes, [0, 1]))
    assert several.value.problems == ("a: one", "b: two")
    with pytest.raises(KeyError, match="column") as bug:
        list(run(jobs.a_bug, [0, 1]))
    assert "in a_bug" in str(bug.value.__cause__)
    with pytest.raises(RuntimeError, match=r"(?s)in awkward.*AwkwardError: this and that"):
        list(run(jobs.awkward, [0, 1]))


@installed
@pytest.mark.slow
def test_a_killed_worker_costs_its_piece_alone_and_what_it_left_half_written_goes(
    section: Engine, tmp_path: Path
) -> None:
    run = runner(section, preload="", folder=tmp_path)
    assert sorted(run(jobs.killed_once, [(str(tmp_path), number) for number in range(4)])) == [0, 1, 4, 9]
    assert list(run(jobs.piece_killed_once, [str(tmp_path)])) == ["0"]
    assert (tmp_path / "piece" / "weights").read_text() == "whole"
    assert [path.name for path in (tmp_path / "piece").glob(f".*{TEMPORARY}")] == []
    with pytest.raises(RunError, match=r"engine\.retries: a piece was lost 2 times.*finished work is kept"):
        list(run(jobs.killed, [0, 1]))


@installed
@pytest.mark.slow
def test_workers_that_stay_keep_what_they_loaded_and_are_replaced_when_they_are_killed(
    section: Engine, tmp_path: Path
) -> None:
    run = spread(section, folder=tmp_path)
    assert run is not None
    found = list(run(jobs.threads, list(range(6))))
    assert {one[:2] for one in found} == {("1", 1)}
    assert len({one[2] for one in found}) <= 2
    assert sorted(run(jobs.killed_once, [(str(tmp_path), number) for number in range(4)])) == [0, 1, 4, 9]
    with pytest.raises(DataError, match=r"^rows\.jsonl:3: is empty$"):
        list(run(jobs.a_mistake, [0, 1]))


@installed
@pytest.mark.slow
def test_an_error_and_leaving_early_end_what_still_runs(section: Engine, tmp_path: Path) -> None:
    run = runner(section, preload="", folder=tmp_path)
    folders = [tmp_path / "failing", tmp_path / "sleeping"]
    for folder in folders:
        folder.mkdir()
    with pytest.raises(DataError, match="the first job fails"):
        list(run(jobs.fail_or_sleep, [str(folder) for folder in folders]))
    assert_all_end([int(path.stem) for path in folders[1].glob("*.pid")])


@installed
@pytest.mark.slow
def test_a_lost_node_costs_its_piece_alone(nodes: Any, tmp_path: Path) -> None:
    """Of two nodes that are large enough, the one at work is killed; the other takes over."""
    larger = [nodes.add_node(**{**NODE, "num_cpus": 2}) for _ in range(2)]
    section = Engine(kind="ray", address=nodes.address, workers=1, threads=2, retries=3)
    over = threading.Event()

    def lose() -> None:
        while not over.is_set():
            for path in tmp_path.glob("*.pid"):
                worker = psutil.Process(int(path.stem))
                node = psutil.Process(worker.ppid())
                for process in (node, worker):
                    process.kill()
                return
            time.sleep(0.01)

    losing = threading.Thread(target=lose)
    losing.start()
    try:
        with engaged(section):
            found = list(runner(section, preload="", folder=tmp_path)(jobs.until_it_is_the_second, [str(tmp_path)]))
    finally:
        over.set()
        losing.join()
        for node in larger:
            nodes.remove_node(node, allow_graceful=False)
    pids = {int(path.stem) for path in tmp_path.glob("*.pid")}
    assert len(pids) == 2
    assert found[0] in pids
    assert_all_end(sorted(pids - set(found)))


SMALLER = (
    "pool.sources=[{sandbox: pool, rows: 150}, {sandbox: pool, rows: 300}]",
    "verify.arms=[curated, random]",
    "verify.seeds=2",
    "engine.threads=1",
)


@installed
@pytest.mark.slow
def test_a_run_on_two_nodes_with_workers_killed_reports_what_a_local_run_reports(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "MOST_ROWS", 32)  # so that there are several chunks to be embedded
    # Apart, or one would find the vectors of the other.
    ours, theirs = tmp_path / "first" / "ray", tmp_path / "second" / "local"
    killed: dict[Path, str] = {}
    over = threading.Event()
    watch = threading.Thread(target=kill_in, args=(ours, ["5-train/*/*", "6-answer/after/*/*"], killed, over))
    watch.start()
    embedding: list[int] = []
    watch_too = threading.Thread(target=kill_an_embedder, args=(ours, embedding, over))
    watch_too.start()
    try:
        build(recipe(*SMALLER, "engine.kind=ray", f"engine.address={cluster}", "engine.workers=2"), ours)
    finally:
        over.set()
        watch.join()
        watch_too.join()
    build(recipe(*SMALLER), theirs)
    assert report_of(ours) == report_of(theirs)
    for part in ("pool", "task-list"):
        assert (ours / "2-represent" / f"{part}.npy").read_bytes() == (
            theirs / "2-represent" / f"{part}.npy"
        ).read_bytes()
    for file, attempt in killed.items():
        assert json.loads(file.read_text())["attempt"] != attempt, f"{file} was not made again"
    assert len(killed) == 2
    places = json.loads((ours / "2-represent" / "done.json").read_text())["record"]["places"]
    assert len(embedding) == 1
    assert len(places) == 12  # ten of the pool, two of the task
    assert {place["engine"] for place in places} == {"ray"}
    engine = json.loads((ours / "8-report" / "report.json").read_text())["timing"]["engine"]
    pieces = len(list(ours.glob("[56]-*/*/**/done.json"))) + len(places) + 2  # and two sources
    assert (engine["kind"], sum(node["pieces"] for node in engine["nodes"])) == ("ray", pieces)
    assert [node["engine"] for node in engine["nodes"]] == ["ray", "ray"], "a node had nothing to do"
    assert len({node["node"] for node in engine["nodes"]}) == 2


def kill_an_embedder(root: Path, killed: list[int], over: threading.Event) -> None:
    """Kills a worker that stays as soon as the first vectors are there."""
    while not (over.is_set() or list((root.parent / ".vectors").rglob("*.vectors"))):
        time.sleep(0.002)
    for process in psutil.Process().children(recursive=True):
        if "MapWorker" in " ".join(process.cmdline()) and not (root / "2-represent" / "done.json").exists():
            process.kill()
            killed.append(process.pid)
            break


def kill_in(root: Path, places: list[str], killed: dict[Path, str], over: threading.Event) -> None:
    """Kills the first process that is seen at work on a piece in each of the places."""
    waiting = list(places)
    while waiting and not over.is_set():
        for place in list(waiting):
            for file in root.glob(f"{place}/started.json"):
                if (file.parent / "done.json").exists():
                    continue
                started = json.loads(file.read_text())
                os.kill(started["where"]["process"], signal.SIGKILL)
                if not (file.parent / "done.json").exists():
                    killed[file] = started["attempt"]
                    waiting.remove(place)
                    break
        time.sleep(0.002)
