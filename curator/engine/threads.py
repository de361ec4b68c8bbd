"""How many threads each process gets."""

from __future__ import annotations

from curator.provenance import cores
from curator.recipe import Engine


def resolved_threads(section: Engine) -> int:
    """Threads of each process: as given, or this machine's cores shared between the workers."""
    return section.threads or max(1, cores() // section.workers)


def threads_alone(section: Engine) -> int:
    """Threads of a stage that runs in one process, here: those of all local workers, which have nothing to do then.

    Ray's workers are elsewhere and leave nothing here, so there it is the threads of one.
    """
    return resolved_threads(section) * (section.workers if section.kind == "local" else 1)
