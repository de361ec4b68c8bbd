"""report.html: one self-contained page, made for a reader who has a minute. Nothing on it asks the network.

What comes from outside is text: autoescape is on, marks that turn the direction of writing are shown as U+FFFD, and a
content policy lets no script run but ours, known by its hash.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from curator import wording
from curator.report.examples import Example, Sample
from curator.report.plots import plots, styles_of
from curator.report.tables import MIX, label, tables

LONGEST_TEXT = 2000
"""Characters of a prompt or an answer that are shown."""


def webpage(
    report: Mapping[str, Any],
    figures: Mapping[str, Any],
    *,
    chosen: Sequence[Sample] = (),
    answers: Sequence[Example] = (),
) -> str:
    """The whole page.

    Args:
        report: From `report_dict`; keys that a newer or older report adds or lacks do not matter outside its core.
        figures: From `figures.figures`; a figure whose values are missing is left out.
        chosen: Rows of the curated set to be read, and `answers`: probes with what the models said. Both are shown
            only when the reader opens them.

    Raises:
        jinja2.TemplateError: The template names a value that it was not given, which is a mistake of ours.
    """
    return fill(
        "report.html.j2",
        r=report,
        primary=report["decision"]["primary"],
        styles=styles_of(report),
        tables=tables(report, figures),
        drawn=plots(report, figures),
        chosen=chosen,
        answers=answers,
        mix=MIX,
        label=label,
        tone={"durable": "good", "worse": "bad", "trade-off": "mixed"}.get(report["decision"]["outcome"], "open"),
        recipe=_recipe(report),
        explained=" and ".join(wording.percent(one) for one in figures.get("map", {}).get("explained", [])),
    )


def fill(template: str, **values: Any) -> str:
    """A page of ours: the template with these values, the style sheet, the script, and the policy that lets it run.

    Raises:
        jinja2.TemplateError: The template names a value that it was not given, which is a mistake of ours.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("curator", "report"),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = ("percent", "points", "reach", "probability", "at_least", "number", "duration", "rate")
    environment.filters.update({name: getattr(wording, name) for name in names}, prose=prose)
    script = _asset(environment, "report.js")
    policy = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    shell = {"style": _asset(environment, "report.css"), "script": script, "policy": policy}
    return environment.get_template(template).render(**values, **shell)


def prose(text: str) -> str:
    """Text line by line, its control and direction marks shown as U+FFFD, cut at LONGEST_TEXT characters."""
    cut = text[:LONGEST_TEXT]
    return "\n".join(wording.visible(line) for line in cut.splitlines()) + ("\u2026" if len(text) > len(cut) else "")


def _shown(value: Any) -> Any:
    from markupsafe import Markup

    if isinstance(value, Markup):
        return value
    if isinstance(value, float) or value is None:
        return wording.number(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, str) and "\n" in value:
        return value  # what keeps its lines has been through `prose`, or is ours
    return wording.visible(str(value))


def _asset(environment: Any, name: str) -> Any:
    """A file of ours that goes into the page as it is."""
    from markupsafe import Markup

    text, _, _ = environment.loader.get_source(environment, name)
    return Markup(text.strip())


def _recipe(report: Mapping[str, Any]) -> str:
    import json

    return prose_lines(json.dumps(report["provenance"].get("recipe", {}), indent=1, ensure_ascii=True))


def prose_lines(text: str) -> str:
    """Every line of a text of ours, whose strings are foreign, with its indentation."""
    lines = text.splitlines()
    return "\n".join(" " * (len(line) - len(line.lstrip())) + wording.visible(line) for line in lines)
