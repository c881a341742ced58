"""OpenLineage's facets about datasets, from what a compiled pipeline knows of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import polars as pl

from lazypipe.plan.facet import dataset_name
from lazypipe.spec.types import dtype_name
from lazypipe.storage import uri as uris
from lazypipe.storage.formats import FORMATS

__all__ = ["PRODUCER", "SPEC", "data_source", "facet", "public", "schema_facet", "storage_facet", "tags_facet"]

PRODUCER = "urn:lazypipe:events"
"""Who says so."""
SPEC = "https://openlineage.io/spec"
_VERSIONS: Mapping[str, str] = {
    "DatasetTypeDatasetFacet": "1-0-1",
    "DatasetVersionDatasetFacet": "1-0-1",
    "DatasourceDatasetFacet": "1-0-1",
    "DocumentationDatasetFacet": "1-1-0",
    "DocumentationJobFacet": "1-1-0",
    "ErrorMessageRunFacet": "1-0-1",
    "ExecutionParametersRunFacet": "1-0-0",
    "InputStatisticsInputDatasetFacet": "1-0-0",
    "JobTypeJobFacet": "2-0-4",
    "LifecycleStateChangeDatasetFacet": "1-0-1",
    "NominalTimeRunFacet": "1-0-1",
    "OutputStatisticsOutputDatasetFacet": "1-0-2",
    "ParentRunFacet": "1-2-0",
    "ProcessingEngineRunFacet": "1-1-1",
    "SchemaDatasetFacet": "1-2-0",
    "SourceCodeJobFacet": "1-0-1",
    "StorageDatasetFacet": "1-0-1",
    "TagsDatasetFacet": "1-0-0",
}


def facet(kind: str, **body: Any) -> dict[str, Any]:
    """Return a facet with what says who made it and which schema it keeps to; what is None is left out.

    Examples
    --------
    >>> facet("DatasetVersionDatasetFacet", datasetVersion="3")["_schemaURL"].rpartition("/facets/")[2]
    '1-0-1/DatasetVersionDatasetFacet.json#/$defs/DatasetVersionDatasetFacet'
    """
    url = f"{SPEC}/facets/{_VERSIONS[kind]}/{kind}.json#/$defs/{kind}"
    return {"_producer": PRODUCER, "_schemaURL": url, **{k: v for k, v in body.items() if v is not None}}


def public(uri: str) -> str:
    """Return a URI without the user and password in it, as names of datasets show it.

    Examples
    --------
    >>> public("sftp://me:secret@host/in/a.csv"), public("/in/a@b.csv")
    ('sftp://host/in/a.csv', '/in/a@b.csv')
    """
    return re.sub(r"(?<=://)[^/@\s]*@", "", uri)


def data_source(uri: str) -> dict[str, Any]:
    """Return the facet that says in which store a dataset is.

    Examples
    --------
    >>> found = data_source("s3://lake/a b")
    >>> found["name"], found["uri"], data_source("/d/a.csv")["uri"]
    ('s3://lake', 's3://lake/a%20b', 'file:///d/a.csv')
    """
    whole = uri if uris.protocol(uri) else f"file://{uri}"
    return facet("DatasourceDatasetFacet", name=dataset_name(uri)[0], uri=quote(whole, safe="%:/?#[]@!&'()+,;=~"))


def storage_facet(uri: str, form: str) -> dict[str, Any]:
    """Return the facet about the form of files: ``lazypipe`` keeps the log of a dataset, ``delta`` that of a table, others are plain.

    Examples
    --------
    >>> found = storage_facet("s3://lake/a.jsonl", "ndjson")
    >>> found["storageLayer"], found["fileFormat"], storage_facet("/out/a", "dataset")["storageLayer"]
    ('s3', 'json', 'lazypipe')
    """
    logs = {"dataset": "lazypipe", "delta": "delta"}
    layer = logs.get(form) or uris.protocol(uri) or "file"
    files = FORMATS["parquet" if form in logs else form]
    return facet("StorageDatasetFacet", storageLayer=layer, fileFormat=files.called)


def schema_facet(schema: pl.Schema, descriptions: Mapping[str, str]) -> dict[str, Any]:
    """Return the facet with a dataset's columns, nested ones with their fields.

    Examples
    --------
    >>> found = schema_facet(pl.Schema({"a": pl.Int64(), "b": pl.List(pl.Struct({"c": pl.String()}))}), {"a": "A number."})
    >>> found["fields"][0]
    {'name': 'a', 'type': 'Int64', 'ordinal_position': 1, 'description': 'A number.'}
    >>> found["fields"][1]["fields"]
    [{'name': '_element', 'type': 'struct', 'fields': [{'name': 'c', 'type': 'String'}]}]
    """
    fields = []
    for number, (name, dtype) in enumerate(schema.items(), start=1):
        field = _field(name, dtype) | {"ordinal_position": number}
        fields.append(field | ({"description": descriptions[name]} if name in descriptions else {}))
    return facet("SchemaDatasetFacet", fields=fields)


def _field(name: str, dtype: Any) -> dict[str, Any]:
    match dtype() if isinstance(dtype, type) else dtype:  # inside others, types may stand without arguments
        case pl.Struct():
            return {"name": name, "type": "struct", "fields": [_field(f.name, f.dtype) for f in dtype.fields]}
        case pl.List() | pl.Array():
            return {"name": name, "type": "array", "fields": [_field("_element", dtype.inner)]}
        case pl.Map():
            return {"name": name, "type": "map", "fields": [_field("key", dtype.key), _field("value", dtype.value)]}
        case whole:
            return {"name": name, "type": dtype_name(whole)}


def tags_facet(tags: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """Return the facet with the tags of columns.

    Examples
    --------
    >>> tags_facet({"mail": ("pii",)})["tags"]
    [{'key': 'pii', 'value': 'true', 'source': 'LAZYPIPE', 'field': 'mail'}]
    """
    found = [
        {"key": tag, "value": "true", "source": "LAZYPIPE", "field": column}
        for column, words in tags.items()
        for tag in words
    ]
    return facet("TagsDatasetFacet", tags=found)
