"""The resources of judges: models, the sentence embedder, and the cost of endpoints.

Imports nothing heavy at module level, so that a stage whose judges are done is skipped at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.recipe.judge import Judge
from curator.run.folder import read_json, write_json

if TYPE_CHECKING:
    from curator.judge.embedding import Embed
    from curator.judge.endpoint import Cost
    from curator.judge.guard import Loading
    from curator.records import Messages, Verdict

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
    return Resources(load=_load, embed=partial(_embed, progress=progress), cost=cost)


def resolved(section: Judge) -> Judge:
    """The section with its model's exact revision; null for a model in a folder."""
    if section.model is None:
        return section
    from curator.model.load import resolve_revision

    exact = resolve_revision(section.model, section.revision, f"{_KEY}.{section.kind}")
    return section.model_copy(update={"revision": exact})


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
        from curator.judge.endpoint import Cost
        from curator.judge.kinds import make_judge
        from curator.judge.questions import question_of

        questions = [question_of("harmful", list(messages[:-1]), messages[-1]["content"]) for messages in rows]
        return make_judge(resolved(section), resources(Cost()))(questions)

    return judge


def _load(model_id: str, revision: str | None, classifier: bool) -> tuple[Any, Any]:
    from curator.model.load import load_classifier, load_model, load_tokenizer, locate

    key = f"{_KEY}.guard or classifier"
    path = locate(model_id, key=key)
    model = (load_classifier if classifier else load_model)(path, revision=revision, key=key)
    return model, load_tokenizer(path, revision=revision, key=key, chat=False)


def _embed(texts: Sequence[str], embedder: str, revision: str | None, *, progress: Callable[[int, int], None]) -> Any:
    from curator.model.load import quiet
    from curator.recipe.represent import Represent
    from curator.represent.vectors import represent

    quiet()
    section = Represent(kind="sentence-transformers", id=embedder, revision=revision)
    rows = [[{"role": "assistant", "content": text}] for text in texts]
    ids = [f"{row:08d}" for row in range(len(rows))]
    return represent(ids, rows, section=section, name=embedder, progress=progress).matrix
