"""Column lineage as OpenLineage's facet (ColumnLineageDatasetFacet 1-2-0)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lazypipe.plan.lineage import Column, ColumnLineage, Flow, Flows

__all__ = ["COLUMN_LINEAGE_SCHEMA", "column_lineage_facet", "dataset_name"]

COLUMN_LINEAGE_SCHEMA = (
    "https://openlineage.io/spec/facets/1-2-0/ColumnLineageDatasetFacet.json#/$defs/ColumnLineageDatasetFacet"
)
PRODUCER = "urn:lazypipe:lineage"


def dataset_name(uri: str) -> tuple[str, str]:
    """Return OpenLineage's namespace and name of a URI.

    Examples
    --------
    >>> dataset_name("s3://bucket/a/b.parquet"), dataset_name("/data/a.csv")
    (('s3://bucket', 'a/b.parquet'), ('file', '/data/a.csv'))
    """
    match = re.match(r"([A-Za-z][\w+.-]+://[^/]*)/*(.*)", uri)
    if match is None or match[1].lower() == "file://":
        return "file", uri if match is None else "/" + match[2]
    return match[1], match[2] or "/"


def column_lineage_facet(
    lineage: ColumnLineage, uris: Mapping[str, Sequence[str]], *, producer: str = PRODUCER
) -> dict[str, Any]:
    """Return the facet of a dataset whose lineage is given, over inputs whose URIs are given; without any, their names.

    Examples
    --------
    >>> lineage = ColumnLineage("b", {"y": {Flow(Column("a", "x"), "IDENTITY"): ""}}, {}, {"y": "x"}, ("a",))
    >>> facet = column_lineage_facet(lineage, {"a": ["s3://lake/a"]})
    >>> facet["fields"]["y"]["inputFields"][0]["namespace"]
    's3://lake'
    """
    return {
        "_producer": producer,
        "_schemaURL": COLUMN_LINEAGE_SCHEMA,
        "fields": {
            column: {"inputFields": _fields(flows, lineage.texts.get(column, ""), uris)}
            for column, flows in lineage.columns.items()
        },
        "dataset": _fields(lineage.dataset, "", uris),
    }


def _fields(flows: Flows, text: str, uris: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    grouped: dict[Column, list[tuple[Flow, str]]] = {}
    for flow, said in flows.items():
        grouped.setdefault(flow.source, []).append((flow, text if flow.direct else said))
    found = []
    for column, pairs in grouped.items():
        transformations = [
            {
                "type": "DIRECT" if flow.direct else "INDIRECT",
                "subtype": flow.subtype,
                "description": said,
                "masking": flow.masking,
            }
            for flow, said in pairs
        ]
        for uri in uris.get(column.dataset) or (column.dataset,):
            namespace, name = dataset_name(uri)
            found.append(
                {"namespace": namespace, "name": name, "field": column.name, "transformations": transformations}
            )
    return found
