"""The data set's card: YAML metadata and Markdown from a template."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pydantic import JsonValue

from curator.publish.record import WITHHELD
from curator.report.model import Report
from curator.wording import page, these, visible

if TYPE_CHECKING:
    from markupsafe import Markup

_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
BEGIN, END = "<!-- curator: begin -->", "<!-- curator: end -->"
"""The marks around the part of a card that curator writes. A push does not change the rest, which is its owner's."""
WARNING = (
    "The prompts ask for harmful things on purpose. The answers are meant to decline or to answer safely, but not all "
    "of them have been read. The set is for aligning language models and for research on alignment."
)
# What the Hub takes for a licence; any other is `other`, with a name. Source: hf.co/docs/hub/repositories-licenses.
_LICENCES = {
    "apache-2.0", "mit", "openrail", "bigscience-openrail-m", "creativeml-openrail-m", "bigscience-bloom-rail-1.0",
    "bigcode-openrail-m", "afl-3.0", "artistic-2.0", "bsl-1.0", "bsd", "bsd-2-clause", "bsd-3-clause",
    "bsd-3-clause-clear", "c-uda", "cc", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0",
    "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0",
    "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0",
    "cdla-sharing-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "wtfpl", "ecl-2.0", "epl-1.0", "epl-2.0",
    "etalab-2.0", "eupl-1.1", "eupl-1.2", "agpl-3.0", "gfdl", "gpl", "gpl-2.0", "gpl-3.0", "lgpl", "lgpl-2.1",
    "lgpl-3.0", "isc", "intel-research", "lppl-1.3c", "ms-pl", "mpl-2.0", "odc-by", "odbl", "osl-3.0", "postgresql",
    "ofl-1.1", "ncsa", "unlicense", "zlib", "pddl", "lgpl-lr", "deepfloyd-if-license", "llama2", "llama3",
    "llama3.1", "llama3.2", "llama3.3", "llama4", "gemma",
}  # fmt: skip


@dataclass(frozen=True)
class Config:
    """One config of the data set: its name, and where the files of each split are."""

    name: str
    splits: Mapping[str, str]


def card(
    rows: pa.Table,
    metadata: Mapping[str, JsonValue],
    *,
    report: Report,
    evidence: str,
    configs: Sequence[Config],
    every: pa.Table | None = None,
    omitted: Sequence[str] = (),
) -> str:
    """README.md of a data set: metadata, then the part that curator writes, between BEGIN and END.

    Args:
        rows: What `dataset_rows` gave.
        metadata: From `facts`.
        report: What may be published of the report.
        evidence: Markdown that curator wrote, inserted as it is.
        configs: Every config, the curated one first.
        every: Source and licence of the rows of all configs; null if there is one config.
        omitted: Arms that are not among the controls.
    """
    from markupsafe import Markup

    body = page(
        "publish",
        "card.md.j2",
        r=report,
        evidence=Markup(evidence),
        columns=rows.column_names,
        origins=origins(rows if every is None else every),
        configs=configs,
        omitted=omitted,
        row=_preformatted(json.dumps(_shape(rows), indent=1, ensure_ascii=True)),
        citation=_preformatted(_citation(report)),
        warning=WARNING,
        withheld=WITHHELD,
    )
    return between_marks(metadata, body)


def between_marks(metadata: Mapping[str, JsonValue], body: str) -> str:
    """A card with this metadata, whose body a later push of curator finds again."""
    return f"---\n{yaml_of(metadata)}---\n\n{BEGIN}\n{body}{END}\n"


def _shape(rows: pa.Table) -> dict[str, JsonValue]:
    """The first row, with the length of each text of its messages in its place: harmful ones stay in the data files."""
    first: dict[str, JsonValue] = rows.drop_columns("messages").slice(0, 1).to_pylist()[0]
    turns = rows["messages"][0].as_py()
    messages: list[JsonValue] = [
        {"role": turn["role"], "content": f"({these(len(turn['content']), 'character', 'characters')})"}
        for turn in turns
    ]
    return {"id": first["id"], "messages": messages, **first}


def _citation(report: Report) -> str:
    """BibTeX of the data set, in ASCII and without what ends a field."""
    title = re.sub(r"[^\w .,:+-]", "", visible(report.name), flags=re.ASCII).strip() or "data set"
    key = re.sub(r"\W+", "-", title.lower()).strip("-")
    version = report.provenance.versions.get("curator")
    made = "curator" + (f" {visible(version)}" if version else "")
    return (
        f"@misc{{{key},\n  title = {{{title}: {these(report.selection.k, 'conversation', 'conversations')} for safety "
        f"alignment}},\n"
        f"  note = {{Chosen and tested with {made}}}\n}}"
    )


def origins(rows: pa.Table) -> list[tuple[str, str | None, int]]:
    """Source, licence and number of rows, the most rows first."""
    counted = Counter(zip(rows["source"].to_pylist(), rows["licence"].to_pylist(), strict=True))
    return [(*origin, count) for origin, count in sorted(counted.items(), key=lambda item: (-item[1], str(item)))]


def facts(
    rows: pa.Table,
    *,
    name: str,
    configs: Sequence[Config],
    tags: Sequence[str] = (),
    every: pa.Table | None = None,
) -> dict[str, JsonValue]:
    """The card's metadata: what the Hub shows and searches, requires for access, and reads as data. `tags` are added to
    those of every card. The licence is that of `every` row of all configs; null if there is one config.
    """
    return {
        "pretty_name": name,
        **licence((rows if every is None else every)["licence"].to_pylist()),
        "task_categories": ["text-generation"],
        "size_categories": [size(rows.num_rows)],
        "tags": ["safety", "alignment", "fine-tuning", "data-selection", "curator", "not-for-all-audiences", *tags],
        "extra_gated_heading": "This data set holds harmful prompts",
        "extra_gated_prompt": WARNING,
        "extra_gated_fields": {"I use it for research on, or the training of, safer models": "checkbox"},
        "configs": [
            {
                "config_name": config.name,
                **({"default": True} if config is configs[0] else {}),
                "data_files": [{"split": split, "path": path} for split, path in config.splits.items()],
            }
            for config in configs
        ],
    }


def yaml_of(value: Mapping[str, Any], *, comments: bool = False) -> str:
    """YAML in ASCII, one line a value, which every reader takes the same way; with `comments` it keeps those that the
    value was read with.
    """
    from ruamel.yaml import YAML

    yaml = YAML(typ="rt" if comments else "safe")
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.allow_unicode = False
    yaml.width = 2**31  # folded text does not always come back as it was
    out = io.StringIO()
    yaml.dump(value, out)
    return out.getvalue()


def licence(licences: list[str | None]) -> dict[str, str]:
    """The licence in the form of the Hub: the one that all rows have, else `other` with a name.

    `other` also stands for a licence that is not known, and for one that the Hub does not know.
    """
    names = sorted({visible(name).lower() for name in licences if name})
    if len(names) == 1 and None not in licences and "" not in licences:
        if names[0] in _LICENCES:
            return {"license": names[0]}
        return {"license": "other", "license_name": re.sub(r"[^a-z0-9.]+", "-", names[0])[:60].strip("-") or "own"}
    return {"license": "other", "license_name": "several-see-below" if names else "unknown"}


def size(rows: int) -> str:
    """The Hub's size category."""
    return next((name for limit, name in _SIZES if rows < limit), "n>10M")


def _preformatted(text: str) -> Markup:
    """Text for a page, line by line, in which nothing is structure: not even the end of its own element."""
    from markupsafe import Markup, escape

    return Markup("<pre>\n{}</pre>").format(escape(text))
