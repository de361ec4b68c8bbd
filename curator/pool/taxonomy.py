"""Hazards of safety data, each described in a few sentences, and the hazard nearest to a request.

The twelve hazards are those of MLCommons' AILuminate benchmark (arXiv 2503.05731); the descriptions are curator's own.
Everyday subjects without a hazard are described too, so that harmless requests can be recognised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curator.recipe.pool import UNSURE
from curator.wording import these

HAZARDS: dict[str, tuple[str, ...]] = {
    "violent crimes": (
        "A request to plan, carry out or get away with killing, assault, kidnapping, arson or terrorism.",
        "How to hurt, attack, stab, shoot or murder a person or a group of people.",
        "Cruelty to animals, or supporting a terrorist or extremist organisation.",
    ),
    "non-violent crimes": (
        "A request for help with theft, burglary, fraud, scams, forgery, tax evasion, bribery or money laundering.",
        "How to make, sell or smuggle illegal drugs, or to traffic goods or people.",
        "How to hack into computers, write malware or phishing messages, or steal passwords and identities.",
        "How to shoplift, pick locks, counterfeit money or documents, or commit insurance or credit card fraud.",
    ),
    "sex crimes": (
        "A request to commit rape, sexual assault, harassment, stalking for sex, or forced prostitution.",
        "How to drug or coerce somebody into sex, or to secretly film somebody undressing.",
    ),
    "child sexual exploitation": (
        "A request for sexual content about children or minors, or for grooming and abusing a child.",
        "How to meet underage children for sex or to share child sexual abuse material.",
    ),
    "indiscriminate weapons": (
        "A request to build or obtain chemical, biological, radiological or nuclear weapons that kill many people.",
        "How to make a bomb, explosives, nerve gas, or a dangerous virus or toxin.",
    ),
    "suicide and self-harm": (
        "A request for ways to kill or injure oneself, or encouragement of suicide.",
        "How to cut oneself, starve oneself, hide an eating disorder, or take an overdose.",
    ),
    "hate": (
        "A request for insults, slurs, jokes or propaganda against people for their race, religion, gender or origin.",
        "Text that demeans or dehumanises a group such as immigrants, women, Jews, Muslims, gay or disabled people.",
        "Discrimination against a minority, or stereotypes that present a group as inferior.",
    ),
    "privacy": (
        "A request for private information on a person, such as a home address, phone number, health or bank records.",
        "How to track, spy on, dox or identify somebody without consent, or read another person's messages.",
    ),
    "defamation": (
        "A request for false claims or rumours that ruin the reputation of a named real person or company.",
        "Fabricated news, conspiracy theories or disinformation about politicians, elections or public figures.",
    ),
    "intellectual property": (
        "A request to copy, pirate or plagiarise copyrighted books, songs, films or software.",
        "How to crack licences, download paid content for free, or sell counterfeit brand goods.",
    ),
    "specialised advice": (
        "A request for medical, legal or financial advice that a qualified professional should give.",
        "Which dose of medicine to take, how to treat a disease at home, or where to put all of one's savings.",
    ),
    "sexual content": (
        "A request for explicit erotic or pornographic stories, descriptions or role play between adults.",
        "Explicit sexual talk or an erotic chat.",
    ),
}
HARMLESS: tuple[str, ...] = (
    "An arithmetic word problem about numbers, prices, ages or distances.",
    "A database question to be answered by an SQL query over a table.",
    "A question about history, geography, science or sport, or about a given passage of text.",
    "A request to write, summarise, translate, edit or classify a harmless text, a poem or an e-mail.",
    "A question about cooking, recipes, travel, gardening, hobbies or everyday life.",
    "A question about writing code in Python, about an algorithm, or about software.",
    "A request for ideas, a list, advice on studying, work, fitness, friendship or a gift.",
    "An explanation of a concept in mathematics, physics, biology, economics or art.",
)


class Assigned(NamedTuple):
    """The nearest hazard of each of `n` requests.

    Attributes:
        names: Hazard names, in the order of HAZARDS.
        nearest: `(n,)` int64, the hazard's position in `names`.
        cosine: `(n,)` float64, to its nearest description, in [-1, 1].
        confidence: `(n,)` float64, `cosine` minus that of the next hazard, in [0, 2].
        harmless: `(n,)` float64, cosine to the nearest description of an everyday subject.
    """

    names: tuple[str, ...]
    nearest: NDArray[np.int64]
    cosine: NDArray[np.float64]
    confidence: NDArray[np.float64]
    harmless: NDArray[np.float64]


def descriptions() -> list[str]:
    """Every sentence, hazards first, in the order in which `assign` takes their vectors."""
    return [sentence for hazard in HAZARDS.values() for sentence in hazard] + list(HARMLESS)


def assign(vectors: NDArray[np.float32], described: NDArray[np.float32]) -> Assigned:
    """The nearest hazard of each request.

    Args:
        vectors: `(n, d)` unit rows of requests, without their answers.
        described: `(m, d)` unit rows of `descriptions()`.
    """
    products = (vectors @ described.T).astype(np.float64)
    names = tuple(HAZARDS)
    ends = np.cumsum([len(HAZARDS[name]) for name in names])
    best = np.stack([part.max(axis=1) for part in np.split(products[:, : ends[-1]], ends[:-1], axis=1)], axis=1)
    order = np.argsort(-best, axis=1, kind="stable")
    first = np.take_along_axis(best, order[:, :1], axis=1)[:, 0]
    second = np.take_along_axis(best, order[:, 1:2], axis=1)[:, 0]
    return Assigned(names, order[:, 0].astype(np.int64), first, first - second, products[:, ends[-1] :].max(axis=1))


def categorise(rows: pl.DataFrame, assigned: Assigned, *, least: float) -> pl.DataFrame:
    """One line per row: `id`, `category` (the data's own, else the nearest hazard's, null below `least`), `assigned`
    (whether the category is not the data's), `cosine` and `confidence` of the nearest hazard.
    """
    near = pl.Series("nearest", [assigned.names[hazard] for hazard in assigned.nearest], dtype=pl.String)
    return rows.select("id", "category").with_columns(
        pl.coalesce("category", pl.when(pl.Series(assigned.cosine) >= least).then(near)).alias("category"),
        pl.col("category").is_null().alias("assigned"),
        pl.Series("cosine", assigned.cosine),
        pl.Series("confidence", assigned.confidence),
    )


def sureness(hazards: pl.DataFrame) -> str:
    """A sentence with the number of rows that got a category, of unsure ones among them, and of rows without a
    category.

    Args:
        hazards: The result of `categorise`.
    """
    named = hazards.filter(hazards["assigned"] & hazards["category"].is_not_null())
    doubtful, without = int((named["confidence"] <= UNSURE).sum()), hazards["category"].null_count()
    share = ""
    if named.height:
        share = f", {doubtful / named.height:.0%} of them unsure ({UNSURE:g} or less in cosine above the next)"
    return (
        f"{these(named.height, 'row', 'rows')} got the category of the nearest hazard{share}; "
        f"{these(without, 'row has', 'rows have')} no category"
    )


def not_harmful(assigned: Assigned, *, margin: float) -> NDArray[np.bool_]:
    """Mask of requests that are nearer to an everyday subject than to any hazard, by `margin` in cosine: a signal, not
    a verdict.

    With all-MiniLM-L6-v2 it marks up to 1.3% of public harmful probes (advbench, strongreject, jailbreakbench,
    simple-safety-tests, harmbench), 97 to 100% of arithmetic and SQL requests, and 41% of general instructions.
    """
    clear: NDArray[np.bool_] = assigned.harmless >= assigned.cosine + margin
    return clear


def unassigned(categories: Sequence[str | None]) -> float:
    """Share of rows without a category, in [0, 1]."""
    return sum(category is None for category in categories) / len(categories) if categories else 0.0
