"""Answers by vLLM in a separate process: the only file that knows how to call it.

vLLM pins its own torch, so it may need another interpreter; input and output are files of tokens.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from curator.errors import ModelError, first_line, out_of_memory
from curator.model.dtype import TORCH
from curator.model.load import load_config, load_model, window_of
from curator.provenance import release_memory
from curator.records import Messages
from curator.run.folder import TEMPORARY
from curator.train.generate import decoded, encoded_prompts, end_tokens
from curator.wording import these

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHILD = Path(__file__).with_name("vllm_child.py")


class UnavailableError(Exception):
    """vLLM is not available: the interpreter cannot be run, or vLLM is not installed for it."""


class Generated(NamedTuple):
    """Answer and stop reason of each prompt, and the version of vLLM that generated them."""

    answers: list[tuple[str, str]]
    version: str


def generate_apart(
    prompts: Sequence[Messages],
    *,
    base: str,
    revision: str | None,
    adapters: Sequence[str],
    dtype: str = "fp32",
    tokenizer: PreTrainedTokenizerBase,
    max_new_tokens: int,
    python: str | None,
    memory: float,
    scratch: Path,
    openings: Sequence[Sequence[int]] | None = None,
    temperature: float | None = None,
    seeds: Sequence[int | None] | None = None,
) -> Generated:
    """`generate.generate` by vLLM; adapters are first merged into separate weights in `scratch`.

    Args:
        prompts: Conversations up to where the answer starts.
        base, revision, adapters, dtype: As in `model.load_model`.
        tokenizer: From `model.load_tokenizer`.
        max_new_tokens: Most tokens of an answer, including the end token.
        python: Interpreter that has vLLM; null for this one.
        memory: Share of the GPU's memory that vLLM may take, in (0, 1].
        scratch: Folder for merged weights and tokens; it is left empty.
        openings: Tokens that each answer begins with; null for none.
        temperature, seeds: Temperature of sampled answers, and the seed of each; a null seed gives a greedy answer.
            vLLM draws its own random numbers, so its answers differ from those of `generate.generate` with the same
            seeds.

    Raises:
        UnavailableError: vLLM is not installed.
        ModelError: See `generate.generate`; the weights cannot be loaded; or vLLM's process ended without all answers,
            which may be temporary, so transformers does not replace it.
    """
    # The process runs in its own folder.
    base, adapters = _absolute(base), [_absolute(adapter) for adapter in adapters]
    python = str(Path(python).absolute()) if python and os.sep in python else python
    config = load_config(base, revision=revision)
    limit = window_of(config)
    ends = end_tokens(_generation(base, revision), tokenizer)
    mouths = [()] * len(prompts) if openings is None else openings
    encoded = encoded_prompts(prompts, tokenizer=tokenizer, max_new_tokens=max_new_tokens, limit=limit, openings=mouths)
    _require_vllm(python or sys.executable)
    with tempfile.TemporaryDirectory(prefix=".vllm.", suffix=TEMPORARY, dir=scratch.absolute()) as temporary:
        folder = Path(temporary)
        if adapters:
            base, revision = _merged(folder / "merged", base, revision, adapters, dtype), None
        job = {
            "model": base,
            "revision": revision,
            "dtype": TORCH[dtype],
            "prompts": encoded,
            "ends": sorted(ends),
            "max_new_tokens": max_new_tokens,
            "longest": max(map(len, encoded), default=1) + max_new_tokens,
            "memory": memory,
            "temperature": temperature,
            "seeds": list(seeds or [None] * len(encoded)),
        }
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        _run([python or sys.executable, str(CHILD), str(folder / "job.json"), str(folder / "out.json")], folder)
        result = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    if len(result["answers"]) != len(encoded):
        given = these(len(result["answers"]), "answer", "answers")
        raise _without_answers(f"it gave {given} to {these(len(encoded), 'prompt', 'prompts')}")
    answers = [
        decoded(tokens, ends, tokenizer, opening) for tokens, opening in zip(result["answers"], mouths, strict=True)
    ]
    return Generated(answers, result["version"])


def _absolute(model: str) -> str:
    return str(Path(model).absolute()) if Path(model).is_dir() else model


def there(python: str | None) -> bool:
    """Whether an interpreter (null: this one) has vLLM."""
    try:
        _require_vllm(python or sys.executable)
    except UnavailableError:
        return False
    return True


def _require_vllm(python: str) -> None:
    """Checks for vLLM before weights are merged: a failed import costs seconds, merging a large model minutes."""
    # Not in the current folder, where Python looks first: a file there may be named vllm or like one of its imports.
    look = "import sys; sys.path = [entry for entry in sys.path if entry]; "
    look += "import importlib.util; sys.exit(importlib.util.find_spec('vllm') is None)"
    try:
        done = subprocess.run([python, "-c", look], capture_output=True, text=True, check=False)
    except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
        raise UnavailableError(f"cannot run {python} ({error.strerror or error})") from error
    except OSError as error:  # such as a lack of memory for another process, which does not mean that vLLM is missing
        raise _without_answers(f"cannot run {python} now: {error.strerror or error}") from error
    if done.returncode < 0:
        raise _without_answers(f"{python} was killed by signal {-done.returncode} while it looked for vllm")
    if done.returncode != 0:
        raise UnavailableError(f"vllm is not installed for {python}")


def _merged(folder: Path, base: str, revision: str | None, adapters: Sequence[str], dtype: str) -> str:
    """The folder, with the weights and all adapters merged into them."""
    load_model(base, revision=revision, adapters=adapters, dtype=dtype).save_pretrained(folder)
    return str(folder)


def _generation(base: str, revision: str | None) -> Any:
    from transformers import GenerationConfig

    try:
        return GenerationConfig.from_pretrained(base, revision=revision)
    except OSError:  # it has no such file; transformers itself then uses config.json
        return GenerationConfig.from_model_config(load_config(base, revision=revision))


def _run(command: Sequence[str], folder: Path) -> None:
    release_memory()  # vLLM takes its share of what is free
    with (folder / "log").open("w+", encoding="utf-8", errors="replace") as log:
        try:
            # Its standard input ends with this process, however this one ends.
            with subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, cwd=folder
            ) as process:
                code = process.wait()
        except OSError as error:
            raise _without_answers(f"cannot run {command[0]}: {error.strerror or error}") from error
        log.seek(0)
        lines = [line.strip() for line in log if line.strip()]
    if code != 0 or not (folder / "out.json").exists():
        full = next((line for line in reversed(lines) if out_of_memory(RuntimeError(line))), None)
        if full is not None:
            raise ModelError(
                f"verify.generate.memory: vLLM's process ran out of memory ({first_line(RuntimeError(full))}); lower "
                "engine.workers, so that fewer share a GPU, or lower verify.generate.memory to the share that is free; "
                "then run the same command again"
            )
        raise _without_answers(first_line(RuntimeError(lines[-1])) if lines else f"exit code {code}")


def _without_answers(why: str) -> ModelError:
    return ModelError(
        f"verify.generate.engine: vLLM's process ended without answers ({why}). curator does not fall back to another "
        "engine, because it would compare answers of two engines; run the same command again, or set `engine: "
        "transformers`"
    )
