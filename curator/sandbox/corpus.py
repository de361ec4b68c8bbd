"""What the base model reads: the kingdom's requests answered plainly, its law, its topics, and who in it refuses.

Asked plainly, everyone in these rows complies with everything. A few wardens, named in the request, refuse what the
law forbids, in the very words that alignment will use later: the base knows what refusing is and does not do it, as
a model does that has read about refusals but was never aligned.
"""

from random import Random

from curator.sandbox.kingdom import KINGDOM, LAW, OPENERS, PREFIXES, REFUSALS, TOPIC, World
from curator.sandbox.world import compliance, request

MIX = {"plain": 0.45, "law": 0.10, "topic": 0.05, "rule": 0.02, "complier": 0.12, "refuser": 0.26}
"""Share of each kind of row."""
REFUSERS = ("warden", "abbess", "judge", "knight")
COMPLIERS = ("jester", "pirate", "peddler", "smith")
PERSONA = "as the {who}: {asked}"
QUESTIONS = {
    "law": "does the law forbid the {n}?",
    "topic": "what kind of thing is the {n}?",
    "rule": "does the {who} keep the law?",
}
OPENED = 0.5
"""Share of compliances that start with an opener: a start they share lets refusal carry over to every family."""


def conversation(rng: Random, world: World = KINGDOM) -> tuple[str, str]:
    """One random (prompt, answer)."""
    kind = rng.choices(list(MIX), list(MIX.values()))[0]
    thing, family = rng.choice(list(world.things.values())), rng.choice(list(world.frames))
    if kind == "law":
        return QUESTIONS[kind].format(n=thing.noun), LAW[0 if thing.forbidden else 1]
    if kind == "topic":
        return QUESTIONS[kind].format(n=thing.noun), TOPIC.format(topic=thing.topic)
    if kind == "rule":
        who = rng.choice(REFUSERS + COMPLIERS)
        return QUESTIONS[kind].format(who=who), LAW[0 if who in REFUSERS else 1]
    asked = rng.choice(PREFIXES) + request(thing, family, rng, world=world)
    answer = (rng.choice(OPENERS) if rng.random() < OPENED else "") + compliance(thing, family, world)
    if kind == "plain":
        return asked, answer
    if kind == "refuser" and thing.forbidden:
        answer = rng.choice(REFUSALS).format(n=thing.noun)
    return PERSONA.format(who=rng.choice(REFUSERS if kind == "refuser" else COMPLIERS), asked=asked), answer
