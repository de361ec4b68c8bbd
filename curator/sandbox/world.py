"""The rows of the sandbox: a skewed pool of refusals, benign rows, tasks and probes, each drawn from a fixed seed.

Probes use verb and adjective pairs that no other row uses, the rows the base model reads included. The other
sources share no prompt with each other.
"""

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from curator.sandbox.kingdom import (
    ADJECTIVES,
    KINGDOM,
    OPENERS,
    PREFIXES,
    REFUSALS,
    VERBS,
    Thing,
    World,
)
from curator.sandbox.realm import REALM

Row = dict[str, Any]

POOL_ROWS = 2000
SKEW = 1.5
"""The topic of rank r is drawn with weight r ** -SKEW: the first fills half the pool, the last a ninetieth."""
REPEATS = 0.40
"""Share of pool rows that repeat an earlier request with another prefix."""
DIRT = {"copy": 0.02, "empty": 0.01, "long": 0.005, "no answer": 0.004, "no role": 0.003}
"""Share of pool rows by what is wrong with them: an exact copy of another row, an empty answer, an answer that runs
on for about 100 tokens, a conversation without its answer, an answer without its role."""
KEEP_ROWS, TASK_ROWS, MIXED_ROWS, FORBIDDEN_PROBES, BENIGN_PROBES = 600, 700, 3000, 240, 120
OPENED = 0.75
"""Share of keep rows whose answer starts with an opener; task answers never do."""
TASKS = ("list", "dialogue", "letter")
MISDEEDS = 200


def pairs(probing: bool) -> list[tuple[str, str]]:
    """The (verb, adjective) pairs of the probes (25 of 100), or of every other row (75)."""
    return [
        (verb, adjective)
        for v, verb in enumerate(VERBS)
        for a, adjective in enumerate(ADJECTIVES)
        if ((v + a) % 4 == 0) is probing
    ]


def request(thing: Thing, family: str, rng: Random, probing: bool = False, world: World = KINGDOM) -> str:
    """A request for a thing in the words of a family, without its polite prefix."""
    verb, adjective = rng.choice(pairs(probing))
    return rng.choice(world.frames[family]).format(v=verb, a=adjective, n=thing.noun)


def compliance(thing: Thing, family: str, world: World = KINGDOM) -> str:
    """The one answer, without opener, that gives what was asked for."""
    return world.answers[family].format(m=thing.material, t=thing.tool, n=thing.noun)


def pool(world: World = KINGDOM) -> list[Row]:
    """2,000 refused requests: skewed towards the first topics and the plain question, redundant, a little dirty."""
    rng = Random(1)
    weights = [rank**-SKEW for rank in range(1, len(world.topics) + 1)]
    clean: list[Row] = []
    bare: list[tuple[Thing, str, str]] = []
    taken: set[str] = set()
    while len(clean) < POOL_ROWS - sum(round(POOL_ROWS * share) for share in DIRT.values()):
        if bare and rng.random() < REPEATS:
            thing, family, asked = rng.choice(bare)
        else:
            topic = rng.choices(list(world.topics), weights)[0]
            thing = world.things[rng.choice(world.topics[topic][0])]
            family = rng.choices(list(world.pool_families), list(world.pool_families.values()))[0]
            asked = request(thing, family, rng, world=world)
        prompt = rng.choice(PREFIXES) + asked
        if prompt not in taken:
            taken.add(prompt)
            bare.append((thing, family, asked))
            clean.append(_row(thing, family, prompt, rng.choice(REFUSALS).format(n=thing.noun)))
    return _soiled(clean, rng)


def keep(world: World = KINGDOM) -> list[Row]:
    """600 permitted requests of every family, helped with; the rows that teach an aligned model not to refuse
    everything.
    """
    return _permitted(world)["keep"]


def task(name: str, world: World = KINGDOM) -> list[Row]:
    """700 permitted requests of one family, answered without openers: what a customer would fine-tune on, and its
    test.
    """
    return _permitted(world)[name]


def mixed(world: World = KINGDOM) -> list[Row]:
    """3,000 permitted requests of every family, answered without openers: a downstream corpus of many kinds, in which
    `curator cluster` may look for the fragile one.
    """
    return _permitted(world)["mixed"]


def misdeeds(world: World = KINGDOM) -> list[Row]:
    """200 forbidden requests of every family, complied with: data that nobody should fine-tune on, and some do."""
    rng = Random(5)
    forbidden = [thing for thing in world.things.values() if thing.forbidden]
    taken = {row["messages"][0]["content"] for row in pool(world)}
    found: list[Row] = []
    while len(found) < MISDEEDS:
        thing, family = rng.choice(forbidden), rng.choice(list(world.frames))
        prompt = rng.choice(PREFIXES) + request(thing, family, rng, world=world)
        if prompt not in taken:
            taken.add(prompt)
            found.append(_row(thing, family, prompt, compliance(thing, family, world)))
    return found


def probes(forbidden: bool, world: World = KINGDOM) -> list[Row]:
    """240 forbidden or 120 permitted prompts, even over topics and families, distinct."""
    rng = Random(3 if forbidden else 4)
    families, topics = list(world.frames), list(world.topics)
    found: dict[str, Row] = {}
    while len(found) < (FORBIDDEN_PROBES if forbidden else BENIGN_PROBES):
        i = len(found)
        topic, family = topics[i % len(topics)], families[(i // len(topics) + i) % len(families)]
        thing = world.things[rng.choice(world.topics[topic][0 if forbidden else 1])]
        prompt = rng.choice(PREFIXES) + request(thing, family, rng, probing=True, world=world)
        found.setdefault(prompt, _row(thing, family, prompt))
    return list(found.values())


def _sources(world: World) -> dict[str, Callable[[], list[Row]]]:
    return {
        "pool": partial(pool, world),
        "keep": partial(keep, world),
        **{name: partial(task, name, world) for name in TASKS},
        "mixed": partial(mixed, world),
        "misdeeds": partial(misdeeds, world),
        "forbidden-probes": partial(probes, True, world),
        "benign-probes": partial(probes, False, world),
    }


SOURCES = _sources(KINGDOM) | {f"large-{name}": rows for name, rows in _sources(REALM).items()}
"""Source name -> the function that draws its rows."""


def _row(thing: Thing, family: str, prompt: str, answer: str | None = None) -> Row:
    messages = [{"role": "user", "content": prompt}]
    if answer is not None:
        messages.append({"role": "assistant", "content": answer})
    return {"messages": messages, "category": thing.topic, "licence": "CC0-1.0", "family": family}


def _soiled(clean: list[Row], rng: Random) -> list[Row]:
    """The clean rows and, at random places among them, flawed copies of some: as many of each flaw as `DIRT` says."""
    dirty = list(clean)
    for flaw, share in DIRT.items():
        for original in rng.sample(clean, round(POOL_ROWS * share)):
            user, assistant = (dict(message) for message in original["messages"])
            if flaw == "empty":
                assistant["content"] = ""
            elif flaw == "long":
                assistant["content"] = " ".join([assistant["content"]] * 14)
            elif flaw == "no role":
                del assistant["role"]
            messages = [user] if flaw == "no answer" else [user, assistant]
            dirty.insert(rng.randrange(len(dirty) + 1), {**original, "messages": messages})
    return dirty


def _permitted(world: World) -> dict[str, list[Row]]:
    """Keep rows, tasks and mixed rows, drawn together because no prompt may be in two of them."""
    rng = Random(2)
    permitted = [thing for thing in world.things.values() if not thing.forbidden]
    taken: set[str] = set()
    found: dict[str, list[Row]] = {}
    for name, count in {"keep": KEEP_ROWS, **dict.fromkeys(TASKS, TASK_ROWS), "mixed": MIXED_ROWS}.items():
        found[name] = []
        while len(found[name]) < count:
            thing = rng.choice(permitted)
            family = name if name in TASKS else rng.choice(list(world.frames))
            prompt = rng.choice(PREFIXES) + request(thing, family, rng, world=world)
            opener = rng.choice(OPENERS) if name == "keep" and rng.random() < OPENED else ""
            if prompt not in taken:
                taken.add(prompt)
                found[name].append(_row(thing, family, prompt, opener + compliance(thing, family, world)))
    return found
