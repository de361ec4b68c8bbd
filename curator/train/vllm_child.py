"""Answers in a separate process, whose interpreter has vLLM and need not have curator: only vLLM is imported.

It is called as `python vllm_child.py JOB OUT`. JOB holds `model`, `revision`, `dtype`, `prompts` (lists of token ids),
`ends`, `max_new_tokens`, `longest`, `memory`, and for sampled answers `temperature` and `seeds` (one per prompt; null
for a greedy answer). OUT is written atomically: a list of token ids for each prompt, in their order, with an end token
for those that ended, and vLLM's version. The process ends when its standard input does: the process that started it
holds that open, and may be killed.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any


def answer(job: dict[str, Any]) -> dict[str, Any]:
    """Tokens of every answer."""
    import vllm

    model = vllm.LLM(
        model=job["model"],
        revision=job["revision"],
        skip_tokenizer_init=True,  # input and output are tokens; the tokenizer that wrote the prompts decodes the text
        dtype=job["dtype"],  # vLLM's own choice for a checkpoint in float32 would be float16
        max_model_len=job["longest"],
        gpu_memory_utilization=job["memory"],
        generation_config="vllm",  # a checkpoint's own sampling settings would change greedy answers
        seed=0,
    )
    limits = {"max_tokens": job["max_new_tokens"], "stop_token_ids": job["ends"], "detokenize": False}
    # A separate seed makes an answer independent of those that are sampled beside it.
    settings = [
        vllm.SamplingParams(temperature=0.0, **limits)
        if seed is None
        else vllm.SamplingParams(temperature=job["temperature"], seed=seed, **limits)
        for seed in job["seeds"]
    ]
    outputs = model.generate([{"prompt_token_ids": prompt} for prompt in job["prompts"]], settings, use_tqdm=False)
    answers = []
    for output in outputs:
        reason = output.outputs[0].finish_reason
        if reason not in ("stop", "length"):  # such as abort: the text until then is not the answer
            raise RuntimeError(f"vLLM gave up on a prompt (finish_reason {reason})")
        tokens, ended = list(output.outputs[0].token_ids), reason == "stop"
        # Versions differ in whether they return the end token.
        answers.append([*tokens, job["ends"][0]] if ended and not set(tokens) & set(job["ends"]) else tokens)
    return {"answers": answers, "version": getattr(vllm, "__version__", "unknown")}


def main(job: str, out: str) -> None:
    """Reads the job, and writes the answers."""
    result = answer(json.loads(Path(job).read_text(encoding="utf-8")))
    temporary = Path(f"{out}.part")
    temporary.write_text(json.dumps(result), encoding="utf-8")
    os.replace(temporary, out)


def _end_with_owner() -> None:
    os.read(0, 1)  # and not of sys.stdin, whose lock would be held when this process ends by itself
    os._exit(1)  # SystemExit in this thread would not end the main one


if __name__ == "__main__":
    # A script's own folder comes first in the module path, and files here may be named like vLLM's imports.
    here = Path(__file__).resolve().parent
    sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
    threading.Thread(target=_end_with_owner, daemon=True).start()
    main(*sys.argv[1:])
