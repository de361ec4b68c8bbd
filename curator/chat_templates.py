"""Chat templates by name, for base models, which bring none.

Each writes the end token after every answer, and a prompt that is a prefix of the whole conversation.
"""

TEMPLATES = {
    # https://github.com/meta-llama/llama/blob/main/llama/generation.py (chat_completion), system turn included
    "llama-2": (
        "{% if messages[0]['role'] == 'system' %}"
        "{% set system = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' %}"
        "{% set turns = messages[1:] %}{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
        "{% for m in turns %}{% if m['role'] == 'user' %}"
        "{{ (bos_token or '') + '[INST] ' + (system if loop.index0 == 0 else '') + m['content'] + ' [/INST]' }}"
        "{% else %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
    ),
    # https://github.com/openai/openai-python/blob/release-v0.28.0/chatml.md, with the model's own end token
    "chatml": (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] }}"
        "{% if m['role'] == 'assistant' %}{{ eos_token }}{% else %}{{ '<|im_end|>' }}{% endif %}{{ '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    ),
    # Neutral words, for a base model whose tokenizer has no tokens of its own for turns
    "plain": (
        "{{ bos_token or '' }}{% for m in messages %}"
        "{% if m['role'] == 'user' %}{{ '### Instruction:\\n' + m['content'] + '\\n\\n### Response:\\n' }}"
        "{% elif m['role'] == 'system' %}{{ m['content'] + '\\n\\n' }}"
        "{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
    ),
}
