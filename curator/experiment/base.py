"""The model that a recipe names, looked at before any work: what is wrong with it, and what is done about it."""

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
    """What is known of a model without its weights.

    Attributes:
        problems: What keeps it from being used, each an error of its own.
        notes: What is done with it that a reader must know, one sentence each.
        kind: The type of its architecture, where it has a configuration. `date`: what its template takes for today;
            null where it prints none. `left_out`: names of weights that LoRA leaves as they are.
    """

    problems: list[CuratorError]
    notes: list[str]
    kind: str | None = None
    date: str | None = None
    left_out: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """What the base stage writes down of it, beside its kind; nothing where there is nothing to say."""
        known = {"notes": self.notes, "date": self.date, "left_out": list(self.left_out)}
        return {name: value for name, value in known.items() if value}


def look_at(path: str, revision: str | None, chat_template: str | None, *, lora: bool) -> Looked:
    """Looks at tokenizer, chat template and configuration; with `lora`, at what an adapter would adapt."""
    from curator.model.chat import DATE, check_template, is_dated, template_of
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
    """Looks at the opening that is put into answers' mouths, before anything is trained; arguments as of a tokenizer.

    Raises:
        RecipeError: It has fewer tokens than are asked for, or some that the model does not know.
    """
    if probes.depths:
        from curator.model.load import load_tokenizer
        from curator.model.prefill import opening_tokens

        tokenizer = load_tokenizer(path, revision=revision, chat_template=chat_template)
        opening_tokens(tokenizer, probes.opens_with, max(probes.depths))


def require_openers(
    recovery: Recovery | None, base: Path, path: str, revision: str | None, chat_template: str | None
) -> None:
    """Looks at the openers of the recovery arms, before anything is trained; `base` is the folder that the path of
    their file starts from, the rest as above.

    Raises:
        RecipeError: Their file cannot be read, none is as long as is asked for, or the model does not know a part.
    """
    if recovery is not None:
        from curator.model.load import load_tokenizer
        from curator.model.prefill import opener_tokens

        tokenizer = load_tokenizer(path, revision=revision, chat_template=chat_template)
        opener_tokens(tokenizer, recovery.texts(base), recovery.tokens[1])


def problem_of_opening(recipe: Recipe, base: Path = Path(".")) -> str | None:
    """What is wrong with the opening of a recipe's probes, or the openers of its recovery arms, as far as files of this
    machine tell; null where nothing is.
    """
    from curator.model.load import locate

    model, recovery = recipe.model, recipe.augment.recovery
    try:
        if (recipe.probes.depths or recovery) and not is_gguf(path_of(model.id)):
            path: Path | None = Path(locate(model.id))
            path = path if path is not None and path.is_dir() else _cached(model.id, model.revision)
            if path is not None:
                require_opening(recipe.probes, str(path), None, model.chat_template)
                require_openers(recovery, base, str(path), None, model.chat_template)
    except RecipeError as error:
        return str(error)
    except CuratorError:  # of the model itself, which is told where the model is looked at
        return None
    return None


def problems_of_model(section: Model, *, lora: bool = True) -> list[str]:
    """What keeps a recipe's model from being used, one sentence each, as far as files of this machine tell: a folder,
    the Hub's cache or the sandbox. No weights are loaded.

    Args:
        section: The recipe's `model`.
        lora: Whether any training is of an adapter; see `trains_adapter`.
    """
    return [str(problem) for problem in _looked_here(section, lora=lora).problems]


def notes_of_model(section: Model, *, lora: bool = True) -> list[str]:
    """What is done with a recipe's model that a reader must know, one sentence each; arguments as above."""
    return _looked_here(section, lora=lora).notes


def trains_adapter(recipe: Recipe) -> bool:
    """Whether any training of a recipe is LoRA."""
    swept = [method for task in recipe.tasks if task.sweep for method in task.sweep.method or ()]
    return "lora" in (recipe.verify.align.method, recipe.verify.finetune.method, *swept)


def _looked_here(section: Model, *, lora: bool) -> Looked:
    from curator.model.load import locate

    try:
        if is_gguf(path_of(section.id)):  # which is dequantised by a run, and not to look at it
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
    """The folder of a model in the Hub's cache; null where its configuration or its tokenizer is not there."""
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
