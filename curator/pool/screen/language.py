"""The language of a text, by its script and its commonest small words: enough to tell that rows are of another one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import polars as pl

from curator.pool.screen import Finding, finding
from curator.pool.words import words
from curator.recipe.pool import Findings
from curator.records import Conversations
from curator.wording import these

DEFAULT = Findings()
FEW = 4
"""Words below which a text of Latin letters has no language."""

_COMMON: Mapping[str, frozenset[str]] = {
    language: frozenset(said.split())
    for language, said in {
        "en": "the of and to a in is i it that you for on with as are this be not can but your have do from or "
        "what how my an was would if they their will should there at by help about me which who cannot "
        "please sorry",
        "de": "der die das und ist nicht ich zu ein eine mit den von es auf für sich dem wie sie auch kann "
        "aber wir bei oder wenn nur noch nach wird sind mir mein du hat einen einer im am dass",
        "fr": "le la les de des et est un une je pas que en il pour dans ce qui sur ne vous avec plus du au "
        "par nous mais comment cette peut être ou sont elle mon votre aux ces",
        "es": "el la los las de que y en un una es no se por con para lo su como más pero puedo al del mi te "
        "está son le cómo qué me este esta o si hay ser tu",
        "it": "il la di che e un una non è per in con sono mi si come ma del della più le dei nel al questo "
        "questa lo gli anche ho se posso alla cosa ci da ti",
        "pt": "o a de que e do da em um uma para não é com os as no na por mais como se eu mas ao você seu sua "
        "isso posso dos das está são me ou ser",
        "nl": "de het een van en is niet ik dat in te op voor met zijn je aan er om als maar kan dit ook hoe "
        "wat bij naar mijn deze wordt heb of door",
        "pl": "nie to się w i na z że do jest jak co ale po za czy od tak mnie dla o przez może są ten jego ja "
        "jestem być",
        "tr": "bir ve bu da de için ile ne mi ben var çok ama nasıl olarak daha gibi en o kadar değil sen her şey",
        "id": "yang dan di ini itu untuk dengan tidak dari saya dalam akan pada anda bisa ke ada atau juga "
        "bagaimana adalah kami mereka sudah",
        "vi": "là và của không có tôi một cho được các những này trong với người để bạn như thế làm",
        "sv": "och det att i en jag är som på för inte med av till den har ett om kan hur men du var vi så",
    }.items()
}
_SCRIPTS = (
    ("\u0400", "\u04ff", "Cyrillic"),
    ("\u0370", "\u03ff", "Greek"),
    ("\u0590", "\u05ff", "Hebrew"),
    ("\u0600", "\u06ff", "Arabic"),
    ("\u0900", "\u097f", "Devanagari"),
    ("\u0980", "\u0dff", "South Asian"),
    ("\u0e00", "\u0e7f", "Thai"),
    ("\u3040", "\u30ff", "Japanese"),
    ("\uac00", "\ud7af", "Korean"),
    ("\u4e00", "\u9fff", "Chinese"),
)


def language(text: str) -> str | None:
    """A code of two letters for Latin script, a script's name otherwise, or null where nothing tells.

    Japanese is told from Chinese by its kana. Of two languages equally likely the first in the alphabet is named.
    """
    letters = Counter(_script(sign) for sign in text[:2000] if sign.isalpha())
    if letters["Japanese"]:
        letters["Japanese"] += letters.pop("Chinese", 0)
    total = sum(letters.values())
    if not total:
        return None
    script, count = max(letters.items(), key=lambda one: (one[1], one[0]))
    if script != "Latin":
        return script if count >= total / 2 else None
    said = words(text[:2000])
    if len(said) < FEW:
        return None
    hits = {name: sum(word in common for word in said) for name, common in _COMMON.items()}
    best = min(hits, key=lambda name: (-hits[name], name))
    return best if hits[best] >= max(1, 0.1 * len(said)) else None


def _script(sign: str) -> str:
    if sign < "\u0250" or "\u1e00" <= sign <= "\u1eff":
        return "Latin"
    return next((name for low, high, name in _SCRIPTS if low <= sign <= high), "other")


def languages(rows: pl.DataFrame, limits: Findings = DEFAULT) -> tuple[list[Finding], dict[str, int]]:
    """Rows that are not in the corpus's main language, and how many rows each language has (`unknown` among them)."""
    texts = (" ".join(turn["content"] for turn in messages) for messages in Conversations(rows))
    told = dict(zip(rows["id"], map(language, texts), strict=True))
    counts = Counter(one or "unknown" for one in told.values())
    known = [(name, count) for name, count in counts.most_common() if name != "unknown"]
    shown = dict(sorted(counts.items(), key=lambda one: (-one[1], one[0])))
    if len(known) < 2:
        return [], shown
    main = known[0][0]
    others = [one for one, name in told.items() if name not in (None, main)]
    share = len(others) / rows.height
    listed = ", ".join(f"{name} {count:,}" for name, count in known[1:6])
    what = f"{these(len(others), 'row is', 'rows are')} not in {main}, the language of most: {listed}."
    advice = "Check that the target model and the judges read these languages; their probes should be in them too."
    return [
        finding(
            "languages", "warning" if share >= limits.some else "info", others, rows.height, what=what, advice=advice
        )
    ], shown
