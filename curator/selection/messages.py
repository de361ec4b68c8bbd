"""Errors about the limits of a set, with the recipe's keys in place of the arguments of `limits` and `solve`."""

from __future__ import annotations

import ast
import re

from curator.recipe.limits import CAPPED_BY
from curator.recipe.select import Select
from curator.selection.vulnerable import RESISTANT, VULNERABLE

# Argument of `solve` -> the recipe's key behind it, if its name differs.
_KEYS = {"budget": "select.budget_tokens", "costs": "select.budget_tokens"}

# How `limits` begins an error about one group, and tells of must-include rows of a group. A label is as Python writes
# it, and may hold any character.
_LABEL = r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_GROUP = re.compile(rf"quotas\[{_LABEL}\]: (.*)", re.DOTALL)
_INCLUDED = re.compile(rf"include: names ([\d,]+ rows?) of group {_LABEL}, whose max is ([\d,]+);.*", re.DOTALL)

# How `limits` names a cap on a kind of rows, and must-include rows of a kind.
_KIND = re.compile(rf"caps\['({RESISTANT}|{VULNERABLE})'\] \(at most ([\d,]+) rows? of one label\)")
_FORCED = re.compile(rf"of ({RESISTANT}|{VULNERABLE}) '\1', but the cap allows")


def in_words_of_the_recipe(error: str, section: Select) -> str:
    """An error of `limits` or `solve`, with the recipe's key in place of the argument that it names first."""
    for name, key in CAPPED_BY.items():
        error = error.replace(f"caps[{name!r}]", f"select.answers.{key}")
    if section.vulnerable is not None and section.quotas is not None:  # then all caps are on kinds of rows
        error = _KIND.sub(r"select.vulnerable (at most \2 of the rows that are \1)", error)
        error = _FORCED.sub(r"of those that are \1, but select.vulnerable allows", error)
        error = re.sub(r"raise the caps?\b", "change select.vulnerable", error)
        error = error.replace("because of quotas;", "because of select.vulnerable and quotas;")
        both = "select.vulnerable and exclude" if section.exclude else "select.vulnerable"
        error = error.replace("because of exclude;", f"because of {both};")
    elif section.vulnerable is not None and section.within is None:
        error = error.replace("because of quotas", "because of select.vulnerable")
        error = re.sub(r"^quotas: the minima", "vulnerable: share and top", error)
        error = error.replace("lower the minima", "change share or top")
    error = re.sub(r"raise the caps?\b", "raise select.answers (null switches a cap off)", error)
    included = _INCLUDED.fullmatch(error)
    if included and section.within is not None:
        return (
            f"select.include: names {included[1]} of {included[2]}, and within gives it {included[3]}; name fewer, or "
            "change within.shares"
        )
    if included and section.vulnerable is not None and section.quotas is None:
        return (
            f"select.include: names {included[1]} that are {ast.literal_eval(included[2])}, and vulnerable.share "
            f"allows {included[3]}; name fewer, or change it"
        )
    group = _GROUP.match(error)
    if group and section.vulnerable is not None and section.quotas is None and section.within is None:
        return f"select.vulnerable: of rows that are {ast.literal_eval(group[1])}, {group[2]}"
    if group and section.quotas is not None:
        label = ast.literal_eval(group[1])
        key = f".groups.{label}" if label in section.quotas.groups else ""
        return f"select.quotas{key}: of {section.quotas.by} {group[1]}, {group[2]}"
    argument, _, rest = error.partition(":")
    if argument == "quotas" and section.within is not None:
        rest = rest.replace("the minima need", "its strata need")
        return f"select.within:{rest.replace('lower the minima', 'name fewer groupings')}"
    return f"{_KEYS.get(argument, f'select.{argument}')}:{rest}"
