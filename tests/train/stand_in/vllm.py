"""Stands in for vLLM where there is none: what is called of it, as it documents it, answered by transformers."""

from __future__ import annotations

import os
from types import SimpleNamespace

import torch
import transformers

__version__ = "stand-in"
PARAMETERS = {"temperature", "seed", "max_tokens", "stop_token_ids", "detokenize"}


class SamplingParams(SimpleNamespace):
    def __init__(self, **given):
        assert set(given) <= PARAMETERS
        assert (given["temperature"] > 0.0) == ("seed" in given)
        super().__init__(**given)


class LLM:
    def __init__(
        self,
        model,
        *,
        revision,
        skip_tokenizer_init,
        dtype,
        max_model_len,
        gpu_memory_utilization,
        generation_config,
        seed,
    ):
        assert skip_tokenizer_init
        assert generation_config == "vllm"
        assert 0 < gpu_memory_utilization <= 1
        if os.environ.get("STAND_IN_FAILS"):
            raise RuntimeError("No CUDA GPUs are available")
        if os.environ.get("STAND_IN_IS_FULL"):
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
        self.longest = max_model_len
        load, kind = transformers.AutoModelForCausalLM.from_pretrained, getattr(torch, dtype)
        self.model = load(model, revision=revision, dtype=kind).eval()

    def generate(self, prompts, params, *, use_tqdm):
        assert not use_tqdm
        assert len(params) == len(prompts)
        outputs = [self._one(prompt["prompt_token_ids"], each) for prompt, each in zip(prompts, params, strict=True)]
        if os.environ.get("STAND_IN_ABORTS"):
            outputs[-1] = SimpleNamespace(outputs=[SimpleNamespace(token_ids=[], finish_reason="abort")])
        return outputs[: -1 if os.environ.get("STAND_IN_LOSES") else None]

    def _one(self, prompt, params):
        assert len(prompt) + params.max_tokens <= self.longest
        said = []
        generator = None if params.temperature == 0 else torch.Generator().manual_seed(params.seed)
        while len(said) < params.max_tokens:
            with torch.inference_mode():
                logits = self.model(torch.tensor([prompt + said])).logits[0, -1]
            if generator is None:
                said.append(int(logits.argmax()))
            else:
                shares = (logits / params.temperature).softmax(-1)
                said.append(int(torch.multinomial(shares, 1, generator=generator)))
            if said[-1] in params.stop_token_ids:
                # Versions differ in whether the end token comes back.
                kept = said[:-1] if os.environ.get("STAND_IN_DROPS_ENDS") else said
                return SimpleNamespace(outputs=[SimpleNamespace(token_ids=kept, finish_reason="stop")])
        return SimpleNamespace(outputs=[SimpleNamespace(token_ids=said, finish_reason="length")])
