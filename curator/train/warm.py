"""What every training worker needs, loaded once before workers are forked; importing it is all it is for."""

from curator.model.load import quiet

quiet()  # peft imports bitsandbytes where it is installed, which at once says what it lacks on a CPU

from peft import get_peft_model  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402
from trl import SFTConfig, SFTTrainer  # noqa: E402

import curator.train.generate  # noqa: E402
import curator.train.sft  # noqa: E402

__all__ = ["AutoModelForCausalLM", "AutoTokenizer", "SFTConfig", "SFTTrainer", "curator", "get_peft_model"]
