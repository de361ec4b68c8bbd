"""Checks of the model that a recipe names, before any work: its problems, and how curator handles its peculiarities."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from curator.errors import CuratorError, ModelError, RecipeError
from curator.model.gguf import is_gguf, quantised_as
from curator.recipe.package import path_of

if TYPE_CHECKING:
    from curator.recipe import Model, Recipe
    from curator.recipe.augment import Recovery
    from curator.recipe.probes import Probes

_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")


class Looked(NamedTuple):
    """What is known about a model without loading its weights.

    Attributes:
        problems: Reasons why it cannot be used, each a separate error.
        notes: How it is handled in ways that a reader must know, one sentence each.
        kind: The type of its architecture, if it has a configuration. `date`: the date that its template prints as
            today's; null if it prints none. `left_out`: names of weights that LoRA does not change.
    """

    problems: list[CuratorError]
    notes: list[str]
    kind: str | None = None
    date: str | None = None
    left_out: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """The base stage's record of the model, beside its kind; may be empty."""
        known = {"notes": self.notes, "date": self.date, "left_out": list(self.left_out)}
        return {name: value for name, value in known.items() if value}


def look_at(path: str, revision: str | None, chat_template: str | None, *, lora: bool) -> Looked:
    """Checks tokenizer, chat template and configuration; with `lora` also which weights an adapter would adapt."""
    from curator.model.chat import DATE, check_template, encode_prompt, is_dated, own_begin, template_of
    from curator.model.load import check_tokens, load_config, load_tokenizer
    from curator.train.adapter import left_out

    looked = Looked([], [])
    tokenizer = _try(looked, lambda: load_tokenizer(path, revision=revision, chat_template=chat_template))
    config = _try(looked, lambda: load_config(path, revision=revision))
    day = None
    if tokenizer is not None:
        if is_dated(tokenizer.chat_template):
            day = DATE.isoformat()
            looked.notes.append(
                f"The chat template prints today's date; every run uses {day} instead, so that equal settings give "
                "equal tokens"
            )
        before = len(looked.problems)
        _try(looked, lambda: check_template(tokenizer))
        if len(looked.problems) == before:
            if not template_of(tokenizer).system:
                looked.notes.append(
                    "The chat template has no system role, so the text of a system turn is put before the user's first "
                    "message"
                )
            begin = own_begin(tokenizer)
            if begin is not None and encode_prompt(tokenizer, [{"role": "user", "content": "A question?"}])[0] != begin:
                looked.notes.append(
                    f"The tokenizer begins every text with {tokenizer.bos_token!r}, but the chat template does not "
                    "write it, so prompts and rows lack it; write it in the template if the model learned with it"
                )
            if config is not None:
                _try(looked, lambda: check_tokens(tokenizer, config))
    quantised = quantised_as(Path(path))
    if quantised is not None:
        looked.notes.append(f"The model's weights were dequantised from {quantised} (GGUF)")
    remaining = _try(looked, lambda: left_out(config)) if lora and config is not None else None
    if remaining is not None:
        looked.notes.append(str(remaining))
    return looked._replace(
        kind=None if config is None else config.model_type,
        date=day,
        left_out=() if remaining is None else remaining.names,
    )


def require_opening(probes: Probes, path: str, revision: str | None, chat_template: str | None) -> None:
    """Checks the opening that is prefilled before answers, before any training; arguments as for a tokenizer.

    Raises:
        RecipeError: It has fewer tokens than the recipe asks for, or tokens that the model does not know.
    """
    if probes.depths:
        from curator.model.load import load_tokenizer
        from curator.model.prefill import opening_tokens

        tokenizer = load_tokenizer(path, revision=revision, chat_template=chat_template)
        opening_tokens(tokenizer, probes.opens_with, max(probes.depths))


def require_openers(recovery: Recovery | None, path: str, revision: str | None, chat_template: str | None) -> None:
    """Checks the openers of the recovery arms, before any training.

    Args:
        path, revision, chat_template: As for a tokenizer.

    Raises:
        RecipeError: Their file cannot be read, none is as long as the recipe asks for, or the model does not know a
            part of one.
    """
    if recovery is not None:
        from curator.model.load import load_tokenizer
        from curator.model.prefill import opener_tokens

        tokenizer = load_tokenizer(path, revision=revision, chat_template=chat_template)
        opener_tokens(tokenizer, recovery.texts(), recovery.tokens[1])


def problem_of_opening(recipe: Recipe) -> str | None:
    """A problem with the opening of a recipe's probes, or the openers of its recovery arms, as far as files on this
    machine show it; null if there is none.
    """
    from curator.model.load import locate

    model, recovery = recipe.model, recipe.augment.recovery
    try:
        if (recipe.probes.depths or recovery) and not is_gguf(path_of(model.id)):
            path: Path | None = Path(locate(model.id))
            path = path if path is not None and path.is_dir() else _cached(model.id, model.revision)
            if path is not None:
                require_opening(recipe.probes, str(path), None, model.chat_template)
                require_openers(recovery, str(path), None, model.chat_template)
    except RecipeError as error:
        return str(error)
    except CuratorError:  # a problem of the model itself, which is reported where the model is checked
        return None
    return None


def trains_adapter(recipe: Recipe) -> bool:
    """Whether any training of a recipe uses LoRA."""
    swept = [method for task in recipe.tasks if task.sweep for method in task.sweep.method or ()]
    return "lora" in (recipe.verify.align.method, recipe.verify.finetune.method, *swept)


def looked_here(section: Model, *, lora: bool = True) -> Looked:
    """Why a recipe's model cannot be used, and how it is handled in ways that a reader must know, as far as files on
    this machine show it: a folder, the Hub's cache or the sandbox. No weights are loaded.

    Args:
        section: The recipe's `model`.
        lora: Whether any training trains an adapter; see `trains_adapter`.
    """
    from curator.model.load import locate

    try:
        if is_gguf(path_of(section.id)):  # a run dequantises it; a check does not
            return Looked([], [])
        path: Path | None = Path(locate(section.id))
    except CuratorError as error:
        return Looked([error if isinstance(error, ModelError) else ModelError(f"model.id: {error}")], [])
    if path is not None and not path.is_dir():
        # A Hub id is one name, or two with a slash between.
        if section.id.startswith((".", "/", "~")) or section.id.count("/") > 1:
            missing = ModelError(f"model.id: no folder {section.id!r}; name a folder that exists, or a Hub id")
            return Looked([missing], [])
        path = _cached(section.id, section.revision)
    if path is None:
        return Looked([], [])
    return look_at(str(path), None, section.chat_template, lora=lora)


def _cached(model_id: str, revision: str | None) -> Path | None:
    """The folder of a model in the Hub's cache; null if its configuration or its tokenizer is missing."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        files = [try_to_load_from_cache(model_id, name, revision=revision) for name in ("config.json", *_TOKENIZERS)]
    except HFValidationError:
        return None
    config, *tokenizers = [Path(file) if isinstance(file, str) else None for file in files]
    return config.parent if config is not None and any(tokenizers) else None


def _try(looked: Looked, work: Callable[[], Any]) -> Any:
    try:
        return work()
    except CuratorError as error:
        looked.problems.append(error)
        return None
