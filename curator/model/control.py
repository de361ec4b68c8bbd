"""Tokens that only a chat template may write, and texts that spell such tokens without being meant as them.

A tokenizer reads `<|im_end|>` in a row as the token that ends a turn. Such a row is therefore read by a copy of the
tokenizer in which these tokens have other names: the template's tokens are renamed in the text, and the row's own are
not, so they are read as ordinary text. Everything else, including boundaries between words, is read as usual.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from curator.errors import RecipeError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from curator.records import Messages

OPENS, CLOSES, BEGINS, ENDS = PRIVATE = "\U000f0000", "\U000f0001", "\U000f0002", "\U000f0003"
"""Marks around the number of a control token that a row spells, and of one that the template writes: private-use
characters, which no template alters. The two kinds differ, because otherwise a digit between two of the template's
tokens would look like a row's.
"""


def control_tokens(tokenizer: PreTrainedTokenizerBase, written: str) -> dict[str, int]:
    """Text -> id of every special token, and of every added token that stands in `written`, what a template writes."""
    return {
        token.content: number
        for number, token in tokenizer.added_tokens_decoder.items()
        if (token.special or token.content in written) and token.content.strip()
    }


class Control:
    """A tokenizer's control tokens, and how texts that spell them are read.

    Args:
        tokenizer: Tokenizer of a chat model.
        written: The template's text around turns, to find added tokens that are not marked as special.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, written: str) -> None:
        self._tokenizer = tokenizer
        self.tokens: Mapping[str, int] = control_tokens(tokenizer, written)
        # The longest first: a short token may be a part of a long one.
        names = sorted(self.tokens, key=lambda name: (-len(name), name))
        self._any = re.compile("|".join(map(re.escape, names)) or "(?!)")
        self._numbers = {name: number for number, name in enumerate(names)}
        normalised = any(tokenizer.added_tokens_decoder[token].normalized for token in self.tokens.values())
        backend = getattr(tokenizer, "backend_tokenizer", None)
        self._normaliser = backend.normalizer if normalised and backend is not None else None

    def spelled(self, messages: Messages) -> bool:
        """Whether a turn spells a control token."""
        return any(self._spells(turn["content"]) for turn in messages)

    def _spells(self, text: str) -> bool:
        if self._any.search(text) is not None:
            return True
        return self._normaliser is not None and self._any.search(self._normaliser.normalize_str(text)) is not None

    def hidden(self, messages: Messages) -> Messages:
        """The conversation with marks, which no template alters, in place of control tokens that it spells.

        Raises:
            RecipeError: It already holds such marks.
        """
        if (sign := next((sign for sign in PRIVATE for turn in messages if sign in turn["content"]), None)) is not None:
            raise RecipeError(
                f"model.id: a row contains the private character U+{ord(sign):X} beside the text of a control token, "
                "so the two cannot be told apart; remove the character, or the row"
            )
        return [{**turn, "content": self._any.sub(self._mark, turn["content"])} for turn in messages]

    def shown(self, text: str) -> str:
        """A templated text with the tokens' own names where `hidden` put marks."""
        names = list(self._numbers)
        return re.sub(f"{OPENS}(\\d+){CLOSES}", lambda mark: names[int(mark[1])], text)

    def renamed(self, text: str) -> str:
        """A templated text in which the control tokens, all the template's, have the names of the copy."""
        return self._any.sub(lambda token: _name(self._numbers[token[0]]), text)

    def read(self, texts: Sequence[str]) -> list[Any]:
        """The copy's encodings of texts in which the template's control tokens have the copy's names.

        Raises:
            RecipeError: The control tokens read from a text are not those that it names.
        """
        if not texts:
            return []
        encodings: list[Any] = self._copy.encode_batch(list(texts), add_special_tokens=False)
        # Any text may contain words that the tokenizer does not know.
        tokens = {token for token in self.tokens.values() if token != self._tokenizer.unk_token_id}
        by_number = [self.tokens[name] for name in self._numbers]
        for text, encoding in zip(texts, encodings, strict=True):
            named = [by_number[int(number)] for number in re.findall(f"{BEGINS}(\\d+){ENDS}", text)]
            if [token for token in encoding.ids if token in tokens] != [token for token in named if token in tokens]:
                raise RecipeError(
                    "model.id: a row spells a control token of this tokenizer, which always reads the text as that "
                    "token; remove such text from the rows"
                )
        return encodings

    def _mark(self, token: re.Match[str]) -> str:
        return f"{OPENS}{self._numbers[token[0]]}{CLOSES}"

    @cached_property
    def _copy(self) -> Any:
        from tokenizers import Tokenizer

        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise RecipeError(
                "model.id: a row spells a control token, and this tokenizer cannot read it as text, because it has no "
                "tokenizer.json; remove such text from the rows, or convert the tokenizer"
            )
        if self._normaliser is not None and _name(0) not in self._normaliser.normalize_str(_name(0)):
            raise RecipeError(
                "model.id: a row spells a control token, and this tokenizer cannot read it as text, because it removes "
                "private characters from every text; remove such text from the rows"
            )
        settings = json.loads(backend.to_str())
        names = {name: _name(number) for name, number in self._numbers.items()}
        for token in settings["added_tokens"]:
            token["content"] = names.get(token["content"], token["content"])
        model = settings["model"]
        # Otherwise a token that is also in the vocabulary would get a new id, and its old name could still be read as
        # this token.
        if isinstance(model["vocab"], dict):
            model["vocab"] = {names.get(name, name): token for name, token in model["vocab"].items()}
        else:
            model["vocab"] = [[names.get(name, name), score] for name, score in model["vocab"]]
        if "merges" in model:  # otherwise text could still become such a token
            pairs = [pair if isinstance(pair, list) else pair.split(" ") for pair in model["merges"]]
            model["merges"] = [pair for pair in pairs if names.keys().isdisjoint([*pair, "".join(pair)])]
        if model.get("unk_token") is not None:
            model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
        settings["post_processor"] = settings["truncation"] = settings["padding"] = None
        return Tokenizer.from_str(json.dumps(settings))


def _name(number: int) -> str:
    return f"{BEGINS}{number}{ENDS}"
