"""Command env: versions and hardware for a bug report."""

from __future__ import annotations

import os
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, requires, version

import click

DISTRIBUTION = "alignment-curator"
"""curator's name for pip."""
SETTINGS = ("CUDA_VISIBLE_DEVICES", "HF_HOME", "HF_HUB_OFFLINE", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "RAY_ADDRESS")
"""Variables of the environment that change what a build does. None of them holds a secret."""
PLACES = ("HF_HOME", "RAY_ADDRESS")
"""Those that name a folder or a host, of which only that they are set is printed."""
EXTRAS = ("bitsandbytes", "gguf", "ray", "vllm")
"""Packages that some recipes need and that are not installed with the tool."""


@click.command()
def env() -> None:
    """Print the versions and hardware in use, as a table for a bug report.

    The table names versions, cores, memory and GPUs. It names no file, host or user.
    """
    from curator import __version__
    from curator.provenance import gpu_count, machine

    here = machine()
    lines = {
        "curator": __version__,
        "python": f"{platform.python_version()} ({sys.implementation.name})",
        "system": f"{platform.system()} {platform.release()}, {here['processor']}",
        "cores": str(here["cores"]),
        "memory": f"{here['memory_gib']:.1f} GiB",
        "gpus": gpus() if gpu_count() else "none",
        **packages(),
        **{name: "set" if name in PLACES else os.environ[name] for name in SETTINGS if name in os.environ},
    }
    width = max(len(name) for name in lines)
    click.echo("\n".join(f"| {name:{width}} | {value} |" for name, value in lines.items()))


def packages() -> dict[str, str]:
    """Name -> version of every package that curator needs, `missing` if it is not installed, and of the installed
    packages in EXTRAS.
    """
    try:
        needed = [line for line in requires(DISTRIBUTION) or () if "extra ==" not in line]
    except PackageNotFoundError:  # a checkout without installation
        needed = []
    names = [re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0] for line in needed]
    known = {name: _version(name) for name in (*names, *EXTRAS)}
    return {name: known[name] or "missing" for name in (*names, *(name for name in EXTRAS if known[name]))}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def gpus() -> str:
    """The names of the GPUs that torch can use in this process, or why there are none."""
    import torch

    if not torch.cuda.is_available():
        return f"the driver shows GPUs, but torch {torch.__version__} can use none"
    seen = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return ", ".join(f"{gpu.name} ({gpu.total_memory / 2**30:.0f} GiB)" for gpu in seen)
