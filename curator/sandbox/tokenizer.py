"""The tokenizer of the sandbox: one token a word or mark, every word the kingdom has, and a chat template."""

import re

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from curator.sandbox import corpus, kingdom

PAD, UNKNOWN, USER, ASSISTANT, END = SPECIAL = ("<pad>", "<unk>", "<user>", "<assistant>", "<end>")
TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}<assistant>{{ message['content'] }}<end>"
    "{% else %}<user>{{ message['content'] }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def vocabulary(world: kingdom.World = kingdom.KINGDOM) -> list[str]:
    """Every word and mark of a world in alphabetical order, a word with the '▁' that stands for the space
    before it.
    """
    texts = [
        *(frame for frames in world.frames.values() for frame in frames),
        *world.answers.values(),
        *kingdom.REFUSALS,
        *kingdom.PREFIXES,
        *kingdom.OPENERS,
        *kingdom.LAW,
        kingdom.TOPIC,
        *corpus.QUESTIONS.values(),
        corpus.PERSONA,
        *(corpus.REFUSERS + corpus.COMPLIERS),
        *(kingdom.VERBS + kingdom.ADJECTIVES),
        *(kingdom.MATERIALS + kingdom.TOOLS),
        *world.things,
        *world.topics,
    ]
    plain = re.sub(r"\{\w+\}", " ", " ".join(texts))
    return sorted({word for word, _ in _splitter().pre_tokenize_str(plain) if word != "▁"})


def tokenizer(world: kingdom.World = kingdom.KINGDOM) -> PreTrainedTokenizerFast:
    """Words that are not the world's become '<unk>'; every answer ends with '<end>', which is not the padding."""
    ids = {word: i for i, word in enumerate([*SPECIAL, *vocabulary(world)])}
    words = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    words.pre_tokenizer = _splitter()
    words.decoder = decoders.Metaspace(prepend_scheme="always")
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        extra_special_tokens=[USER, ASSISTANT],
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=256,
        padding_side="left",
    )


def _splitter() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence([pre_tokenizers.Metaspace(prepend_scheme="always"), pre_tokenizers.Punctuation()])
