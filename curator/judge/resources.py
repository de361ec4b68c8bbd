"""The resources of judges: models, the sentence embedder, and the cost of endpoints.

Imports nothing heavy at module level, so that a stage whose judges are done is skipped at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.keys.pieces import embedder_of
from curator.provenance import folder_identity
from curator.recipe.judge import Judge
from curator.run.folder import key_of, read_json, write_json

if TYPE_CHECKING:
    from curator.judge.embedding import Embed
    from curator.judge.endpoint import Cost
    from curator.judge.guard import Loading
    from curator.records import Messages, Question, Verdict
    from curator.represent.encoder import Encoder

OF_HARM = ("guard", "rubric", "sandbox")
"""Kinds of judges that judge harm; the others recognise refusals, and call every compliance harmful."""

_KEY = "judges.panel"
_COST = "cost.json"


@dataclass(frozen=True)
class Resources:
    """How models are loaded and texts embedded, and the counter of an endpoint's cost.

    Judges take them as arguments, so that tests can pass scripted ones.
    """

    load: Loading
    embed: Embed
    cost: Cost


def resources(cost: Cost, *, progress: Callable[[int, int], None] = lambda done, total: None) -> Resources:
    """The real resources: transformers and sentence-transformers, loaded when a judge needs them.

    Args:
        cost: The counter of an endpoint's cost.
        progress: Called with the number of texts embedded and their total.
    """
    return Resources(load=_load, embed=partial(_embed, progress=progress, encoders={}), cost=cost)


def resolved(section: Judge) -> Judge:
    """The section with its model's exact revision; null for a model in a folder."""
    if section.model is None:
        return section
    from curator.model.load import resolve_revision

    exact = resolve_revision(section.model, section.revision, f"{_KEY}.{section.kind}")
    return section.model_copy(update={"revision": exact})


def version_of(section: Judge) -> str | None:
    """What tells one version of a judge's model from another: its exact revision on the Hub; for a fitted head and a
    model in a folder, `files:` and a hash of the files (with those of a head's embedder in a folder); null for a judge
    without a model.

    Args:
        section: The section as from `resolved`.
    """
    places = [place for place in (section.folder, embedder_of(section.embedding)) if place is not None]
    files = [identity for identity in map(folder_identity, places) if identity is not None]
    # Without the time of change of large files, which a copy of the folder does not keep.
    return f"files:{key_of([entry[:3] for identity in files for entry in identity])}" if files else section.revision


def ready(section: Judge, *, key: bool = True) -> Judge:
    """The section as from `resolved`, once everything that its judge reads is found to be there; no model is loaded.

    Args:
        key: Whether an endpoint's key is needed.

    Raises:
        JudgeError: A fitted head or an endpoint's key is missing, or no label of a classifier means refused.
        ModelError: A model or an embedder is neither here nor on the Hub.
    """
    from curator.model.load import resolve_revision

    section = resolved(section)
    if section.embedding is not None:
        from curator.judge.embedding import load_head

        head, _ = load_head(Path(section.embedding))
        resolve_revision(head.embedder, head.revision, f"{_KEY}.embedding")
    if section.classifier is not None:
        from curator.judge.guard import refusal_label
        from curator.model.load import classifier_labels, locate

        where = f"{_KEY}.classifier"
        labels = classifier_labels(locate(section.classifier, key=where), revision=section.revision, key=where)
        refusal_label(labels, section.refusal_label)
    if section.rubric is not None and key:
        from curator.judge.endpoint import key_of

        key_of(section.rubric)
    return section


def read_cost(folder: Path) -> Cost:
    """The cost of a judge so far, as written by `write_cost` below the judge's folder."""
    from curator.judge.endpoint import Cost

    path = folder / _COST
    return Cost(**read_json(path)) if path.exists() else Cost()


def total_cost(costs: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """The sum of several costs, count by count."""
    return {name: sum(cost[name] for cost in costs) for name in costs[0]}


def write_cost(folder: Path, cost: Cost) -> None:
    """Writes the cost of a judge if there is any."""
    if cost.requests:
        write_json(folder / _COST, cost.counts())


def corpus_judge(section: Judge) -> Callable[[Sequence[Messages]], list[Verdict]]:
    """A function from conversations that end with an answer to a verdict on each last answer.

    Raises:
        JudgeError, ModelError: The returned function raises it if the judge cannot be loaded.
    """

    def judge(rows: Sequence[Messages]) -> list[Verdict]:
        from curator.judge.questions import question_of

        questions = [question_of("harmful", list(messages[:-1]), messages[-1]["content"]) for messages in rows]
        return verdicts_on(ready(section), questions)

    return judge


def verdicts_on(section: Judge, questions: Sequence[Question]) -> list[Verdict]:
    """The verdict on each question outside a run, in order; equal questions are judged once.

    The verdicts of an endpoint, which are paid for, are kept in this user's cache, under a key of the judge's settings
    and without the text of what was judged.

    Args:
        section: The judge, as from `ready`.

    Raises:
        JudgeError: The endpoint left questions open; its other verdicts are kept.
    """
    from curator.judge.endpoint import Cost
    from curator.judge.kinds import make_judge
    from curator.judge.questions import judged, question_key
    from curator.keys.pieces import verdicts_key
    from curator.model.load import user_cache

    rubric = section.rubric
    if rubric is None:
        keys = [question_key(question) for question in questions]
        distinct = dict(zip(keys, questions, strict=True))
        verdicts = make_judge(section, resources(Cost()))(list(distinct.values())) if distinct else []
        by_key = dict(zip(distinct, verdicts, strict=True))
        return [by_key[key] for key in keys]
    store = user_cache() / "verdicts" / verdicts_key(section)
    cost = read_cost(store)
    try:
        return judged(
            questions,
            make_judge(section, resources(cost)),
            store,
            progress=lambda done, total: None,
            chunk=8 * rubric.concurrency,
            unanswered=rubric.unanswered,
        )
    finally:
        write_cost(store, cost)


def _load(model_id: str, revision: str | None, classifier: bool) -> tuple[Any, Any]:
    from curator.model.load import load_classifier, load_model, load_tokenizer, locate

    key = f"{_KEY}.guard or classifier"
    path = locate(model_id, key=key)
    model = (load_classifier if classifier else load_model)(path, revision=revision, key=key)
    return model, load_tokenizer(path, revision=revision, key=key, chat=False)


def _embed(
    texts: Sequence[str],
    embedder: str,
    revision: str | None,
    *,
    progress: Callable[[int, int], None],
    encoders: dict[tuple[str, str | None], Encoder],
) -> Any:
    """Unit vectors of texts; `encoders` keeps those that were loaded, since answers come in many chunks."""
    from curator.model.load import quiet
    from curator.recipe.represent import Represent
    from curator.represent.chunks import encoded, in_memory
    from curator.represent.vectors import encoder_of

    quiet()
    key = embedder, revision
    if key not in encoders:
        section = Represent(kind="sentence-transformers", id=embedder, revision=revision)
        encoders[key] = encoder_of([section], name=embedder)
    rows = [[{"role": "assistant", "content": text}] for text in texts]
    ids = [f"{row:08d}" for row in range(len(rows))]
    return encoded(in_memory(ids, rows), encoders[key], progress=progress)[0].matrix
