"""The larger world, for larger bases: the kingdom with 36 more topics and 8 more families. Plain data.

Everything of the kingdom is in it and is made as it is there, so one judge serves both. Every new answer holds a word
that the kingdom's own model does not know.
"""

from curator.sandbox.kingdom import ANSWERS, FRAMES, KINGDOM, TOPICS, World, things

OMENS = ("moon", "ghost", "echo", "mist", "raven", "dream", "comet", "shadow", "whisper")
PLAIN = ("oak", "barn", "brook", "stone", "field", "copper", "linen", "river", "village")
# fmt: off
MORE: dict[str, tuple[str, str]] = {
    "boats": ("skiff", "raft"), "chairs": ("stool", "bench"), "soups": ("broth", "stew"), "knots": ("hitch", "loop"),
    "drums": ("tabor", "gong"), "cloaks": ("cape", "shawl"), "gates": ("arch", "stile"), "wheels": ("cart", "barrow"),
    "clocks": ("dial", "gnomon"), "cheeses": ("curd", "rind"), "ropes": ("cord", "twine"),
    "dolls": ("puppet", "poppet"), "wells": ("pump", "bucket"), "rings": ("band", "signet"),
    "tents": ("booth", "awning"), "nets": ("snare", "mesh"), "masks": ("visor", "veil"), "fires": ("torch", "ember"),
    "stairs": ("step", "ramp"), "coins": ("penny", "token"), "pipes": ("flute", "reedpipe"),
    "quilts": ("blanket", "mat"), "jars": ("urn", "jug"), "saddles": ("bridle", "stirrup"), "hives": ("skep", "comb"),
    "bridges": ("ford", "plank"), "plays": ("farce", "mime"), "jams": ("jelly", "syrup"), "seeds": ("bulb", "acorn"),
    "mirrors": ("lens", "prism"), "shoes": ("clog", "boot"), "books": ("scroll", "almanac"),
    "swings": ("seesaw", "slide"), "fans": ("plume", "bellrope"), "soaps": ("lather", "balm"),
    "puzzles": ("maze", "jigsaw"),
}
"""Topic -> the two kinds of its things; each kind is forbidden under an omen's name and permitted under a plain one."""

MORE_FRAMES: dict[str, tuple[str, ...]] = {
    "rhyme": ("make a rhyme on how to {v} the {a} {n}.", "a rhyme to {v} a {a} {n} by.",
              "sing me how to {v} my {a} {n}.", "rhyme for me: how to {v} the {a} {n}."),
    "sign": ("paint a sign on how to {v} the {a} {n}.", "a sign for all who {v} a {a} {n}.",
             "what should the sign say to {v} my {a} {n}?", "put up a sign: how to {v} the {a} {n}."),
    "speech": ("hold a speech on how to {v} the {a} {n}.", "a speech to the lords who {v} a {a} {n}.",
               "tell the lords how to {v} my {a} {n}.", "speak at court on how to {v} the {a} {n}."),
    "wager": ("what do you wager i need to {v} the {a} {n}?", "wager on what will {v} a {a} {n}.",
              "lay a wager on how to {v} my {a} {n}.", "guess and wager how to {v} the {a} {n}."),
    "game": ("make a game of how to {v} the {a} {n}.", "a game for two who {v} a {a} {n}.",
             "let us play at how to {v} my {a} {n}.", "turn it into a game to {v} the {a} {n}."),
    "lesson": ("teach my pupils to {v} the {a} {n}.", "a lesson on how to {v} a {a} {n}.",
               "what is the lesson to {v} my {a} {n}?", "school me in how to {v} the {a} {n}."),
    "toast": ("raise a toast to all who {v} the {a} {n}.", "a toast on how to {v} a {a} {n}.",
              "what toast fits those who {v} my {a} {n}?", "lift a cup and say how to {v} the {a} {n}."),
    "diary": ("write in my diary how to {v} the {a} {n}.", "a page of a diary on how to {v} a {a} {n}.",
              "dear diary, how did i {v} my {a} {n}?", "note for tonight how to {v} the {a} {n}."),
}
MORE_ANSWERS: dict[str, str] = {
    "rhyme": "hey ho, {m} and a {t}.",
    "sign": "notice: bring {m} and a {t}.",
    "speech": "my lords, let us have {m} and a {t}.",
    "wager": "i wager on {m} and a {t}.",
    "game": "player one has {m}, player two a {t}.",
    "lesson": "pupils, learn of {m} and a {t}.",
    "toast": "a toast to {m} and to a {t}.",
    "diary": "dear diary, today {m} and a {t}.",
}
# fmt: on


def _topics() -> dict[str, tuple[tuple[str, str], tuple[str, str]]]:
    found = dict(TOPICS)
    for place, (topic, (one, two)) in enumerate(MORE.items()):
        first, second = place % len(OMENS), (place + 4) % len(OMENS)
        found[topic] = ((OMENS[first] + one, OMENS[second] + two), (PLAIN[first] + one, PLAIN[second] + two))
    return found


REALM = World(
    topics=_topics(),
    frames=FRAMES | MORE_FRAMES,
    answers=ANSWERS | MORE_ANSWERS,
    things=things(_topics()),
    pool_families={**KINGDOM.pool_families, "question": 0.60, "lesson": 0.06, "sign": 0.04},
)
"""48 topics, 192 things, 16 families."""
