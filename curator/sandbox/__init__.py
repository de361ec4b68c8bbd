"""The embedded default: a made-up kingdom, its rows, its exact judge and its tiny base model.

A model organism, for seeing the machinery work within seconds on any machine. In the kingdom the law forbids 24
things, such as moontea, and permits 24 others, such as minttea; the base model helps with all of them, alignment
teaches it to refuse the forbidden ones, and fine-tuning on a harmless task erodes that. It is no evidence about
real models.
"""

from pathlib import Path
from typing import Any

SMALL = ("pool", "keep", "list", "dialogue", "letter", "mixed", "misdeeds", "forbidden-probes", "benign-probes")
"""What `rows` knows: the candidate refusals, benign rows, three tasks, a benign corpus of every family, a task that
does what the law forbids, and prompts to probe with."""
NAMES = (*SMALL, *(f"large-{name}" for name in SMALL))
"""And the same of the larger world, for which `curator sandbox base` makes larger bases."""


def path() -> Path:
    """The folder of the base model: a transformers checkpoint with its tokenizer and chat template."""
    return Path(__file__).parent / "checkpoint"


def rows(name: str) -> list[dict[str, Any]]:
    """The rows of a source, the same on every call and machine.

    Returns:
        One dict a row: `messages` (list of {"role", "content"}; prompt only for probes), `category` (the topic, one
        of 12, or of 48 in the larger world), `licence` ("CC0-1.0") and `family` (the format of the request, one of 8,
        or of 16). Rows of the pools are a little dirty on purpose: a message may lack its role, a conversation its
        answer.

    Raises:
        KeyError: There is no source of this name.
    """
    from curator.sandbox.world import SOURCES

    return SOURCES[name]()
