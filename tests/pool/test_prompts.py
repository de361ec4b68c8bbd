from __future__ import annotations

from curator.pool.words import prompt_id, prompt_ids


def test_what_a_conversation_asks_is_each_turn_alone_and_with_what_went_before() -> None:
    law, one, two = ({"role": role, "content": role} for role in ("system", "user", "assistant"))
    again = {"role": "user", "content": "again"}
    assert prompt_id([law, one, two]) == prompt_id([one]) == prompt_id([law, one])
    assert prompt_ids([law, one, two, again, two]) == {
        prompt_id([one]),
        prompt_id([again]),
        prompt_id([one, two, again]),
    }
