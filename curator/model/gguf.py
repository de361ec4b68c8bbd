"""Models in a GGUF file, the format of llama.cpp: dequantised once into a folder that transformers can read.

The weights in the folder are fp32, as transformers itself dequantises them, so the logits are the same.
"""

from __future__ import annotations

import shutil
import struct
import time
import uuid
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

from curator.errors import ModelError, first_line
from curator.recipe.inputs import sha256
from curator.run.folder import read_json, write_json

ENDING = ".gguf"
_NOTE = "dequantised.json"
_ABANDONED = 24 * 3600  # seconds after which an unfinished folder was left by a process that was killed


def is_gguf(path: str) -> bool:
    """Whether a path has the form of a GGUF file's."""
    return path.lower().endswith(ENDING)


def dequantised(file: Path, cache: Path, *, key: str = "model.id") -> Path:
    """The folder of a GGUF file's weights, tokenizer and chat template, created unless it exists.

    Args:
        file: The GGUF file.
        cache: Folder in which it is stored, under the hash of the file.
        key: The recipe key that messages name.

    Raises:
        ModelError: gguf is not installed; the file is damaged, has no tokenizer, or has an architecture that
            transformers does not read from GGUF.
        DataError: The file cannot be read.
    """
    folder = cache / f"gguf-{sha256(file)[:32]}"
    if (folder / _NOTE).is_file():
        return folder
    for left in cache.glob(f".{folder.name}.*"):
        if time.time() - left.stat().st_mtime > _ABANDONED:
            shutil.rmtree(left, ignore_errors=True)
    # Machines that share the cache may have equal process ids.
    scratch = cache / f".{folder.name}.{uuid.uuid4().hex[:12]}.tmp"
    scratch.mkdir(parents=True)
    try:
        _convert(file, scratch, key)
        # Two runs may create it at once: the later one finds the folder with the same content.
        try:
            scratch.rename(folder)
        except OSError:
            if not (folder / _NOTE).is_file():
                shutil.rmtree(folder, ignore_errors=True)
                scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def quantised_as(folder: Path) -> str | None:
    """How the weights of a folder were quantised before they were dequantised, such as `Q4_1`; null for any other."""
    note = folder / _NOTE
    return read_json(note)["from"] if note.is_file() else None


def _convert(file: Path, folder: Path, key: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from curator.model.load import memory, quiet

    quiet()
    try:
        import gguf
    except ImportError:
        raise ModelError(
            f"{key}: {file.name} is a GGUF file, but the package gguf is not installed; run: pip install gguf"
        ) from None
    try:
        fields = gguf.GGUFReader(file).fields
        kind = _text(fields, "general.architecture")
    except (ValueError, IndexError, KeyError, OSError, struct.error, OverflowError, MemoryError) as error:
        raise ModelError(
            f"{key}: {file.name} is not a GGUF file, or it is damaged ({first_line(error)}); download it again"
        ) from error
    if "tokenizer.ggml.model" not in fields:
        raise ModelError(
            f"{key}: {file.name} does not contain a tokenizer; give a GGUF file with one, or the folder of the model"
        )
    source, name = str(file.parent), file.name
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=name)
        # A progress bar over the tensors is drawn whatever the libraries' settings, and only cli/ prints.
        with memory(key, "name a smaller model"), redirect_stderr(StringIO()):
            model: Any = AutoModelForCausalLM.from_pretrained(source, gguf_file=name, dtype="float32")
    # A model or tokenizer that the reader does not know raises one of these, or needs another library.
    except (ValueError, LookupError, TypeError, AttributeError, NotImplementedError, OSError, ImportError) as error:
        raise ModelError(
            f"{key}: transformers cannot read the {kind} model and tokenizer of {file.name} ({first_line(error)}); "
            "give the folder or the Hub id of the model itself"
        ) from error
    # The result is a plain model: with this entry transformers would refuse to save it, and later to train it.
    model.hf_quantizer, model.is_quantized = None, False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_json(folder / _NOTE, {"file": file.name, "from": _quantisation(fields, gguf)})


def _text(fields: Any, name: str) -> str:
    return str(fields[name].contents())


def _quantisation(fields: Any, gguf: Any) -> str:
    """The file's own name for the quantisation of most of its weights."""
    if "general.file_type" not in fields:
        return "an unnamed type"
    number = int(fields["general.file_type"].contents())
    names = {int(kind): kind.name.removeprefix("MOSTLY_").removeprefix("ALL_") for kind in gguf.LlamaFileType}
    return str(names.get(number, f"type {number}"))
