"""The errors a user can act on.

Everything below `CuratorError` is shown without a traceback and ends the program with exit code 2; its text says where,
what was found, what is allowed and what to do. Anything else that escapes is a bug of ours (exit code 1).
"""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Sequence


class CuratorError(Exception):
    """Something the user can mend: input, settings, machine or model. Half characters in its text are written out."""

    def __init__(self, *words: object) -> None:
        super().__init__(*(printable(word) if isinstance(word, str) else word for word in words))


class RecipeError(CuratorError):
    """One or more mistakes in a recipe, all reported together.

    Args:
        problems: One sentence a mistake, each starting with its place.
    """

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        count = len(self.problems)
        head = "" if count == 1 else f"{count} problems in the recipe:\n  "
        super().__init__(head + "\n  ".join(self.problems))


class DataError(CuratorError):
    """A data file or data set cannot be read, or holds too little."""


class ModelError(CuratorError):
    """A model, tokenizer or embedder cannot be loaded, or used as the recipe says."""


class SelectionError(CuratorError):
    """A selection is impossible with these vectors, scores or constraints."""


class JudgeError(CuratorError):
    """A judge cannot be loaded or cannot judge these answers."""


class RunError(CuratorError):
    """A run folder is busy, unreadable, or cannot be written."""


class PublishError(CuratorError):
    """A data set folder or a Hub repository cannot be written."""


def printable(text: str) -> str:
    r"""The text with each half of a surrogate pair, which no file or terminal takes, written out as `\ud83d`."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def first_line(error: BaseException) -> str:
    """What another library's error says, in one line of at most 200 characters; its kind where it says nothing."""
    text = str(error).strip().splitlines()
    return text[0][:200] if text else type(error).__name__


def portable(error: Exception) -> Exception:
    """The error, if it can be sent to another process and put together there; else its words in a plain one."""
    try:
        pickle.loads(pickle.dumps(error))
    except (TypeError, ValueError, AttributeError, pickle.PicklingError):
        return RuntimeError("".join(traceback.format_exception(error)))
    return error
