"""Stage `represent`: vectors of the pool and of every task, each representation in a folder of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.recipe.select import Represent, label
from curator.represent.workers import Making, Part, elsewhere, encoder, tokenizer_of
from curator.run import Run

if TYPE_CHECKING:
    from curator.represent.encoder import Encoder
    from curator.represent.filling import Elsewhere


UNSHARED = "unshared"
"""Below the stage's folder: the cache of a run that shares none, for as long as the stage is at work."""


@dataclass(frozen=True)
class Maker:
    """What makes the vectors of some sections in one pass.

    Attributes:
        name, revision: Of the model.
        ready: Loads it. `abouts`: what decides the vectors of each section, or null where that cannot be known.
        making: What another process needs to load it; null where only this one may.
    """

    name: str
    revision: str | None
    ready: Callable[[], Encoder]
    abouts: Sequence[Mapping[str, Any]] | None
    making: Making | None = None


def represented(run: Run, folder: Path, places: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Writes the vectors of every representation, centred on the pool where its section says so.

    Sections that one pass of the model gives are made together; rows that an earlier run has embedded come from the
    cache. On a cluster `places` is told which workers embedded them.

    Returns:
        For each representation `rows`, rows that were cut (`truncated`), the `width` of the vectors, and how many rows
        were `embedded` or came from the cache (`cached`).
    """
    from curator.records import Conversations
    from curator.represent.filling import in_memory
    from curator.represent.vectors import alike
    from curator.run.files import load_frame
    from curator.run.names import POOL, part_below, task_file

    sections, data = run.recipe.representations, run.folder("pool")
    names = {"pool": data / POOL}
    names |= {f"task-{task.name}": data / task_file(task.name, "train") for task in run.recipe.tasks}
    frames = {part: load_frame(path) for part, path in names.items()}
    parts = {
        part: Part(in_memory(frame["id"].to_list(), Conversations(frame)), names[part].absolute())
        for part, frame in frames.items()
    }
    total, made = sum(len(part.rows.ids) for part in parts.values()), dict[int, dict[str, Any]]()
    groups, said = alike(sections), run.progress_of("represent")
    for place, numbers in enumerate(groups):
        maker = maker_of(run, [sections[number] for number in numbers])
        own = _made(
            [sections[number] for number in numbers], parts, [folder / part_below(number) for number in numbers], maker,
            caches=_caches(run, folder, maker, numbers), others=elsewhere(run, maker.making, places),
            progress=lambda done, seen=place * total: said(seen + done, total * len(groups)),  # type: ignore[misc]
        )  # fmt: skip
        made |= dict(zip(numbers, own, strict=True))
    shutil.rmtree(folder / UNSHARED, ignore_errors=True)
    return [made[number] for number in range(len(sections))]


def _made(
    sections: Sequence[Represent],
    parts: Mapping[str, Part],
    folders: Sequence[Path],
    maker: Maker,
    *,
    caches: Sequence[Path],
    others: Callable[[Part, Sequence[Path]], Elsewhere] | None,
    progress: Callable[[int], None],
) -> list[dict[str, Any]]:
    import numpy as np

    from curator.represent.cache import centre_file, locate, mean_of_file, width_of, write_matrix
    from curator.represent.filling import fill
    from curator.represent.vectors import vectors_said
    from curator.run.files import save_array, save_facts
    from curator.run.folder import replacing

    rows_in_all = sum(len(part.rows.ids) for part in parts.values())
    made: list[dict[str, Any]] = [
        {"rows": rows_in_all, "truncated": 0, "width": 0, "embedded": 0, "cached": 0} for _ in sections
    ]
    means: list[Any] = [None] * len(sections)
    seen = 0
    for part, (rows, _) in parts.items():
        filled = fill(
            caches, rows, maker.ready, elsewhere=others(parts[part], caches) if others else None,
            progress=lambda done, _, before=seen: progress(before + done),  # type: ignore[misc]
        )  # fmt: skip
        seen += len(rows.ids)
        for number, section in enumerate(sections):
            found, path = locate(caches[number], filled.keys), folders[number] / f"{part}.npy"
            with replacing(path) as temporary:
                truncated = int(write_matrix(temporary, found, width_of(found)).sum())
                if section.centre:
                    means[number] = mean_of_file(temporary) if means[number] is None else means[number]
                    centre_file(temporary, means[number])
            matrix = np.load(path, mmap_mode="r")
            vectors = vectors_said(
                rows.ids, matrix, section, name=maker.name, revision=maker.revision, truncated=truncated
            )
            save_facts(folders[number], part, vectors)
            own = made[number]
            own["truncated"], own["width"] = own["truncated"] + truncated, matrix.shape[1]
            own["embedded"] += filled.embedded[number]
            own["cached"] += filled.cached[number]
    for folder, mean in zip(folders, means, strict=True):
        if mean is not None:
            save_array(folder / "mean.npy", mean)
    return made


def _caches(run: Run, folder: Path, maker: Maker, numbers: Sequence[int]) -> list[Path]:
    """A cache for each section: shared where that can be, else one of this stage's own."""
    from curator.represent.cache import folder_of

    shared = run.vector_cache()
    if shared is None or maker.abouts is None:
        return [folder_of(folder / UNSHARED, {"section": number}) for number in numbers]
    return [folder_of(shared, about) for about in maker.abouts]


def maker_of(run: Run, sections: Sequence[Represent]) -> Maker:
    """What makes the vectors of sections that `represent.alike` puts together."""
    from curator.engine import device_of

    if sections[0].kind == "sentence-transformers":
        return sentence_maker(sections[0], device_of(run.recipe.engine))
    return _causal_maker(run, sections)


def sentence_maker(section: Represent, where: str | None = None) -> Maker:
    """An embedder; it is loaded to know its weights only where it is no folder. `where`: its device, this process's
    if null.
    """
    from curator.model.load import device, quiet
    from curator.provenance import weights_identity
    from curator.represent.cache import about
    from curator.represent.sentences import commit_of, load_embedder
    from curator.represent.vectors import encoder_of

    quiet()
    assert section.id is not None
    name, loaded = section.id, cache(lambda: load_embedder(name, section.revision))
    weights: Any = weights_identity(name) if Path(name).is_dir() else commit_of(loaded())
    return Maker(
        name,
        section.revision,
        cache(lambda: encoder_of([section], model=loaded(), name=name)),
        None if weights is None else [about(section, name=name, weights=weights, where=where or device())],
        Making((section,), name),
    )


def _causal_maker(run: Run, sections: Sequence[Represent]) -> Maker:
    """A causal model: the recipe's, on the weights of the base stage, or another that the sections name."""
    from curator.engine import device_of
    from curator.represent.cache import about
    from curator.run.files import absolute

    r, start, own, root = run.recipe, run.record("base"), sections[0], run.root.absolute()
    weights = start["weights"]
    if own.id is None:
        making = Making(
            tuple(sections), r.model.id, absolute(weights["base"], root), weights["revision"],
            tuple(absolute(adapter, root) for adapter in weights["adapters"]), start["tokenizer"], start["revision"],
            r.model.chat_template, r.model.quantise,
        )  # fmt: skip
    else:
        path, revision = _located(own)
        making = Making(tuple(sections), own.id, path, revision, (), path, revision, own.chat_template, other=True)
    template = tokenizer_of(making).chat_template
    identities = [
        _identity(making.base, making.weights_revision),
        *(_identity(one, None) for one in making.adapters),
        _identity(making.tokenizer, making.revision),
        *([making.quantise] if making.quantise else []),
    ]
    where = device_of(r.engine)
    known = [about(one, name=making.name, weights=identities, where=where, template=template) for one in sections]
    return Maker(making.name, making.revision, cache(lambda: encoder(making)), known, making)


def _located(section: Represent) -> tuple[str, str | None]:
    from curator.model.load import locate, resolve_revision

    assert section.id is not None
    return locate(section.id), resolve_revision(section.id, section.revision, "represent.id")


def _identity(path: str, revision: str | None) -> Any:
    from curator.provenance import weights_identity

    return weights_identity(path) if Path(path).is_dir() else [path, revision]


def represent(run: Run, folder: Path) -> Mapping[str, Any]:
    """Turns candidates and task rows into unit vectors, once for each representation of the recipe."""
    from curator.provenance import set_threads, threads_alone

    r = run.recipe
    set_threads(threads_alone(r.engine))
    places: list[dict[str, Any]] = []
    made = represented(run, folder, places)
    told = "; ".join(
        f"{one['width']} numbers ({label(section)})" + (f", {one['truncated']} rows cut" if one["truncated"] else "")
        for one, section in zip(made, r.representations, strict=True)
    )
    cached = ", ".join(f"{one['cached']}" for one in made)
    summary = f"{made[0]['rows']} vectors of {told}"
    if any(one["cached"] for one in made):
        summary += f"; {cached} of them from the cache"
    return {**made[0], "representations": made, "places": places, "summary": summary}
