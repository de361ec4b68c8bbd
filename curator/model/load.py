"""Loading causal models: device, dtype, adapters, the chat template's name."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.errors import DataError, ModelError, RecipeError, first_line, gpu_fault, out_of_memory
from curator.model.chat import TEMPLATES, dated, encode, own_begin
from curator.model.dtype import gpu_has_bf16, torch_dtype
from curator.model.gguf import dequantised, is_gguf
from curator.provenance import usable_device
from curator.recipe.inputs import template_text
from curator.recipe.package import at_home, is_inside, path_of
from curator.wording import these

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

SANDBOX = "sandbox:"
EARLIER = "earlier"  # prefix of the names of adapters that are not trained


def locate(model_id: str, cache: Path | None = None, key: str = "model.id") -> str:
    """The folder or Hub id to load.

    Args:
        model_id: A folder or Hub id; `sandbox:` for the sandbox model that comes with curator; `package:NAME/PATH` for
            a folder inside an installed package; or a GGUF file, which is dequantised into a folder first.
        cache: Where such folders are stored; null for this user's own cache.
        key: The recipe key that messages name.

    Raises:
        ModelError: The package is not installed, or the GGUF file cannot be read.
    """
    if model_id == SANDBOX:
        from curator import sandbox

        return str(sandbox.path())
    try:
        path = path_of(model_id)
    except DataError as error:
        raise ModelError(f"{key}: {error}") from error
    if is_gguf(path) and Path(path).is_file():
        return str(dequantised(Path(path), (cache or user_cache()).absolute(), key=key))
    return path


def user_cache() -> Path:
    """The folder of this user's own cache, which need not exist; below the temporary folder where this user has no home
    folder.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or at_home("~/.cache"))
    return cache / "curator" if cache.is_absolute() else Path(tempfile.gettempdir()) / f"curator-{os.getuid()}"


def device() -> str:
    """The device of tensors: `cuda` if there is a GPU, else `cpu`. Raises like `provenance.usable_device`."""
    return usable_device()


def load_tokenizer(
    path: str,
    *,
    revision: str | None = None,
    chat_template: str | None = None,
    key: str = "model.id",
    chat: bool = True,
) -> Any:
    """The tokenizer of a model, checked to be usable for chat.

    Args:
        path: A folder or Hub id.
        revision: Revision of a Hub id.
        chat_template: A name in TEMPLATES, a file of Jinja text, or null for the tokenizer's own. A template that
            prints today's date prints `chat.DATE` instead.
        key: The recipe key that messages name.
        chat: Whether a chat template and an end token are required; a judge may lack them.

    Raises:
        ModelError: It cannot be loaded, or it has no vocabulary or no end token.
        RecipeError: There is no chat template, or none of this name.
    """
    from transformers import AutoTokenizer

    quiet()
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{key}: cannot load a tokenizer from {path!r} ({first_line(error)}); {_help(path)}"
        ) from error
    # If files are missing, some tokenizers load with special tokens only, and read every text as empty.
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise ModelError(f"{key}: the tokenizer of {path!r} has no vocabulary; {_help(path)}")
    if chat and tokenizer.eos_token_id is None:
        raise ModelError(
            f"{key}: the tokenizer of {path!r} has no end token (eos_token), so answers could not end; "
            "set eos_token in its tokenizer_config.json"
        )
    if chat_template is not None:
        tokenizer.chat_template = _template(chat_template)
        # The others write it themselves; the models of most tokenizers that add none know no begin token.
        if chat_template == "chatml" and own_begin(tokenizer) is not None:
            tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    if chat and not tokenizer.chat_template:
        raise RecipeError(
            f"model.chat_template: the tokenizer of {path!r} has no chat template of its own; "
            f"name one ({', '.join(TEMPLATES)}) or give a file of Jinja text"
        )
    if chat:
        try:
            tokenizer.chat_template = dated(str(tokenizer.get_chat_template()))
        except ValueError as error:
            raise RecipeError(
                f"model.chat_template: the tokenizer of {path!r} has several chat templates, and none is the default; "
                f"name one ({', '.join(TEMPLATES)}) or give a file of Jinja text"
            ) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def check_tokens(tokenizer: Any, config: Any, *, key: str = "model.id") -> None:
    """Checks that a model has an embedding for every token that its tokenizer writes.

    Special tokens that neither the template nor padding uses may lie outside, since no text is read as one of them.

    Raises:
        ModelError: A token lies outside the embeddings.
    """
    most = getattr(config.get_text_config(), "vocab_size", None)
    if most is None:
        return
    kinds = {tokenizer.eos_token_id: "the end token", tokenizer.pad_token_id: "the padding token"}
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    turns = [{"role": "user", "content": "A question?"}, {"role": "assistant", "content": "An answer."}]
    written = [*kinds, *encode(tokenizer, turns).ids, *sorted(set(tokenizer.get_vocab().values()) - special)]
    if (outside := next((number for number in written if number >= most), None)) is not None:
        name = kinds.get(outside, "a token of its tokenizer")
        raise ModelError(
            f"{key}: the model has no embedding for token id {outside:,}, which is "
            f"{tokenizer.convert_ids_to_tokens(outside)!r}, {name} (it has {most:,} embeddings); give the tokenizer "
            "that belongs to these weights, or weights whose embeddings were resized for it"
        )


def _template(name: str) -> str:
    if name in TEMPLATES:
        return TEMPLATES[name]
    file = Path(path_of(name))
    if file.is_file():
        return template_text(file)
    raise RecipeError(
        f"model.chat_template: found {name!r}; allowed: {', '.join(TEMPLATES)}, or the path of a file of Jinja text"
    )


def load_config(path: str, *, revision: str | None = None) -> Any:
    """The configuration of a causal model, without its weights.

    Raises:
        ModelError: There is none, or it does not belong to a causal model.
    """
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    try:
        config = AutoConfig.from_pretrained(path, revision=revision)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"model.id: cannot load a configuration from {path!r} ({first_line(error)}); {_help(path)}"
        ) from error
    causal = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type)
    if causal is None:
        raise ModelError(f"model.id: {path!r} is a {config.model_type} model; give a causal language model")
    saved = config.architectures or []
    # Models that also read images are saved under such a name.
    if saved and not any(name == causal or name.endswith("ForConditionalGeneration") for name in saved):
        raise ModelError(
            f"model.id: {path!r} contains a {', '.join(saved)}; give a causal language model (here: a {causal})"
        )
    return config


def load_model(
    path: str,
    *,
    revision: str | None = None,
    adapters: Sequence[str] = (),
    dtype: str = "fp32",
    quantise: str | None = None,
    key: str = "model.id",
) -> Any:
    """The causal model, on the device, in evaluation mode, set to decode greedily.

    Args:
        path: Folder or Hub id of the weights.
        revision: Revision of a Hub id.
        adapters: LoRA folders merged into the weights, in this order and in fp32: sums rounded to bf16 lose small
            changes, more with every adapter.
        dtype: `fp32` or `bf16`, to which the weights are rounded once, at the end. Training of all weights needs fp32
            here too, since small steps vanish in bf16.
        quantise: `4bit` for NF4 with double quantisation (Dettmers et al. 2023, arXiv 2305.14314); adapters then stay
            beside the weights, all active, since merging would round them. Null for full weights.
        key: The recipe key that messages name.

    Raises:
        ModelError: The weights cannot be loaded, are incomplete, or do not fit into memory; or bitsandbytes is missing.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, GenerationConfig

    quiet()
    rounded = torch_dtype(dtype, device())
    try:
        with memory(key, "name a smaller model"):
            # In the dtype of the file if adapters are added, so that nothing is rounded before.
            read = "auto" if adapters and quantise is None else rounded
            # transformers fills missing tensors with random numbers, and only warns.
            model, info = AutoModelForCausalLM.from_pretrained(
                path, revision=revision, dtype=read, output_loading_info=True, **_quantised(quantise, rounded)
            )
            missing = sorted(info["missing_keys"])
            if missing:
                raise ModelError(
                    f"{key}: the weights of {path!r} lack {these(len(missing), 'tensor', 'tensors')} of its "
                    f"config.json (first: {missing[0]!r}), which would be random; give the weights that this "
                    "config.json was made for"
                )
            # A checkpoint's own sampling settings, penalties and forbidden words would change greedy answers.
            model.generation_config = GenerationConfig(eos_token_id=model.generation_config.eos_token_id)
            if quantise is not None:
                return _beside(model, adapters).eval()
            if adapters:
                model = _merged(model, adapters, rounded)
            return model.to(device()).eval()
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{key}: cannot load a model from {path!r} ({first_line(error)}); {_help(path)}") from error


def _quantised(quantise: str | None, dtype: torch.dtype) -> dict[str, Any]:
    if quantise is None:
        return {}
    from importlib.util import find_spec

    from transformers import BitsAndBytesConfig

    if find_spec("bitsandbytes") is None:
        raise ModelError(
            "model.quantise: the package bitsandbytes is not installed; "
            'run: pip install -c constraints.txt ".[quantise]"'
        )
    settings = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    return {"quantization_config": settings, "device_map": {"": device()}}


def _merged(model: PreTrainedModel, adapters: Sequence[str], dtype: torch.dtype) -> Any:
    """The model with every adapter added to its weights, in fp32, layer by layer, and then rounded."""
    import torch
    from peft.tuners.lora import LoraLayer

    model, names = _with_adapters(model, adapters)
    for module in model.modules():
        if isinstance(module, LoraLayer):
            # Parts of a layer that no adapter changes keep their values, since every dtype that is read fits into fp32.
            module.get_base_layer().to(torch.float32)
            module.merge(adapter_names=names)
    model = model.unload()
    # Not model.to(dtype), which would also round buffers that are not weights, such as the angles of rotary positions.
    precise = tuple(getattr(model, "_keep_in_fp32_modules_strict", None) or ())
    for name, weight in model.named_parameters():
        if weight.dtype.is_floating_point and not any(part in name.split(".") for part in precise):
            weight.data = weight.data.to(dtype)
    return model


def _beside(model: PreTrainedModel, adapters: Sequence[str]) -> Any:
    """The model with all adapters active: the change of weights is the sum of theirs, as if they were merged."""
    for module in model.modules():
        # bitsandbytes' packed product on some CPUs accepts only widths divisible by 32, and rounds to bf16.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    if not adapters:
        return model
    beside, names = _with_adapters(model, adapters)
    beside.base_model.set_adapter(names)
    beside.requires_grad_(requires_grad=False)
    return beside


def _with_adapters(model: PreTrainedModel, adapters: Sequence[str]) -> tuple[Any, list[str]]:
    """The model with adapters loaded, and the adapters' names."""
    from peft import PeftModel

    names = [f"{EARLIER}-{number}" for number in range(len(adapters))]
    loaded = PeftModel.from_pretrained(model, adapters[0], adapter_name=names[0])
    for name, adapter in zip(names[1:], adapters[1:], strict=True):
        loaded.load_adapter(adapter, adapter_name=name)
    return loaded, names


def load_classifier(path: str, *, revision: str | None = None, key: str) -> Any:
    """A sequence classifier, on the device, in bf16 on a GPU that supports it and else in fp32, in evaluation mode.

    Raises:
        ModelError: The weights cannot be loaded, are incomplete (including the head's), or do not fit into memory.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForSequenceClassification

    quiet()
    dtype = torch.bfloat16 if gpu_has_bf16() else torch.float32
    try:
        with memory(key, "name a smaller model"):
            model, info = AutoModelForSequenceClassification.from_pretrained(
                path, revision=revision, dtype=dtype, output_loading_info=True
            )
            missing = sorted(info["missing_keys"])
            if missing:
                raise ModelError(
                    f"{key}: {path!r} is not a classifier, or it is incomplete: its weights lack "
                    f"{these(len(missing), 'tensor', 'tensors')} (first: {missing[0]!r}), which would be random; give "
                    "a sequence classifier"
                )
            return model.to(device()).eval()
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"{key}: cannot load a classifier from {path!r} ({first_line(error)}); {_help(path)}"
        ) from error


def classifier_labels(path: str, *, revision: str | None = None, key: str) -> list[str]:
    """The names of a classifier's labels, from its configuration alone.

    Raises:
        ModelError: There is no configuration.
    """
    from transformers import AutoConfig

    quiet()
    try:
        return [str(name) for name in AutoConfig.from_pretrained(path, revision=revision).id2label.values()]
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ModelError(
            f"{key}: cannot load a configuration from {path!r} ({first_line(error)}); {_help(path)}"
        ) from error


def window(model: PreTrainedModel) -> int:
    """Most tokens, prompt and answer together, that the model has positions for."""
    return window_of(model.config)


def window_of(config: Any) -> int:
    """Like `window`, from a model's configuration only."""
    return int(getattr(config.get_text_config(), "max_position_embeddings", None) or 2**31)


def resolve_revision(model_id: str, revision: str | None, key: str = "model.id") -> str | None:
    """The 40-hex commit of a Hub model, looked up on the Hub unless `revision` is a commit; null for a folder.

    Raises:
        ModelError: The Hub does not respond, or has no such model or revision.
    """
    if model_id == SANDBOX or is_inside(model_id) or Path(model_id).exists():
        return None
    if revision is not None and len(revision) == 40:
        return revision
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, HTTPError, OfflineModeIsEnabled  # type: ignore[attr-defined]

    try:
        return str(HfApi().model_info(model_id, revision=revision, timeout=10).sha)
    # HTTPError is the client's root class.
    except (HTTPError, HFValidationError, OfflineModeIsEnabled, OSError) as error:
        raise ModelError(
            f"{key}: {model_id!r} not found on the Hub ({first_line(error)}); {_help(model_id)}"
        ) from error


@contextmanager
def memory(key: str, remedy: str = "lower it") -> Iterator[None]:
    """Turns out-of-memory errors, and other failures of a GPU, into a ModelError that says what to do; the former names
    the recipe key.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if out_of_memory(error):
            raise ModelError(f"{key}: out of memory ({first_line(error)}); {remedy}, or use a larger device") from error
        if (fault := gpu_fault(error)) is not None:
            raise ModelError(fault) from error
        raise


def _help(path: str) -> str:
    if Path(path).is_dir():
        names = ", ".join(sorted(file.name for file in Path(path).iterdir())[:8]) or "nothing"
        return f"the folder contains {names}; it needs config.json, weights and tokenizer.json"
    return "give a folder that exists, or a model on the Hub that you may read (check the network and HF_TOKEN)"


def quiet() -> None:
    """Silences progress bars and notices of the libraries: only cli/ prints."""
    import datasets
    import transformers
    from tqdm import tqdm

    # Its own lock is a semaphore of the system, which a worker that is ended leaves behind.
    tqdm.set_lock(threading.RLock())
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    # peft reads it for every model that it adapts.
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
    for name in ("trl", "peft", "accelerate", "sentence_transformers", "bitsandbytes"):
        logging.getLogger(name).setLevel(logging.ERROR)
