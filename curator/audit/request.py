"""What is audited and with what: sources, thresholds, an embedder and a judge; and the rows that were read for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from pydantic import ValidationError

from curator.errors import DataError, printable
from curator.judge.resources import OF_HARM, corpus_judge
from curator.pool.screen.answers import Judging
from curator.pool.screen.personal import Found, patterns
from curator.pool.sources import Read
from curator.recipe import Recipe
from curator.recipe.pool import Categorise, Clean, Findings
from curator.recipe.source import Source, labels
from curator.records import CountTokens, Embed


@dataclass(frozen=True)
class Request:
    """What to audit, and with what.

    Attributes:
        corpus: The source that is audited. `pool`: what it might have been taken from, or null.
        tasks, probes: Name -> where the rows come from.
        clean, categorise, findings: Thresholds, as a recipe says them.
        embed: `n` ids and conversations -> `(n, d)` unit vectors, or null for no embedder; `embedder` is what it is
            called, `by_answer` whether its vectors are of the whole row only (a model's hidden states), so that it
            cannot place prompts and descriptions.
        judge: Of answers, with its name, or null.
        find: Kinds of personal data in a text.
        count_tokens: Given, rows above `clean.max_tokens` are too long.
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
    """What was read: the corpus, the tasks and probe sets by name, and the pool or null."""

    corpus: Read
    tasks: Mapping[str, Read]
    probes: Mapping[str, Read]
    pool: Read | None


def own_probes(recipe: Recipe) -> dict[str, Source]:
    """A recipe's probes, harmful and benign, by name."""
    ordered = [*recipe.probes.harmful, *recipe.probes.benign]
    return dict(zip(labels(ordered), ordered, strict=True))


def from_recipe(request: Request, recipe: Recipe) -> Request:
    """The request with a recipe's thresholds and judge, and its tasks and probes where none were named.

    Judges of refusal call every compliance harmful, so they do not judge a corpus.
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


def named(files: Sequence[str]) -> dict[str, Source]:
    """Name -> source of files, or of Hub data sets written `hub:ID` or `hub:ID@REVISION`; a name is the file's stem.

    Raises:
        DataError: Two have one name.
    """
    sources: dict[str, Source] = {}
    for file in files:
        source = source_of(file)
        name = source.label.partition(".")[0].rsplit("/", 1)[-1]
        if name in sources:
            raise DataError(f"{file}: another file is called {name} too; rename one, so that the report can tell them")
        sources[name] = source
    return sources


def source_of(file: str) -> Source:
    """A file, or a Hub data set written `hub:ID` or `hub:ID@REVISION`, or a set of the sandbox's (`sandbox:NAME`).

    Raises:
        DataError: The name is empty, or not UTF-8.
    """
    if printable(file) != file:
        raise DataError(f"{file}: the name is not UTF-8; rename the file")
    try:
        if file.startswith("hub:"):
            name, _, revision = file.removeprefix("hub:").partition("@")
            return Source(hub=name, revision=revision or None)
        if file.startswith("sandbox:"):
            return Source(sandbox=file.removeprefix("sandbox:"))
        return Source(file=file)
    except ValidationError as error:
        raise DataError(f"{file!r}: is not a file or a data set; give a path, hub:ID or sandbox:NAME") from error
