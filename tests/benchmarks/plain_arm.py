"""The plain way to one figure of the grid: a script that loads, aligns, fine-tunes and asks, prompt by prompt.

`grid.py` runs it once for each arm, seed and task, as one would run a trl script; it prints where its time went.

python tests/benchmarks/plain_arm.py JOB.json
"""

import json
import sys
import time

started = time.perf_counter()

import torch  # noqa: E402
from datasets import Dataset  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed  # noqa: E402
from transformers.utils import logging  # noqa: E402
from trl import SFTConfig, SFTTrainer  # noqa: E402

logging.set_verbosity_error()
logging.disable_progress_bar()


def sft(model, tokenizer, rows, settings, seed):
    """A trl training on completions: the prompt's template is its own, the loss is on the answer."""
    set_seed(seed)
    table = Dataset.from_list([{"prompt": one[:-1], "completion": one[-1:]} for one in rows])
    arguments = SFTConfig(
        output_dir=settings["folder"], max_steps=settings["steps"], per_device_train_batch_size=settings["batch"],
        learning_rate=settings["learning_rate"], lr_scheduler_type="constant", weight_decay=0.0, max_grad_norm=1.0,
        use_cpu=True, bf16=False, seed=seed, data_seed=seed, max_length=None, save_strategy="no", report_to="none",
        disable_tqdm=True, log_level="error", gradient_checkpointing=False,
    )  # fmt: skip
    trainer = SFTTrainer(model=model, args=arguments, train_dataset=table, processing_class=tokenizer)
    trainer.train()
    return trainer.model


def ask(model, tokenizer, prompts, limit):
    """Greedy answers, one prompt after the other."""
    model.eval()
    found = []
    for messages in prompts:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
        with torch.inference_mode():
            out = model.generate(ids, max_new_tokens=limit, do_sample=False, pad_token_id=tokenizer.pad_token_id)
        found.append(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))
    return found


def main(path):
    with open(path) as file:
        job = json.load(file)
    spent = {"loading": time.perf_counter() - started, "train": 0.0, "generate": 0.0}
    clock = time.perf_counter()
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32)
    spent["loading"] += time.perf_counter() - clock
    for stage in ("align", "finetune"):
        clock = time.perf_counter()
        model = sft(model, tokenizer, job["rows"][stage], job[stage], job["seed"])
        spent["train"] += time.perf_counter() - clock
        clock = time.perf_counter()
        ask(model, tokenizer, job["prompts"], job["limit"])
        spent["generate"] += time.perf_counter() - clock
    print("RESULT " + json.dumps({**spent, "seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main(sys.argv[1])
