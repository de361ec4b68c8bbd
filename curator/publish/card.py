"""The data set's card: YAML metadata and Markdown from a template."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from curator.wording import page, visible

_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
_NAME = re.compile(r"[a-z0-9][a-z0-9.+-]{0,60}")


def card(rows: pa.Table, *, report: Mapping[str, Any], evidence: str) -> str:
    """README.md of a data set.

    Args:
        rows: What `dataset_rows` gave.
        report: What may be published of the report.
        evidence: Markdown of ours, taken as it is.
    """
    from markupsafe import Markup

    origins = Counter(zip(rows["source"].to_pylist(), rows["licence"].to_pylist(), strict=True))
    body = page(
        "publish",
        "card.md.j2",
        r=report,
        evidence=Markup(evidence),
        columns=rows.column_names,
        origins=[(*origin, count) for origin, count in sorted(origins.items(), key=lambda item: (-item[1], str(item)))],
    )
    return f"---\n{metadata(rows, report=report)}---\n\n{body}"


def metadata(rows: pa.Table, *, report: Mapping[str, Any]) -> str:
    """The card's YAML, without its fences: what the Hub shows and searches, and which files are data."""
    from ruamel.yaml import YAML

    facts = {
        "pretty_name": report["name"],
        **licence(rows["licence"].to_pylist()),
        "task_categories": ["text-generation"],
        "size_categories": [size(rows.num_rows)],
        "tags": ["safety", "alignment", "fine-tuning", "data-selection", "curator", "not-for-all-audiences"],
        "configs": [
            {
                "config_name": "default",
                "default": True,
                "data_files": [{"split": "train", "path": "data/train-*.parquet"}],
            }
        ],
    }
    yaml = YAML(typ="safe")
    yaml.default_flow_style = False
    yaml.allow_unicode = False
    yaml.width = 2**31  # folded text does not always come back as it was
    out = io.StringIO()
    yaml.dump(facts, out)
    return out.getvalue()


def licence(found: list[str | None]) -> dict[str, str]:
    """The licence as the Hub wants it, from the rows' own: the one they all have, else `other`, with a name.

    `other` is also said where a row's licence is not known, and where the one licence is not a bare name.
    """
    names = sorted({visible(one).lower() for one in found if one})
    if len(names) == 1 and None not in found and "" not in found:
        if _NAME.fullmatch(names[0]):
            return {"license": names[0]}
        return {"license": "other", "license_name": re.sub(r"[^a-z0-9.]+", "-", names[0])[:60].strip("-") or "own"}
    return {"license": "other", "license_name": "several-see-below" if names else "unknown"}


def size(rows: int) -> str:
    """The Hub's size category."""
    return next((name for limit, name in _SIZES if rows < limit), "n>10M")
