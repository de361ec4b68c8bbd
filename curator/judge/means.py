"""What a judge works with: its models, the sentence embedder, and the count of what an endpoint costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from curator.recipe.judge import Judge
from curator.run.folder import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from curator.judge.endpoint import Cost
    from curator.judge.kinds import Means
    from curator.records import Messages, Verdict


KEY = "judges.panel"


def means(cost: Cost) -> Means:
    """The real ones: transformers and sentence-transformers, loaded when a judge needs them."""
    from curator.judge.kinds import Means

    return Means(load=_load, embed=_embed, cost=cost)


def resolved(section: Judge) -> Judge:
    """The section with its model's exact revision, and none for a folder."""
    if section.model is None:
        return section
    from curator.model.load import resolve_revision

    exact = resolve_revision(section.model, section.revision, f"{KEY}.{section.kind}")
    return section.model_copy(update={"revision": exact})


def counted(folder: Path) -> Cost:
    """What a judge has cost so far, as `keep` wrote it below its folder."""
    from curator.judge.endpoint import Cost

    path = folder / "cost.json"
    return Cost(**read_json(path)) if path.exists() else Cost()


def keep(folder: Path, cost: Cost) -> None:
    """Writes what a judge has cost, where it has cost anything."""
    if cost.requests:
        write_json(folder / "cost.json", cost.counts())


def _load(model_id: str, revision: str | None, classifier: bool) -> tuple[Any, Any]:
    from curator.model.load import load_classifier, load_model, load_tokenizer

    key = f"{KEY}.guard or classifier"
    model = load_classifier(model_id, revision=revision, key=key) if classifier else None
    if model is None:
        model = load_model(model_id, revision=revision, key=key)
    return model, load_tokenizer(model_id, revision=revision, key=key, chat=False)


def _embed(texts: Sequence[str], embedder: str, revision: str | None) -> Any:
    from curator.model.load import quiet
    from curator.recipe.select import Represent
    from curator.represent.vectors import represent

    quiet()
    section = Represent(kind="sentence-transformers", id=embedder, revision=revision)
    rows = [[{"role": "assistant", "content": text}] for text in texts]
    return represent([f"{place:08d}" for place in range(len(rows))], rows, section=section, name=embedder).matrix


OF_HARM = ("guard", "rubric", "sandbox")
"""Kinds of judges that look at what an answer says; the others tell refusals, and call every compliance harmful."""


def corpus_judge(section: Judge) -> Callable[[Sequence[Messages]], list[Verdict]]:
    """A function from conversations that end with an answer to a verdict on each last answer.

    Raises:
        JudgeError, ModelError: When called, where the judge cannot be loaded.
    """

    def judge(rows: Sequence[Messages]) -> list[Verdict]:
        from curator.judge.endpoint import Cost
        from curator.judge.kinds import judging
        from curator.records import Asked

        asked = [Asked("harmful", list(messages[:-1]), messages[-1]["content"]) for messages in rows]
        return list(judging(resolved(section), means(Cost()))(asked))

    return judge
