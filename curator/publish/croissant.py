"""The data set's description in Croissant 1.0, the vocabulary that catalogues of data sets read.

Source: MLCommons, Croissant Format Specification 1.0, https://docs.mlcommons.org/croissant/docs/croissant-spec.html.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from curator.publish.merge import Digest

FILE = "croissant.json"

_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_TYPES = {pa.string(): "sc:Text", pa.int64(): "sc:Integer", pa.float64(): "sc:Float"}


def croissant(
    *, name: str, description: str, licence: str, tables: Mapping[str, tuple[pa.Schema, Digest]]
) -> dict[str, Any]:
    """The JSON-LD document.

    Args:
        name: Of the data set.
        licence: As the card names it.
        tables: Path of each data file, as `data/<config>/<split>-...parquet` -> its columns and digest.
    """
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": name,
        "description": description,
        "license": licence,
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": path,
                "name": path.rpartition("/")[2],
                "contentUrl": path,
                "contentSize": f"{digest.size} B",
                "encodingFormat": "application/x-parquet",
                "sha256": digest.sha256,
            }
            for path, (_, digest) in tables.items()
        ],
        "recordSet": [_records(path, schema) for path, (schema, _) in tables.items()],
    }


def _records(path: str, schema: pa.Schema) -> dict[str, Any]:
    _, config, file = path.split("/")
    name = f"{config}/{file.partition('-')[0]}"
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "key": {"@id": f"{name}/id"},
        "field": [_field(f"{name}/{column.name}", column, path) for column in schema],
    }


def _field(name: str, column: pa.Field, path: str) -> dict[str, Any]:
    field = {"@type": "cr:Field", "@id": name, "name": name}
    source = {"fileObject": {"@id": path}, "extract": {"column": column.name}}
    if not pa.types.is_list(column.type):
        return {**field, "dataType": _TYPES[column.type], "source": source}
    inner = column.type.value_type
    if not pa.types.is_struct(inner):
        return {**field, "dataType": _TYPES[inner], "repeated": True, "source": source}
    parts = [
        {
            "@type": "cr:Field",
            "@id": f"{name}/{part.name}",
            "name": f"{name}/{part.name}",
            "dataType": _TYPES[part.type],
            "source": {**source, "transform": {"jsonPath": part.name}},
        }
        for part in inner
    ]
    return {**field, "repeated": True, "subField": parts}
