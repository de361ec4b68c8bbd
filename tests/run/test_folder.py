"""The run folder: work is done once for a key, files are whole or not there, one process at a time."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator.errors import DataError, RunError
from curator.keys import inputs_of
from curator.run import Run, keys_of
from curator.run import folder as run
from curator.run.folder import (
    TEMPORARY,
    disk,
    finished,
    kept,
    key_of,
    make,
    opened,
    placed,
    read_json,
    replacing,
    replacing_folder,
    require_writable,
    reserve,
    write_json,
    write_text,
)
from curator.run.ran import computed_with, noting
from tests.small_run import recipe


class Work:
    """Writes what it is told to, and counts how often it was asked."""

    def __init__(self, text: str = "result", *, fails: BaseException | None = None) -> None:
        self.text, self.fails, self.times = text, fails, 0

    def __call__(self, folder: Path) -> Mapping[str, Any]:
        self.times += 1
        self.found = sorted(path.name for path in folder.iterdir())
        (folder / "data.txt").write_text(self.text)
        if self.fails is not None:
            raise self.fails
        return {"text": self.text}


# make


def test_work_is_done_once_and_then_kept(tmp_path: Path) -> None:
    work = Work()
    first, second = (make(tmp_path / "a", "k1", work) for _ in range(2))
    assert (first.kept, second.kept, work.times) == (False, True, 1)
    assert first.record == second.record == {"text": "result"}
    assert second.key == "k1"
    assert second.seconds == pytest.approx(first.seconds, abs=1e-3)


def test_work_under_another_key_is_done_again_and_the_old_folder_set_aside(tmp_path: Path) -> None:
    make(tmp_path / "a", "k1xxxxxxyyyy", Work("one"))
    work = Work("two")
    assert not make(tmp_path / "a", "k2xxxxxxyyyy", work).kept
    assert work.found == ["started.json"], "nothing of the old work may be seen"
    assert (tmp_path / "a" / "data.txt").read_text() == "two"
    assert (tmp_path / "a.k1xxxxxx" / "data.txt").read_text() == "one"


def test_old_work_comes_back_with_its_key(tmp_path: Path) -> None:
    one, two = Work("one"), Work("two")
    for _ in range(2):
        assert make(tmp_path / "a", "key-one-1", one).record == {"text": "one"}
        assert make(tmp_path / "a", "key-two-2", two).record == {"text": "two"}
    assert (one.times, two.times) == (1, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a.key-one-"]


def test_interrupted_work_goes_on_where_it_was(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        make(tmp_path / "a", "k1", Work(fails=ZeroDivisionError()))
    assert finished(tmp_path / "a") is None
    work = Work()
    assert not make(tmp_path / "a", "k1", work).kept
    assert work.found == ["data.txt", "started.json"]


def test_interrupted_work_under_another_key_is_set_aside_and_gone_on_with_later(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "a", "key-one-1", Work("half", fails=KeyboardInterrupt()))
    assert Work().times == 0
    two, one = Work("two"), Work("one")
    make(tmp_path / "a", "key-two-2", two)
    assert two.found == ["started.json"]
    make(tmp_path / "a", "key-one-1", one)
    assert one.found == ["data.txt", "started.json"]


def test_the_done_marker_is_written_last(tmp_path: Path) -> None:
    seen: list[bool] = []

    def work(folder: Path) -> Mapping[str, Any]:
        seen.append((folder / "done.json").exists())
        return {}

    make(tmp_path / "a", "k1", work, grid=True)
    make(tmp_path / "a", "k2", work, grid=True)
    assert seen == [False, False]
    newest = max((tmp_path / "a").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert newest.name == "done.json"


def test_a_grid_leaves_its_pieces_where_they_are(tmp_path: Path) -> None:
    pieces = {"x": Work("x"), "y": Work("y")}

    def grid(names: str) -> Callable[[Path], Mapping[str, Any]]:
        def work(folder: Path) -> Mapping[str, Any]:
            return {name: make(folder / name, key_of(name), pieces[name]).kept for name in names}

        return work

    assert make(tmp_path / "g", "k1", grid("x"), grid=True).record == {"x": False}
    assert make(tmp_path / "g", "k2", grid("xy"), grid=True).record == {"x": True, "y": False}
    assert make(tmp_path / "g", "k2", grid("xy"), grid=True).kept
    assert [path.name for path in tmp_path.iterdir()] == ["g"]


@settings(deadline=None, max_examples=50)
@given(steps=st.lists(st.tuples(st.sampled_from(["k1", "k2", "k3"]), st.booleans()), max_size=12), grid=st.booleans())
def test_whatever_happens_a_key_gives_its_own_result(steps: list[tuple[str, bool]], grid: bool) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "a")
        for key, dies in steps:
            work = Work(key, fails=KeyboardInterrupt() if dies else None)
            foreseen = kept(folder, key)
            try:
                made = make(folder, key, work, grid=grid)
                assert made.record == {"text": key}
                assert made.kept == (work.times == 0)
                assert made.kept == foreseen or grid
            except KeyboardInterrupt:
                assert finished(folder) is None
            else:
                assert (folder / "data.txt").read_text() == key


def test_a_folder_of_unknown_origin_is_set_aside_and_not_lost(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine.txt").write_text("mine")
    make(tmp_path / "a", "k1", Work())
    assert (tmp_path / "a.unknown" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"key": "k1"}', "\x00", "null"])
def test_a_damaged_marker_is_an_error_that_says_what_to_do(content: str, tmp_path: Path) -> None:
    make(tmp_path / "a", "k1", Work())
    (tmp_path / "a" / "done.json").write_text(content)
    with pytest.raises(RunError, match=r"done\.json: .*; remove its folder and build again$"):
        make(tmp_path / "a", "k1", Work())


@pytest.mark.parametrize("content", ["", "[]", "{}"])
def test_a_damaged_start_marker_is_an_error_that_says_what_to_do(content: str, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "started.json").write_text(content)
    with pytest.raises(RunError, match=r"started\.json: .*; remove its folder and build again$"):
        make(tmp_path / "a", "k1", Work())


@pytest.mark.parametrize("name", ["run.json", "identities.json", "dtype.json"])
def test_a_damaged_file_beside_the_stages_is_removed_alone(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("{")
    read = {
        "run.json": lambda: keys_of(tmp_path),
        "identities.json": lambda: inputs_of(recipe(), tmp_path),
        "dtype.json": lambda: Run(recipe(), tmp_path).dtype(),
    }
    with pytest.raises(RunError, match=rf"{name}: .*; remove this file and build again$"):
        read[name]()


# Keys


def test_a_key_depends_on_every_part_and_not_on_the_order_of_a_mapping() -> None:
    assert key_of("a", {"x": 1, "y": [2, None]}) == key_of("a", {"y": (2, None), "x": 1})
    keys = {key_of(*parts) for parts in (("a",), ("a", None), ("a", 1), ("a", 1.5), ("a", "1"), (["a"],), ("ä",))}
    assert len(keys) == 7
    assert all(len(key) == 16 and set(key) <= set("0123456789abcdef") for key in keys)


def test_keys_stay_what_they_were() -> None:
    assert key_of("train", 1, {"rank": 16, "name": "é"}) == "9318d7072a1817e4"


# Whole files


def test_a_writer_that_raises_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    write_text(path, "old")
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:  # noqa: PT012 - the writer is the block
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_is_seen_old_or_new_and_never_half(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for text in ("old", "new"):
        with replacing_folder(path) as temporary:
            (temporary / f"{text}.txt").write_text(text)
    assert [one.name for one in path.iterdir()] == ["new.txt"]
    with pytest.raises(ZeroDivisionError), replacing_folder(path) as temporary:  # noqa: PT012 - the writer is the block
        (temporary / "half.txt").write_text("half")
        raise ZeroDivisionError
    assert [one.name for one in path.iterdir()] == ["new.txt"]
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


def test_json_comes_back_as_it_was(tmp_path: Path) -> None:
    value = {"text": "é\n\U0001f600", "numbers": [1, 1e-300, 0.1 + 0.2], "nothing": None, "inner": {"yes": True}}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value


def test_json_holds_no_number_that_other_programs_cannot_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", float("nan"))
    assert not list(tmp_path.iterdir())


# The lock

HOLD = """
import sys, time
from pathlib import Path
from curator.run.folder import opened, replacing
with opened(Path(sys.argv[1])), replacing(Path(sys.argv[1]) / "half.txt") as temporary:
    temporary.write_text("half")
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Any:
    """Another process that holds the run folder, with a file half written."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_refused_and_told_who_holds_the_folder(holder: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(RunError) as caught, opened(folder):
        raise AssertionError("two processes at once")
    assert str(caught.value) == (
        f"{folder}: in use by another curator (process {holder.pid}); wait for it, or name another folder with --out"
    )
    assert list(folder.glob(f".*{TEMPORARY}")), "what another process is writing must stay"


def test_the_lock_goes_with_a_killed_process_and_its_half_files_are_removed(holder: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert list(folder.glob(f".*{TEMPORARY}"))
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with opened(folder):
        assert (folder / "run.lock").read_text() == f"{os.getpid()}\n"
        assert sorted(path.name for path in folder.iterdir()) == ["run.lock"]


def test_the_lock_ends_with_the_block_however_it_ends(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), opened(tmp_path / "run"):
        raise ZeroDivisionError
    with opened(tmp_path / "run") as folder:
        assert folder == tmp_path / "run"


def test_half_folders_of_a_killed_process_are_removed_too(tmp_path: Path) -> None:
    half = tmp_path / "stage" / f".weights.1{TEMPORARY}"
    half.mkdir(parents=True)
    (half / "part").write_text("half")
    with opened(tmp_path):
        assert list((tmp_path / "stage").iterdir()) == []


def test_temporaries_of_other_programs_are_theirs(tmp_path: Path) -> None:
    theirs = [
        ".git.tmp",
        ".notes.0123456789ab.tmp",
        "kept.tmp",
        f"no-dot{TEMPORARY}",
        f".x{TEMPORARY}.txt",
        ".cache.tmp",
    ]
    stage = tmp_path / "0-base"
    (stage / ".cache.tmp").mkdir(parents=True)
    (stage / ".cache.tmp" / "inner").write_text("theirs")
    for name in theirs[:-1]:
        (stage / name).write_text("theirs")
    with opened(tmp_path):
        make(stage / "piece", "k", lambda folder: {})
    assert sorted(path.name for path in stage.iterdir()) == sorted([*theirs, "piece"])
    assert (stage / ".cache.tmp" / "inner").exists()


def test_what_is_written_has_a_name_that_is_recognised_as_ours(tmp_path: Path) -> None:
    with replacing(tmp_path / "a") as file, replacing_folder(tmp_path / "b") as folder:
        assert run.is_temporary(file.name)
        assert run.is_temporary(folder.name)
        file.write_text("whole")


def test_what_runs_below_and_vectors_beside_them_are_writing_is_left_alone(tmp_path: Path) -> None:
    with opened(tmp_path / "suite" / "run") as inner:
        writing, vectors = inner / f".x{TEMPORARY}", tmp_path / "suite" / ".vectors" / f".y{TEMPORARY}"
        outer = tmp_path / "suite" / f".z{TEMPORARY}"
        vectors.parent.mkdir()
        for file in (writing, vectors, outer):
            file.write_text("half")
        with opened(tmp_path / "suite"):
            assert [writing.exists(), vectors.exists(), outer.exists()] == [True, True, False]


def test_disk_is_taken_before_a_file_is_mapped(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        reserve(file, 2**20)
    assert os.stat(tmp_path / "file").st_blocks * 512 >= 2**20
    if hasattr(os, "posix_fallocate"):
        with (tmp_path / "file").open("wb") as file, pytest.raises(OSError):
            reserve(file, 2**60)


@pytest.mark.parametrize("url", ["s3://bucket/run", "gs://bucket", "hf://data/owner/name"])
def test_the_address_of_a_store_is_no_run_folder(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match=r"must be a path, and this is the address of a store; mount"), opened(Path(url)):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_attempt_left_half_written_goes_before_the_next(tmp_path: Path) -> None:
    def cut(folder: Path) -> Mapping[str, Any]:
        (folder / f".weights.0a{TEMPORARY}").mkdir()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "a", "k", cut)
    assert make(tmp_path / "a", "k", lambda folder: {"left": len(list(folder.glob(f".*{TEMPORARY}")))}).record == {
        "left": 0
    }


def test_a_grid_leaves_alone_what_its_pieces_are_writing(tmp_path: Path) -> None:
    writing = tmp_path / "grid" / "piece" / f".weights.0a{TEMPORARY}"
    writing.mkdir(parents=True)
    make(tmp_path / "grid", "k", lambda folder: {}, grid=True)
    assert writing.exists()


def test_an_attempt_that_was_overtaken_marks_nothing_as_done(tmp_path: Path) -> None:
    def slow(folder: Path) -> Mapping[str, Any]:
        # Meanwhile the same piece is made again, as when this one's node was taken for lost.
        make(folder, "k", lambda _: {"by": "the second"})
        return {"by": "the first"}

    with pytest.raises(RunError, match="another process has started this piece since; this attempt stops"):
        make(tmp_path / "a", "k", slow)
    assert make(tmp_path / "a", "k", slow).record == {"by": "the second"}


def test_a_piece_says_where_it_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_facts", {})
    placed(engine="ray", node="0a", gpus=["1"])
    make(tmp_path / "a", "k", lambda _: {})
    where = json.loads((tmp_path / "a" / "done.json").read_text())["where"]
    here = {"engine": "ray", "node": "0a", "gpus": ["1"], "host": socket.gethostname(), "process": os.getpid()}
    with noting():  # outside of a piece the process may have noted other facts
        assert where == here | computed_with()
    started = json.loads((tmp_path / "a" / "started.json").read_text())
    assert started["where"] == here


def test_a_disk_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(RunError, match="the disk does not support locks"), opened(tmp_path):
        pass


def test_a_file_in_the_way_of_the_run_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(RunError) as caught, opened(tmp_path / "run"):
        pass
    assert str(caught.value) == f"{tmp_path / 'run'}: cannot be written (File exists); choose another folder with --out"


# The disk

CODE = """
import fcntl, os, sys  # before rights are given up, with which they could be read
from pathlib import Path
from curator.errors import RunError
from curator.run.folder import make, opened, write_text
root = Path(sys.argv[1])
def work(folder):
    write_text(folder / "small.txt", "x")
    write_text(folder / "large.txt", "x" * 1_000_000)
    return {}
def limited():
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
def unprivileged():
    root.chmod(0o555)
    os.chdir(root)
    if os.getuid() == 0:
        os.setuid(65534)
"""


def code_says(then: str, folder: Path) -> str:
    """What a process of its own prints, for limits that cannot be taken back."""
    told = subprocess.run([sys.executable, "-c", CODE + then, str(folder)], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    return told.stdout.strip()


TRIED = """
try:
    make(root / "a", "k1", work)
except RunError as error:
    print(error)
"""


def test_a_disk_that_fills_up_is_told_and_leaves_no_half_file(tmp_path: Path) -> None:
    told = code_says("limited()" + TRIED, tmp_path)
    assert told.startswith(f"{tmp_path / 'a'}: the disk is full (")
    assert told.endswith(
        " GiB free). Free some space, or copy the run folder to a larger disk, and run the same command "
        "again; finished work is kept"
    )
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["small.txt", "started.json"]


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    told = code_says("unprivileged(); root = Path()" + TRIED, tmp_path)
    assert (
        told
        == "a: cannot be written or read (Permission denied); fix its permissions, or name another folder with --out"
    )


def test_a_run_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    opening = TRIED.replace('make(root / "a", "k1", work)', "opened(Path('r')).__enter__()")
    told = code_says("unprivileged()" + opening, tmp_path)
    assert told == "r: cannot be written (Permission denied); choose another folder with --out"


def test_a_command_without_out_does_not_name_it(tmp_path: Path) -> None:
    copy = "a copy of the run folder that can be written and locked"
    opening = TRIED.replace('make(root / "a", "k1", work)', "opened(Path('r'), option=None).__enter__()")
    assert code_says("unprivileged()" + opening, tmp_path) == f"r: cannot be written (Permission denied); choose {copy}"
    making = TRIED.replace("work)", "work, option=None)")
    told = code_says("unprivileged(); root = Path()" + making, tmp_path)
    assert told == f"a: cannot be written or read (Permission denied); fix its permissions, or name {copy}"


def test_a_folder_that_polars_cannot_write_to_is_told(tmp_path: Path) -> None:
    """Its errors have no file name, and the system's number is only in their message."""
    writing = """
import polars
from curator.run.folder import disk
unprivileged()
try:
    with disk(Path("there")):
        polars.DataFrame({'a': [1]}).write_csv('x.csv')
except RunError as error:
    print(error)
"""
    told = code_says(writing, tmp_path)
    assert told == (
        "there: cannot be written or read (Permission denied); fix its permissions, or name another folder with --out"
    )
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"\(Not a directory\); name another path with --x"), disk(tmp_path, "--x"):
        pl.DataFrame({"a": [1]}).write_csv(tmp_path / "file" / "x.csv")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("ComputeError: No space left on device (os error 28)"),
        RuntimeError('SafetensorError: I/O error: Os { code: 28, message: "No space left on device" }'),
        ValueError(
            "[enforce fail at inline_container.cc:603] . PytorchStreamWriter failed: file write failed, File too large"
        ),
    ],
)
def test_a_full_disk_is_understood_in_the_words_of_every_library(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="the disk is full") as caught, disk(tmp_path / "not" / "there"):
        raise error
    assert caught.value.__cause__ is error


def test_a_full_disk_behind_another_error_is_found(tmp_path: Path) -> None:
    def explicit() -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise DataError("rows.jsonl: cannot be read") from error

    def implicit() -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise ValueError("weights")  # noqa: B904 - as many libraries do

    def hidden() -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise ValueError("weights") from None

    for work in (explicit, implicit):
        with pytest.raises(RunError, match="the disk is full"), disk(tmp_path):
            work()
    with pytest.raises(ValueError, match="weights"), disk(tmp_path):
        hidden()


def test_other_errors_pass_as_they_came(tmp_path: Path) -> None:
    for error in (DataError("rows.jsonl: is empty"), KeyError("x"), FileNotFoundError(errno.ENOENT, "gone", "a")):
        with pytest.raises(type(error)) as caught, disk(tmp_path):
            raise error
        assert caught.value is error


def test_a_run_error_from_within_keeps_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"^inner$"), disk(tmp_path):
        raise RunError("inner") from OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_outside_of_any_stage_is_told_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run.os, "fsync", full)
    with pytest.raises(RunError, match="the disk is full"), opened(tmp_path / "run") as folder:
        write_text(folder / "recipe.yaml", "name: a")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.lock"]


def test_markers_are_plain_json_for_other_programs(tmp_path: Path) -> None:
    make(tmp_path / "a", "k1", Work())
    marker = json.loads((tmp_path / "a" / "done.json").read_text())
    assert set(marker) == {"key", "record", "seconds", "where"}
    here = {"engine": "local", "host": socket.gethostname(), "process": os.getpid()}
    with noting():
        assert marker["where"] == here | computed_with()


# a shelf


def shelved(tmp_path: Path, name: str, key: str = "k1") -> tuple[run.Made, Work]:
    work, folder, shelf = Work(name), tmp_path / name / "piece", tmp_path / "shelf" / "piece"
    foreseen = kept(folder, key, shelf=shelf)
    made = make(folder, key, work, shelf=shelf)
    assert made.kept == foreseen
    return made, work


def test_a_piece_on_the_shelf_is_taken_and_not_made_again(tmp_path: Path) -> None:
    first, _ = shelved(tmp_path, "a")
    second, work = shelved(tmp_path, "b")
    assert (first.kept, second.kept, work.times) == (False, True, 0)
    assert second.record == first.record
    assert (tmp_path / "b" / "piece" / "data.txt").read_text() == "a"
    # It says where it is from, and the first one does not.
    assert read_json(tmp_path / "b" / "piece" / run.SHARED) == {"from": "../../a/piece"}
    assert not (tmp_path / "a" / "piece" / run.SHARED).exists()


def test_another_key_is_not_taken(tmp_path: Path) -> None:
    shelved(tmp_path, "a")
    second, work = shelved(tmp_path, "b", "k2")
    assert (second.kept, work.times) == (False, 1)


def test_a_piece_whose_folder_is_gone_or_changed_is_made_anew_and_shelved(tmp_path: Path) -> None:
    shelved(tmp_path, "a")
    make(tmp_path / "a" / "piece", "k2", Work("other"))
    shutil.rmtree(tmp_path / "a" / "piece.k1")
    second, work = shelved(tmp_path, "b")
    assert (second.kept, work.times) == (False, 1)
    third, _ = shelved(tmp_path, "c")
    assert (third.kept, third.record) == (True, {"text": "b"})


def test_a_piece_that_was_finished_before_it_was_shelved_is_shelved_when_it_is_kept(tmp_path: Path) -> None:
    make(tmp_path / "a" / "piece", "k1", Work("a"))
    first, _ = shelved(tmp_path, "a")
    second, work = shelved(tmp_path, "b")
    assert (first.kept, second.kept, work.times) == (True, True, 0)


def test_what_was_begun_under_the_key_gives_way_to_the_finished_piece(tmp_path: Path) -> None:
    shelved(tmp_path, "a")
    with pytest.raises(ZeroDivisionError):
        make(tmp_path / "b" / "piece", "k1", Work("half", fails=ZeroDivisionError()))
    second, _ = shelved(tmp_path, "b")
    assert second.kept
    assert (tmp_path / "b" / "piece" / "data.txt").read_text() == "a"


def test_a_disk_without_links_gets_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    shelved(tmp_path, "a")
    monkeypatch.setattr(os, "link", refuse)
    second, _ = shelved(tmp_path, "b")
    assert second.kept
    files = [tmp_path / name / "piece" / "data.txt" for name in "ab"]
    assert files[0].read_text() == files[1].read_text()
    assert files[0].stat().st_ino != files[1].stat().st_ino


def test_making_a_piece_anew_changes_nothing_of_the_run_it_was_taken_from(tmp_path: Path) -> None:
    shelved(tmp_path, "a")
    shelved(tmp_path, "b")
    before = {path.name: path.read_text() for path in (tmp_path / "a" / "piece").iterdir()}
    make(tmp_path / "b" / "piece", "k2", Work("b again"))
    write_json(tmp_path / "b" / "piece" / "started.json", {"key": "else"})
    assert {path.name: path.read_text() for path in (tmp_path / "a" / "piece").iterdir()} == before


def test_a_path_that_cannot_be_written_is_an_error_in_words(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "x.json", tmp_path / ("n" * 300) / "x.json"):
        with pytest.raises(RunError, match=r"cannot be written .*name another path with --out"), disk(path):
            write_text(path, "text")
        with pytest.raises(RunError, match="cannot be written"):
            require_writable(path.parent)
    require_writable(tmp_path / "new" / "folder")
    assert not (tmp_path / "new").exists()
