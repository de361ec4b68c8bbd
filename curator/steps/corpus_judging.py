"""A judge of the panel, asked about the answers that a corpus itself holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from curator.recipe.judge import Judge
from curator.steps.judges import means, resolved

if TYPE_CHECKING:
    from curator.records import Messages, Verdict

OF_HARM = ("guard", "rubric", "sandbox")
"""Kinds of judges that look at what an answer says; the others tell refusals, and call every compliance harmful."""


def corpus_judge(section: Judge) -> Callable[[Sequence[Messages]], list[Verdict]]:
    """A function from conversations that end with an answer to a verdict on each last answer.

    Raises:
        JudgeError, ModelError: When called, where the judge cannot be loaded.
    """

    def judge(rows: Sequence[Messages]) -> list[Verdict]:
        from curator.judge import judging
        from curator.judge.endpoint import Cost
        from curator.records import Asked

        asked = [Asked("harmful", list(messages[:-1]), messages[-1]["content"]) for messages in rows]
        return list(judging(resolved(section), means(Cost()))(asked))

    return judge
