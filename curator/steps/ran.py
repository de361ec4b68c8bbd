"""Which node made which pieces of a run, from what each piece's own marker says of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from curator.run import Site
from curator.run.folder import finished


def ran(site: Site) -> dict[str, Any]:
    """What ran where: the engine as it was asked for, and for each node (where a piece says none: its host) engine,
    host, node, GPUs, and how many processes made how many pieces in how many seconds.

    A piece is the training, the answers or the losses of one model; on a cluster also a source that was read. Those of
    an earlier run of the folder that were kept are counted where they ran then.
    """
    from curator.provenance import resolved_threads

    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for where in _places(site):
        key = tuple(where.get(name) for name in ("engine", "host", "node"))
        own = found.setdefault(key, {"gpus": set(), "processes": set(), "pieces": 0, "seconds": 0.0})
        own["gpus"] |= set(where.get("gpus", ()))
        own["processes"] |= {where.get("process")}
        own["pieces"] += 1
        own["seconds"] += where["seconds"]
    section = site.recipe.engine
    return {
        **section.model_dump(),
        "threads": resolved_threads(section),
        "nodes": [
            {
                **dict(zip(("engine", "host", "node"), key, strict=True)),
                "gpus": sorted(own["gpus"]),
                "processes": len(own["processes"]),
                "pieces": own["pieces"],
                "seconds": round(own["seconds"], 3),
            }
            for key, own in sorted(found.items(), key=str)
        ],
    }


def _places(site: Site) -> Iterator[dict[str, Any]]:
    for done in filter(None, map(finished, _pieces(site))):
        yield {**done.get("where", {}), "seconds": done["seconds"]}
    for stage in ("pool", "represent"):
        yield from site.record(stage).get("places", ())


def _pieces(site: Site) -> Iterator[Path]:
    from curator.verify.plan import BASE, Cell

    cells = [Cell(one["arm"], one["seed"], one["task"]) for one in site.record("train")["models"]]
    for cell in cells:
        yield site.folder("train") / cell.folder
    for cell in {BASE, *cells}:
        yield site.folder("answer") / cell.folder
    for rest in (site.folder("select") / "pilot", site.folder("answer") / "forgetting"):
        yield from (marker.parent for marker in rest.glob("**/done.json"))
