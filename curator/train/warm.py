"""What every training worker needs, loaded once before workers are forked; importing it is all it is for."""

from peft import get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

import curator.train.generate
import curator.train.sft

__all__ = ["AutoModelForCausalLM", "AutoTokenizer", "SFTConfig", "SFTTrainer", "curator", "get_peft_model"]
