"""What runs is told truly: machine, threads, memory, and which model folder."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest

from curator.errors import RunError
from curator.provenance import (
    cores,
    folder_identity,
    gpu_count,
    has_gpu,
    machine,
    set_threads,
)

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")


def test_the_machine_has_cores_and_memory() -> None:
    found = machine()
    assert found["cores"] == cores() >= 1
    assert found["memory_gib"] > 0.1
    assert found["system"] == platform.system()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot bind a process to a core")
def test_cores_are_those_this_process_may_use() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); from curator.provenance import cores; "
    told = subprocess.run([sys.executable, "-c", code + "print(cores())"], capture_output=True, check=True)
    assert told.stdout.strip() == b"1"


def test_peak_memory_is_told_in_gib_and_stays_after_it_is_given_back() -> None:
    code = "from curator.provenance import peak_gib as p; before = p(); b'x' * 2**28; print(before, p())"
    # Linux counts what a process was before it became another program; a shell between leaves this one's memory out.
    told = subprocess.run(["sh", "-c", '"$0" -c "$1"; true', sys.executable, code], capture_output=True, check=True)
    before, after = map(float, told.stdout.split())
    assert 0.2 < after - before < 0.3


def test_threads_are_set_for_libraries_loaded_later_and_already(monkeypatch: pytest.MonkeyPatch) -> None:
    import faiss
    import torch

    for name in THREADS:
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    before = torch.get_num_threads(), faiss.omp_get_max_threads()
    try:
        set_threads(2)
        assert [os.environ[name] for name in THREADS] == ["2"] * 4
        assert os.environ["TOKENIZERS_PARALLELISM"] == "false"
        assert (torch.get_num_threads(), faiss.omp_get_max_threads()) == (2, 2)
    finally:
        torch.set_num_threads(before[0])
        faiss.omp_set_num_threads(before[1])


def test_setting_threads_loads_no_library() -> None:
    code = "import sys; from curator.provenance import set_threads; set_threads(1); print({'torch'} & {*sys.modules})"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert told.stdout.strip() == b"set()"


def test_a_gpu_is_found_where_the_driver_lists_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert not has_gpu()
    for says, code, expected in (("GPU 0: Some", 0, True), ("No devices were found", 0, False), ("failed", 9, False)):
        tool.write_text(f"#!/bin/sh\necho '{says}'\nexit {code}\n")
        tool.chmod(0o755)
        assert has_gpu() is expected
    tool.write_text("#!/bin/sh\necho 'GPU 0: Some'\n")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not has_gpu()


@pytest.mark.parametrize(
    ("left", "count"),
    [(None, 4), ("0,2", 2), ("3, 1", 2), ("-1", 0), ("1,-1,2", 1), ("0,9,1", 1), ("GPU-1,MIG-2", 2), ("NoDevFiles", 0)],
)
def test_gpus_are_counted_as_cuda_reads_the_list(
    left: str | None, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nfor n in 0 1 2 3; do echo \"GPU $n: Some\"; echo '  MIG 1g.10gb Device 0: x'; done\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if left is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", left)
    assert gpu_count() == count


@pytest.mark.parametrize(
    ("usable", "cuda", "hip", "shown", "device"),
    [
        (True, "12.8", None, True, "cuda"),
        (False, "12.8", None, False, "cpu"),
        (False, None, None, True, "cpu"),  # a build without CUDA, as `curator build` says
        (False, None, "6.3", False, "cpu"),
        (False, "12.8", None, True, r"torch .* cannot use the GPU that the NVIDIA driver shows"),
        (True, None, "6.3", False, r"AMD GPUs \(ROCm\).*HIP_VISIBLE_DEVICES=-1"),
    ],
)
def test_a_gpu_is_used_or_refused_and_never_passed_over(
    usable: bool, cuda: str | None, hip: str | None, shown: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from curator import provenance

    monkeypatch.setattr(torch.cuda, "is_available", lambda: usable)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.version, "hip", hip)
    monkeypatch.setattr(provenance, "has_gpu", lambda: shown)
    if device in ("cuda", "cpu"):
        assert provenance.usable_device() == device
        provenance.require_device(device)
        with pytest.raises(RunError, match="nothing was computed"):
            provenance.require_device("cpu" if device == "cuda" else "cuda")
    else:
        with pytest.raises(RunError, match=device):
            provenance.usable_device()


def test_a_model_folder_is_known_by_its_files(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "pooling.json").write_text("{}")
    before = folder_identity(str(tmp_path))
    assert before is not None
    assert [file[:2] for file in before] == [["config.json", 2], ["inner/pooling.json", 2]]
    os.utime(tmp_path / "config.json", ns=(0, 1))
    assert folder_identity(str(tmp_path)) == before, "when a small file was touched does not matter"
    for name in ("config.json", "inner/pooling.json"):
        (tmp_path / name).write_text("[]")
        os.utime(tmp_path / name, ns=(0, 1))
        assert folder_identity(str(tmp_path)) != before
        (tmp_path / name).write_text("{}")


def test_a_large_file_is_known_by_a_sample_and_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curator.provenance.WHOLE", 2**22)
    path, content = tmp_path / "weights", bytearray(5 * 2**20)
    stamps: list[object] = []
    # Its last byte, a byte in the middle of the sample, and one that no sample holds, when the time differs.
    for position, time in ((None, 1), (len(content) - 1, 1), (len(content) * 32 // 65 + 5, 1), (2**20 + 1, 2)):
        changed = bytearray(content)
        if position is not None:
            changed[position] = 1
        path.write_bytes(changed)
        os.utime(path, ns=(time, time))
        stamps.append(folder_identity(str(tmp_path)))
    assert all(first != second for first, second in combinations(stamps, 2))


def test_the_embedded_model_is_known_by_its_content_wherever_it_is_installed() -> None:
    found = folder_identity("sandbox:")
    assert found is not None
    assert all(len(content) == 64 for _, _, content in found)


def test_a_model_on_the_hub_has_no_folder() -> None:
    assert folder_identity("meta-llama/Llama-2-7b-hf") is None
