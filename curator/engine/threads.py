"""How many threads each process gets."""

from __future__ import annotations

from curator.provenance import cores
from curator.recipe import Engine


def resolved_threads(section: Engine) -> int:
    """Threads of each process: as given, or this machine's cores shared between the workers."""
    return section.threads or max(1, cores() // section.workers)
