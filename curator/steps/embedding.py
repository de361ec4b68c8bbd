"""What the pool's sentence embedder is asked for: vectors for duplicates, and rows that lie near a probe."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache as once
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.recipe.pool import Embedder, PoolSection
from curator.recipe.select import Represent
from curator.steps.representing import sentence_maker

if TYPE_CHECKING:
    import polars as pl

    from curator.pool.cleaning import Embed
    from curator.pool.keeping import CountTokens
    from curator.records import Data, Messages


def embedder(section: Embedder, cache: Path | None = None) -> Embed:
    """A function from ids and conversations to `(n, d)` unit vectors; the embedder is loaded when it is called.

    Args:
        section: The recipe's.
        cache: Folder of the vectors that runs share; what is there is not embedded again.

    Raises:
        ModelError: When called, where the embedder cannot be loaded.
    """
    wanted = Represent(kind="sentence-transformers", id=section.id, revision=section.revision, centre=False)
    maker = once(lambda: sentence_maker(wanted))

    def embed(ids: Sequence[str], rows: Sequence[Messages]) -> Any:
        from curator.represent.cache import folder_of
        from curator.represent.filling import encoded, fill, in_memory
        from curator.represent.matrix import gathered

        given = in_memory(ids, rows)
        made = maker()
        if cache is None or made.abouts is None:
            return encoded(given, made.ready())[0].matrix
        folder = folder_of(cache, made.abouts[0])
        return gathered(folder, fill([folder], given, made.ready).keys).matrix

    return embed


def hidden_states(model_id: str, *, centred: bool = True) -> tuple[Embed, CountTokens]:
    """As `embedder`, by the last layer of a causal model, centred on the first rows that it is asked for (the corpus)
    unless `centred` is false; and a function that counts its tokens. Loaded when called.

    Raises:
        ModelError: When called, where the model cannot be loaded.
    """
    loaded: dict[str, Any] = {}

    def ready() -> tuple[Any, Any]:
        from curator.model.load import load_model, load_tokenizer, locate

        if not loaded:
            loaded["tokenizer"] = load_tokenizer(locate(model_id))
            loaded["model"] = load_model(locate(model_id))
        return loaded["model"], loaded["tokenizer"]

    def embed(ids: Sequence[str], rows: Sequence[Messages]) -> Any:
        from curator.represent import centre, mean_of, represent

        model, tokenizer = ready()
        found = represent(ids, rows, section=Represent(), model=model, tokenizer=tokenizer, name=model_id)
        if not centred:
            return found.matrix
        loaded.setdefault("mean", mean_of(found))
        return centre(found, loaded["mean"]).matrix

    def count(rows: Any) -> list[int]:
        from curator.model.chat import token_counter

        counted: list[int] = token_counter(ready()[1])(rows)
        return counted

    return embed, count


def near_probes(data: Data, pool: PoolSection, cache: Path | None = None) -> pl.DataFrame | None:
    """Rows whose prompt the embedder finds near a probe: role, id, probe, cosine, the nearest first; null where the
    recipe does not ask for it. None of them is dropped. `cache` as in `embedder`.
    """
    clean = pool.clean.decontaminate
    if clean is None or clean.neighbours is None:
        return None
    import polars as pl

    from curator.pool.decontaminate import neighbours

    embed = embedder(pool.embedder, cache)
    probes = pl.concat([data.harmful, data.benign])
    vectors = embed(probes["id"].to_list(), prompts_of(probes))
    roles = {"pool": data.pool.rows, **{f"task {task.name}": task.train for task in data.tasks}, "keep": data.keep}
    found = []
    for role, rows in roles.items():
        own = embed(rows["id"].to_list(), prompts_of(rows))
        listed = neighbours(rows["id"].to_list(), own, probes["id"].to_list(), vectors, least=clean.neighbours)
        found += [(role, *one) for one in listed]
    schema = {"role": pl.String, "id": pl.String, "probe": pl.String, "cosine": pl.Float64}
    return pl.DataFrame(found, schema=schema, orient="row").sort("cosine", "id", descending=[True, False])


def categorised(data: Data, pool: PoolSection, cache: Path | None = None) -> tuple[Data, pl.DataFrame | None]:
    """The data with the pool's missing categories filled in by the nearest hazard, and how sure each is (id, category,
    assigned, cosine, confidence); the data as it is, and null, where the recipe does not ask for it. `cache` as in
    `embedder`.
    """
    if pool.categorise is None:
        return data, None
    from dataclasses import replace

    from curator.pool.taxonomy import assign, categorise, descriptions

    embed, said, rows = embedder(pool.embedder, cache), descriptions(), data.pool.rows
    described = embed(
        [str(number) for number in range(len(said))], [[{"role": "user", "content": one}] for one in said]
    )
    found = categorise(
        rows, assign(embed(rows["id"].to_list(), prompts_of(rows)), described), least=pool.categorise.least
    )
    with_categories = rows.with_columns(found["category"])
    return replace(data, pool=replace(data.pool, rows=with_categories)), found


def prompts_of(rows: pl.DataFrame) -> Sequence[Messages]:
    """The last user turn of each row, as a conversation of its own."""
    from curator.pool.words import last
    from curator.records import Conversations

    return Conversations(rows, lambda messages: [{"role": "user", "content": last(messages, "user")}])
