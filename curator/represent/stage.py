"""Stage `represent`: vectors of the pool and of every task, each representation in its own folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache as once
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.model.dtype import TORCH, Choice, torch_dtype
from curator.recipe.represent import Represent, label
from curator.represent.workers import Making, Part, elsewhere, encoder, tokenizer_of
from curator.run import Run
from curator.run.ran import note_dtype
from curator.wording import these

if TYPE_CHECKING:
    from curator.represent.chunks import Elsewhere
    from curator.represent.encoder import Encoder

UNSHARED = "unshared"  # below the stage's folder: the cache of a run without a shared one, while the stage runs


@dataclass(frozen=True)
class Maker:
    """A model that makes the vectors of some sections in one pass.

    Attributes:
        name, revision: The model's name and revision. `dtype`: its dtype, and the reason, as the end of a sentence.
        ready: Loads the model. `abouts`: what decides the vectors of each section, or null if that is unknown.
        making: What another process needs to load the model.
    """

    name: str
    revision: str | None
    ready: Callable[[], Encoder]
    abouts: Sequence[Mapping[str, Any]] | None
    making: Making
    dtype: Choice


def represent(run: Run, folder: Path) -> Mapping[str, Any]:
    """Turns candidates and task rows into unit vectors, once for each representation of the recipe."""
    from curator.provenance import packages, set_threads, threads_alone

    set_threads(threads_alone(run.recipe.engine))
    places: list[dict[str, Any]] = []
    records = represented(run, folder, places)
    vectors = "; ".join(
        f"{record['width']:,} dimensions ({label(section)})"
        + (f", {these(record['truncated'], 'row', 'rows')} truncated" if record["truncated"] else "")
        for record, section in zip(records, run.recipe.representations, strict=True)
    )
    summary = f"{these(records[0]['rows'], 'vector', 'vectors')} of {vectors}"
    if any(record["cached"] for record in records):
        summary += f"; {', '.join(format(record['cached'], ',') for record in records)} of them from the cache"
    shipped = packages(*(section.id for section in run.recipe.representations))
    return {**records[0], "representations": records, "places": places, **shipped, "summary": summary}


def represented(run: Run, folder: Path, places: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Writes the vectors of every representation, centred on the pool if its section says so.

    Sections that one pass of the model gives are made together; rows embedded by an earlier run come from the cache. On
    a cluster, `places` gets a record of where each chunk was embedded.

    Returns:
        For each representation the number of `rows`, of rows that were cut (`truncated`), of rows that were `embedded`
        or came from the cache (`cached`), the `width` of the vectors, the model's `dtype`, and the reason for it
        (`dtype_reason`).
    """
    from curator.records import Conversations
    from curator.represent.chunks import in_memory
    from curator.represent.vectors import alike
    from curator.run.files import load_frame
    from curator.run.names import POOL, part_below, task_file

    sections, data = run.recipe.representations, run.folder("pool")
    files = {"pool": data / POOL}  # first: the tasks' vectors are centred on its mean
    files |= {f"task-{task.name}": data / task_file(task.name, "train") for task in run.recipe.tasks}
    frames = {part: load_frame(path) for part, path in files.items()}
    parts = {
        part: Part(in_memory(frame["id"].to_list(), Conversations(frame)), files[part].absolute())
        for part, frame in frames.items()
    }
    total, records = sum(len(part.rows.ids) for part in parts.values()), dict[int, dict[str, Any]]()
    groups, progress = alike(sections), run.progress_of("represent")
    for position, numbers in enumerate(groups):
        group = [sections[number] for number in numbers]
        maker = maker_of(run, group)
        note_dtype(TORCH[maker.dtype.dtype])  # here, since no model is loaded if every vector is cached
        records |= zip(
            numbers,
            _write(
                group, parts, [folder / part_below(number) for number in numbers], maker,
                caches=_caches(run, folder, maker, numbers), others=elsewhere(run, maker.making, places),
                progress=lambda done, before=position * total: progress(  # type: ignore[misc]
                    before + done, total * len(groups)
                ),
            ),
            strict=True,
        )  # fmt: skip
    shutil.rmtree(folder / UNSHARED, ignore_errors=True)
    return [records[number] for number in range(len(sections))]


def _write(
    sections: Sequence[Represent],
    parts: Mapping[str, Part],
    folders: Sequence[Path],
    maker: Maker,
    *,
    caches: Sequence[Path],
    others: Callable[[Part, Sequence[Path]], Elsewhere] | None,
    progress: Callable[[int], None],
) -> list[dict[str, Any]]:
    """Writes the vectors of sections that share a pass, each into its folder; returns a record for each section."""
    import numpy as np

    from curator.represent.cache import centre_file, locate, mean_of_file, width_of, write_matrix
    from curator.represent.chunks import fill
    from curator.represent.vectors import with_origin
    from curator.run.files import save_array, save_facts
    from curator.run.folder import replacing

    total = sum(len(part.rows.ids) for part in parts.values())
    records: list[dict[str, Any]] = [
        {"rows": total, "truncated": 0, "width": 0, "embedded": 0, "cached": 0,
         "dtype": maker.dtype.dtype, "dtype_reason": maker.dtype.reason}
        for _ in sections
    ]  # fmt: skip
    means: list[Any] = [None] * len(sections)
    done = 0
    for name, part in parts.items():
        filled = fill(
            caches, part.rows, maker.ready, elsewhere=others(part, caches) if others else None,
            progress=lambda more, _, before=done: progress(before + more),  # type: ignore[misc]
        )  # fmt: skip
        done += len(part.rows.ids)
        for number, section in enumerate(sections):
            located, path = locate(caches[number], filled.keys), folders[number] / f"{name}.npy"
            with replacing(path) as temporary:
                truncated = int(write_matrix(temporary, located, width_of(located)).sum())
                if section.centre:
                    means[number] = mean_of_file(temporary) if means[number] is None else means[number]
                    centre_file(temporary, means[number])
            matrix = np.load(path, mmap_mode="r")
            vectors = with_origin(
                part.rows.ids, matrix, section, name=maker.name, revision=maker.revision, truncated=truncated
            )
            save_facts(folders[number], name, vectors)
            record = records[number]
            record["truncated"] += truncated
            record["width"] = matrix.shape[1]
            record["embedded"] += filled.embedded[number]
            record["cached"] += filled.cached[number]
    for folder, mean in zip(folders, means, strict=True):
        if mean is not None:
            save_array(folder / "mean.npy", mean)
    return records


def _caches(run: Run, folder: Path, maker: Maker, numbers: Sequence[int]) -> list[Path]:
    """A cache for each section: shared if possible, else below this stage's folder."""
    from curator.represent.cache import folder_of

    shared = run.vector_cache()
    if shared is None or maker.abouts is None:
        return [folder_of(folder / UNSHARED, {"section": number}) for number in numbers]
    return [folder_of(shared, about) for about in maker.abouts]


def maker_of(run: Run, sections: Sequence[Represent]) -> Maker:
    """The maker for sections that `vectors.alike` groups together."""
    from curator.engine import device_of

    if sections[0].kind == "sentence-transformers":
        return sentence_maker(
            sections[0],
            device_of(run.recipe.engine),
            dtype=run.record("base").get("dtype", "fp32"),
            cache=run.vector_cache(),
        )
    return _causal_maker(run, sections)


def sentence_maker(
    section: Represent,
    where: str | None = None,
    *,
    dtype: str = "fp32",
    cache: Path | None = None,
    wording: Mapping[str, str] | None = None,
) -> Maker:
    """The maker for an embedder. The embedder is loaded at once only if its id is not a folder, to find its commit, or
    if its dtype is not settled yet.

    Args:
        section: The recipe's section.
        where: The device; null for this process's.
        dtype: `fp32`, `bf16` or `auto`, as in `sentences.embedder_dtype`.
        cache: Folder of the vectors that runs share; it stores the dtype that was settled.
        wording: `key` and `advice` of messages, as in `sentences.load_embedder`.

    Raises:
        ModelError: It cannot be loaded.
    """
    from curator.model.load import device, locate, quiet
    from curator.provenance import weights_identity
    from curator.represent.cache import about, remembered
    from curator.represent.sentences import commit_of, embedder_dtype, load_embedder, rounded
    from curator.represent.vectors import encoder_of
    from curator.run.ran import note_dtype

    quiet()
    assert section.id is not None
    words = {"key": "represent.id", **(wording or {})}
    name, load = section.id, once(lambda: load_embedder(name, section.revision, **words))
    path = Path(locate(name, key=words["key"]))
    whole = any((path / file).is_file() for file in ("modules.json", "config.json"))  # else loading says what it lacks
    weights: Any = weights_identity(str(path)) if whole else commit_of(load())
    # Workers load the commit that was found here, since a branch may move.
    pinned = section if whole or weights is None else section.model_copy(update={"revision": weights})
    where = where or device()
    choice = remembered(
        None if weights is None else cache,
        {"embedder": name, "weights": weights, "device": where, "asked": dtype},
        lambda: embedder_dtype(dtype, name, load, revision=section.revision),
    )
    note_dtype(TORCH[choice.dtype])

    def ready() -> Encoder:
        return encoder_of([section], model=rounded(load(), torch_dtype(choice.dtype, device())), name=name)

    return Maker(
        name,
        section.revision,
        once(ready),
        None if weights is None else [about(section, name=name, weights=weights, where=where, dtype=choice.dtype)],
        Making((pinned,), name, dtype=choice.dtype),
        choice,
    )


def _causal_maker(run: Run, sections: Sequence[Represent]) -> Maker:
    """The maker for a causal model: the recipe's, with the weights of the base stage, or another that the sections
    name.
    """
    from curator.engine import device_of
    from curator.model.chat import own_begin
    from curator.model.load import locate, resolve_revision
    from curator.model.prefill import lead_tokens
    from curator.represent.cache import about
    from curator.run.files import absolute

    recipe, base, root = run.recipe, run.record("base"), run.root.absolute()
    model_id, weights = sections[0].id, base["weights"]
    if model_id is None:
        making = Making(
            tuple(sections), recipe.model.id, absolute(weights["base"], root), weights["revision"],
            tuple(absolute(adapter, root) for adapter in weights["adapters"]), base["tokenizer"], base["revision"],
            recipe.model.chat_template, recipe.model.quantise, dtype=base.get("dtype", "fp32"),
        )  # fmt: skip
    else:
        path = locate(model_id, run.vector_cache(), "represent.id")
        revision = resolve_revision(model_id, sections[0].revision, "represent.id")
        making = Making(
            tuple(sections),
            model_id,
            path,
            revision,
            (),
            path,
            revision,
            sections[0].chat_template,
            dtype=base.get("dtype", "fp32"),
            other=True,
        )
    tokenizer = tokenizer_of(making)
    identities = [
        _identity(making.base, making.weights_revision),
        *(_identity(adapter, None) for adapter in making.adapters),
        _identity(making.tokenizer, making.revision),
        *([making.quantise] if making.quantise else []),
    ]
    where = device_of(recipe.engine)
    abouts = [
        about(
            section,
            name=making.name,
            weights=identities,
            where=where,
            dtype=making.dtype,
            template=tokenizer.chat_template,
            lead=bool(lead_tokens(tokenizer)),
            begin=own_begin(tokenizer) is not None,
        )
        for section in sections
    ]
    return Maker(
        making.name,
        making.revision,
        once(lambda: encoder(making)),
        abouts,
        making,
        Choice("bf16" if making.dtype == "bf16" else "fp32", "as the recipe's model"),
    )


def _identity(path: str, revision: str | None) -> Any:
    from curator.provenance import weights_identity

    return weights_identity(path) if Path(path).is_dir() else [path, revision]
